from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.export import TrainableNetwork, export_winners
from aznas_onnx.export.card import model_card
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.searching import Budget, Limit, Study, search
from tests.searching.fakes import FakeScorer

FILES = ["README.md", "genotype.txt", "model.onnx", "scores.json", "weights.pt"]


class LengthScorer(FakeScorer):
    """Scores a genotype of any space by its text alone."""

    def score(self, genotype: str) -> ProxyScores:
        proxies = {
            "expressivity": ProxyValue(mean=float(sum(map(ord, genotype))), stderr=0.25),
            "progressivity": ProxyValue(mean=None, reason="two blocks or more are needed"),
        }
        return ProxyScores(model=genotype, status=Status.OK, proxies=proxies)


@pytest.fixture(scope="module")
def study() -> Study:
    budget = Budget(macs=Limit(None, 30_000_000))
    options = {"resolution": 16, "num_classes": 7}
    return search("nb201", budget, iterations=6, space_options=options, scorer=LengthScorer())


def test_each_candidate_gets_a_folder_with_everything(study: Study, tmp_path: Path) -> None:
    exported = export_winners(study, study.best(2), tmp_path / "winners")
    assert [one.folder.parent for one in exported] == [tmp_path / "winners"] * 2
    for one, candidate in zip(exported, study.best(2), strict=True):
        assert one.folder.name == f"{candidate.rank}-trial-{candidate.trial.number}"
        assert sorted(file.name for file in one.folder.iterdir()) == FILES
        assert (one.folder / "genotype.txt").read_text() == f"{candidate.trial.genotype}\n"
        assert one.relative_difference < 1e-5


def test_onnx_and_state_dict_are_the_same_network(study: Study, tmp_path: Path) -> None:
    (one,) = export_winners(study, study.best(), tmp_path)
    onnx.checker.check_model(one.folder / "model.onnx", full_check=True)
    network = TrainableNetwork(one.folder / "model.onnx")
    state = torch.load(one.folder / "weights.pt", weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    network.load_state_dict(state)
    samples = np.random.default_rng(0).normal(size=(5, 3, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(one.folder / "model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: samples})
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(samples)).numpy()
    assert found.shape == (5, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert sum(parameter.numel() for parameter in network.parameters()) == one.candidate.trial.cost.params


def test_the_loader_on_the_card_works(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = export_winners(study, study.best(), tmp_path)
    card = (one.folder / "README.md").read_text()
    loader = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(one.folder)
    names: dict[str, object] = {}
    exec(loader, names)
    assert isinstance(names["network"], torch.nn.Module)


def test_scores_are_complete(study: Study, tmp_path: Path) -> None:
    (one,) = export_winners(study, study.best(), tmp_path, seed=3)
    document = json.loads((one.folder / "scores.json").read_text())
    trial = one.candidate.trial
    assert document["schema"] == "aznas.winner/1"
    assert document["genotype"] == trial.genotype
    assert document["macs"] == trial.cost.macs
    assert document["paper_flops"] == trial.cost.macs + 7
    assert document["proxies"]["progressivity"] == {
        "mean": None,
        "stderr": None,
        "reason": "two blocks or more are needed",
    }
    assert document["weights_seed"] == 3
    assert document["settings"] == study.settings.as_json()


def test_the_card_describes_the_network_completely(study: Study) -> None:
    space, best = study.space(), study.best()[0]
    model = space.build(space.parse(best.trial.genotype))
    card = model_card(study, best, model=model, space=space, seed=0, relative_difference=2e-7)
    for line in (
        "It is not trained",
        study.best()[0].trial.genotype,
        "| progressivity | none: two blocks or more are needed |",
        "± 0.25",
        "| space | nb201 (resolution 16, num_classes 7) |",
        "| budget | MACs at most 30M |",
        "differ by 2.0e-07",
        "| Input | float32, batch x 3 x 16 x 16 |",
        "| Output | float32, batch x 7: logits of the classes |",
        "| strategy | evolution, top-k 16, seed 0 |",
    ):
        assert line in card


def test_an_export_can_be_repeated(study: Study, tmp_path: Path) -> None:
    (one,) = export_winners(study, study.best(), tmp_path)
    before = (one.folder / "model.onnx").read_bytes()
    (again,) = export_winners(study, study.best(), tmp_path)
    assert (again.folder / "model.onnx").read_bytes() == before
    (other,) = export_winners(study, study.best(), tmp_path, seed=1)
    assert (other.folder / "model.onnx").read_bytes() != before


def test_a_folder_that_cannot_be_written_is_a_sentence(study: Study, tmp_path: Path) -> None:
    (tmp_path / "winners").write_text("a file")
    with pytest.raises(SettingsError, match="cannot be written"):
        export_winners(study, study.best(), tmp_path / "winners")


def test_a_network_that_torch_computes_otherwise_is_not_written(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TrainableNetwork.forward
    monkeypatch.setattr(TrainableNetwork, "forward", lambda self, x: forward(self, x) * 1.01)
    with pytest.raises(ModelError, match=r"torch and ONNX Runtime differ by 1\.0e-02"):
        export_winners(study, study.best(), tmp_path / "winners")
    assert not (tmp_path / "winners").exists()


@pytest.mark.parametrize(
    "space", ["mbv2", "autoformer-tiny", "nb-macro", "mnasnet", "darts", "transnas-micro", "bert", "gpt"]
)
def test_other_bundled_spaces_can_be_exported(space: str, tmp_path: Path) -> None:
    options = {"resolution": 32, "num_classes": 10}
    found = search(space, iterations=1, space_options=options, scorer=LengthScorer())
    (one,) = export_winners(found, found.best(), tmp_path)
    assert one.relative_difference < 1e-4


def test_a_space_of_ones_own_can_be_exported(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "own_space.py"
    path.write_bytes((repository / "examples" / "resnet_space.py").read_bytes())
    search(path, iterations=3, db=tmp_path / "run.db", scorer=LengthScorer())
    found = Study.open(tmp_path / "run.db")
    (one,) = export_winners(found, found.best(), tmp_path)
    assert one.relative_difference < 1e-4
    path.write_text(f"{path.read_text()}\n# changed\n")
    with pytest.raises(SettingsError, match="has changed since the study was made"):
        found.space()
