from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.ranking import rank
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.searching import Budget, Limit, Progress, Study, StudyError, search
from aznas_onnx.searching.identity import Identity
from aznas_onnx.searching.scorer import ModelScorer
from aznas_onnx.searching.search import default_top_k
from tests.searching.fakes import DigitSpace, FakeScorer, PaperDigits, UnorderedDigits


def searched(**changes: Any) -> Study:
    arguments = {"space": DigitSpace(), "iterations": 120, "top_k": 16, "scorer": FakeScorer()}
    return search(**{**arguments, **changes})


def test_it_scores_the_given_number_each_once() -> None:
    study = searched()
    assert [trial.number for trial in study.trials] == list(range(120))
    assert len({trial.genotype for trial in study.trials}) == 120
    assert study.stopped is None


def test_it_follows_from_its_arguments() -> None:
    assert searched().trials == searched().trials
    assert searched().trials != searched(seed=1).trials


def test_a_file_changes_nothing(tmp_path: Path) -> None:
    study = searched(db=tmp_path / "run.db")
    assert study.trials == searched().trials
    assert Study.open(tmp_path / "run.db").trials == study.trials
    assert [file.name for file in tmp_path.iterdir()] == ["run.db"]  # the side files of SQLite are gone


def test_a_resumed_search_is_one_search(tmp_path: Path) -> None:
    for iterations in (1, 7, 12, 40, 120):
        study = searched(iterations=iterations, db=tmp_path / "run.db", resume=True)
        assert len(study.trials) == iterations
    assert study.trials == searched().trials


def test_evolution_beats_random_search() -> None:
    evolved, sampled = searched(iterations=300), searched(iterations=300, strategy="random")
    together = rank([scores(trial) for trial in (*evolved.trials, *sampled.trials)])
    assert together.order[0] < 300
    assert sum(index < 300 for index in together.order[:30]) > 20


def scores(trial: Any) -> ProxyScores:
    return ProxyScores(model=trial.genotype, status=trial.status, proxies=trial.proxies)


def test_the_papers_flops_become_the_complexity() -> None:
    study = searched(space=PaperDigits(), count="paper", budget=Budget(macs=Limit(20_000, 50_000)))
    for trial in study.trials:
        assert trial.proxies["macs"].mean == trial.cost.paper_flops
        assert trial.cost.paper_flops is not None
        assert 20_000 <= trial.cost.paper_flops <= 50_000


def test_candidates_that_fail_are_kept_but_not_ranked() -> None:
    study = searched(scorer=FakeScorer(failing="7"))
    failed = [trial for trial in study.trials if trial.status is Status.FAILED]
    assert failed
    assert {trial.reason for trial in failed} == {"ValueError: this one fails"}
    assert len(study.best(1000)) == 120 - len(failed)
    assert len(study.trials) == 120


def test_a_search_in_which_everything_fails_ends_soon(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="the first 10 candidates all failed to score; the last one: ValueError: this"):
        searched(scorer=FakeScorer(failing=""), db=tmp_path / "run.db")
    assert len(Study.open(tmp_path / "run.db").trials) == 10


@pytest.mark.parametrize("changes", [{"iterations": 3}, {"space": DigitSpace(length=1), "max_tries": 1}])
def test_a_short_search_in_which_everything_fails_names_no_winner(changes: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"none of \d candidates could be scored; the last one: ValueError: this one"):
        searched(scorer=FakeScorer(failing=""), **changes)


def test_a_budget_that_admits_nothing_ends_the_search() -> None:
    with pytest.raises(StudyError, match="finds nothing to score: no new candidate of digits in 50 tries"):
        searched(budget=Budget(macs=Limit(73_000)), max_tries=50)


def test_a_space_that_is_used_up_ends_the_search_with_what_there_is() -> None:
    study = searched(space=DigitSpace(length=1), max_tries=500)
    assert len(study.trials) == 10
    assert study.stopped == (
        "no new candidate of digits in 500 tries: 500 were genotypes that are scored already, so few or none are left"
    )


def test_what_is_left_within_a_budget() -> None:
    study = searched(space=DigitSpace(length=1), max_tries=500, budget=Budget(macs=Limit(None, 4000)))
    assert len(study.trials) == 5
    assert study.stopped is not None
    assert study.stopped.endswith("were genotypes that are scored already, so few or none are left within the budget")


def test_a_network_is_scored_once() -> None:
    space = UnorderedDigits(length=3)
    study = searched(space=space, iterations=200)
    networks = [space.canonical(space.parse(trial.genotype)) for trial in study.trials]
    assert len(set(networks)) == len(networks) == 200  # of 220
    assert study.settings.identity is Identity.NETWORK
    assert searched().settings.identity is Identity.GENOTYPE


def test_a_search_by_network_is_resumed_as_one_search(tmp_path: Path) -> None:
    space = UnorderedDigits(length=3)
    for iterations in (1, 12, 60, 150):
        study = searched(space=space, iterations=iterations, db=tmp_path / "run.db", resume=True)
    assert study.trials == searched(space=space, iterations=150).trials
    assert Study.open(tmp_path / "run.db").settings.identity is Identity.NETWORK


def test_a_study_from_before_networks_were_compared_goes_on_by_genotype(tmp_path: Path) -> None:
    def begin(space: DigitSpace, iterations: int) -> Study:
        return searched(space=space, iterations=iterations, db=tmp_path / "run.db", resume=True)

    assert "identity" not in begin(DigitSpace(length=3), 60).settings.as_json()
    resumed = begin(UnorderedDigits(length=3), 200)
    assert resumed.trials == searched(space=DigitSpace(length=3), iterations=200).trials
    assert searched(space=UnorderedDigits(length=3), iterations=200).trials != resumed.trials


def test_progress_is_reported() -> None:
    seen: list[Progress] = []
    study = searched(on_progress=seen.append)
    last = seen[-1]
    assert (last.done, last.iterations, last.failed) == (120, 120, 0)
    assert last.best is not None
    assert last.best[1] == study.best()[0].trial.genotype
    assert last.acceptance_rate == study.acceptance_rate
    assert last.rate > 0
    assert last.remaining_s == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "0 iterations"),
        ({"workers": 0}, "0 workers"),
        ({"strategy": "annealing"}, "strategy is 'annealing'; accepted are evolution, random"),
        ({"count": "flops"}, "count is 'flops'; accepted are graph, paper"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        searched(**change)


def test_refused_arguments_leave_no_file(tmp_path: Path) -> None:
    for change in ({"iterations": 0}, {"workers": 0}, {"count": "paper"}):
        with pytest.raises(SettingsError):
            searched(**change, db=tmp_path / "run.db")
    assert list(tmp_path.iterdir()) == []


def test_top_k_is_the_papers_for_a_search_of_its_length() -> None:
    assert [default_top_k(iterations) for iterations in (1, 300, 5000, 100_000)] == [16, 30, 500, 1024]


def test_a_resumed_search_keeps_its_top_k(tmp_path: Path) -> None:
    searched(iterations=200, top_k=None, db=tmp_path / "run.db")
    study = searched(iterations=400, top_k=None, db=tmp_path / "run.db", resume=True)
    assert study.settings.top_k == 20


def test_a_space_that_changed_is_not_resumed(tmp_path: Path) -> None:
    code = tmp_path / "my_space.py"
    text = "from tests.searching.fakes import DigitSpace\nclass Mine(DigitSpace):\n    name = 'mine'\nSPACE = Mine\n"
    code.write_text(text)
    searched(space=code, iterations=5, db=tmp_path / "run.db")
    assert len(searched(space=code, iterations=9, db=tmp_path / "run.db", resume=True).trials) == 9
    code.write_text(f"{text}\n# changed\n")
    with pytest.raises(StudyError, match=r"in the file space\.code is"):
        searched(space=code, iterations=9, db=tmp_path / "run.db", resume=True)


def test_bundled_spaces_can_be_named() -> None:
    study = searched(space="nb201", iterations=20, scorer=CountingScorer())
    assert study.settings.space.as_json() == {
        "name": "nb201",
        "options": {"resolution": 32, "num_classes": 10},
        "code": None,
        "reference": "nb201",
    }
    assert study.trials[0].cost.macs > 0


def test_networks_can_be_scored_smaller_than_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = set()

    def score(self: ModelScorer, genotype: str) -> ProxyScores:
        sizes.add(self._space.resolution)
        return FakeScorer().score(str(len(genotype)))

    monkeypatch.setattr(ModelScorer, "score", score)
    study = searched(space="mbv2", iterations=12, scorer=None, score_resolution=64)
    assert sizes == {64}
    assert study.settings.scoring.resolution == 64
    assert study.settings.space.options["resolution"] == 224
    for trial in study.trials:
        assert trial.proxies["macs"].mean == trial.cost.macs > 20_000_000  # those at 224


def test_a_space_made_in_a_program_has_the_resolution_it_was_made_with() -> None:
    with pytest.raises(SettingsError, match="space 'digits' was made in a program; make it at the resolution"):
        searched(scorer=None, score_resolution=64)


class CountingScorer(FakeScorer):
    def score(self, genotype: str) -> ProxyScores:
        return super().score(str(genotype.count("conv")))


def test_weights_and_aggregation_decide_who_is_best_and_belong_to_the_study(tmp_path: Path) -> None:
    plain = searched(strategy="random")
    heavy = searched(strategy="random", proxies=["az", "macs:1000"], db=tmp_path / "run.db")
    assert heavy.trials == plain.trials
    assert heavy.best()[0].trial.cost.macs == max(trial.cost.macs for trial in heavy.trials)
    ranking = rank([scores(trial) for trial in plain.trials], aggregation="linear")
    linear = searched(strategy="random", aggregate="linear").best()[0]
    assert linear.trial.number == ranking.order[0]
    assert linear.az_score == ranking.az_score[ranking.order[0]]
    assert Study.open(tmp_path / "run.db").settings == heavy.settings
    with pytest.raises(StudyError, match="assembly"):
        searched(strategy="random", db=tmp_path / "run.db", resume=True)
