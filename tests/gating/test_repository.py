"""A repository with a shipped model and a policy, and what real exporters make of candidates."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import onnx
import pytest
import torch

from aznas_onnx.cli.main import run
from benchmarks.gate_networks import Damage, perturb, resnet

pytestmark = pytest.mark.slow

POLICY = """
[gate]
baseline = "shipped.onnx"
max-macs = "{macs}"
max-latency-ratio = 50
"""


def network(damage: Damage = Damage.NONE, width: int = 16) -> torch.nn.Module:
    built = resnet(damage, (width, 2 * width, 4 * width), (2, 2, 2))
    perturb(built, seed=1)
    return built.eval()


def export(built: torch.nn.Module, path: Path, *, dynamo: bool = False) -> None:
    options = {"dynamo": True} if dynamo else {"dynamo": False, "opset_version": 17}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(built, (torch.randn(1, 3, 32, 32),), str(path), verbose=False, **options)


@pytest.fixture(scope="module")
def repository_of_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aznas_onnx import inspect

    folder = tmp_path_factory.mktemp("repository")
    (folder / ".git").mkdir()
    export(network(), folder / "shipped.onnx")
    macs = inspect(folder / "shipped.onnx").costs.macs
    (folder / "aznas.toml").write_text(POLICY.format(macs=round(1.2 * macs)), encoding="utf-8")
    return folder


def decide(
    folder: Path, candidate: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    monkeypatch.chdir(folder)
    status = run(["gate", candidate, "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    return status, document["reasons"]


def test_the_same_network_by_another_exporter_passes(
    repository_of_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(network(), repository_of_models / "candidate.onnx", dynamo=True)
    assert decide(repository_of_models, "candidate.onnx", monkeypatch, capsys) == (0, [])


def test_the_same_network_through_onnxslim_passes(
    repository_of_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxslim

    slim = onnxslim.slim(onnx.load(repository_of_models / "shipped.onnx"))
    onnx.save(slim, repository_of_models / "candidate.onnx")
    assert decide(repository_of_models, "candidate.onnx", monkeypatch, capsys) == (0, [])


@pytest.mark.parametrize(
    ("damage", "width", "begins", "names"),
    [
        (Damage.HALF_WIDTH, 16, "signal score ", "MACs -6"),
        (Damage.HALF_DEPTH, 16, "signal score ", "expressivity -"),
        (Damage.NO_SKIPS, 16, "skip connections are missing: the shortest path takes 14 of 14 layers", "shipped.onnx"),
        (Damage.DEAD_BRANCH, 16, "block ", "puts out what it gets: whatever it computes is lost"),
        (Damage.DEAD_BLOCK, 16, "the features of block ", "are constant: no expressivity"),
        (Damage.NONE, 24, "", "MACs, over the budget of "),
    ],
    ids=["half width", "half depth", "no skips", "dead branch", "dead block", "over budget"],
)
def test_a_worse_network_is_rejected_for_a_reason_of_one_line(
    damage: Damage,
    width: int,
    begins: str,
    names: str,
    repository_of_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export(network(damage, width), repository_of_models / "candidate.onnx")
    status, reasons = decide(repository_of_models, "candidate.onnx", monkeypatch, capsys)
    assert status == 1
    assert reasons[0].startswith(begins)
    assert names in reasons[0]
    assert "\n" not in reasons[0]
