from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from aznas_onnx.errors import ModelError
from aznas_onnx.latency import Latency
from aznas_onnx.searching import Budget, Study, StudyError, latency_cache, search
from tests.searching.fakes import Digits, DigitSpace, FakeScorer, taking

LIMIT_MS = 40.0


class Clock:
    """Takes the sum of a network's digits for its milliseconds."""

    def __init__(self) -> None:
        self.measured: list[str] = []
        self.is_loaded = False

    def __call__(self, model: onnx.ModelProto) -> Latency:
        self.measured.append(model.doc_string)
        return taking(float(sum(map(int, model.doc_string))), is_loaded=self.is_loaded)


class BuiltDigits(DigitSpace):
    def build(self, genotype: Digits) -> onnx.ModelProto:
        return onnx.ModelProto(doc_string=self.format(genotype))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(latency_cache, "measure", fake)
    return fake


def searched(path: Path | None, iterations: int, **options: Any) -> Study:
    budget = Budget(latency_ms=options.pop("latency_ms", LIMIT_MS))
    return search(BuiltDigits(), budget, iterations=iterations, top_k=16, scorer=FakeScorer(), db=path, **options)


def test_every_candidate_is_within_the_limit_and_measured_once(clock: Clock) -> None:
    study = searched(None, 60)
    assert len(study.trials) == 60
    for trial in study.trials:
        assert trial.cost.latency_ms == sum(map(int, trial.genotype)) <= LIMIT_MS
    first, again = clock.measured[:-5], clock.measured[-5:]
    assert len(first) > 60  # some were too slow
    assert len(set(first)) == len(first)
    assert again == [one.trial.genotype for one in study.best(5)]  # the winners, at the end
    assert {genotype: one.ms for genotype, one in study.again.items()} == {
        one.trial.genotype: one.trial.cost.latency_ms for one in study.best(5)
    }
    assert study.doubt is None


def test_other_work_on_the_machine_is_reported(clock: Clock) -> None:
    clock.is_loaded = True
    study = searched(None, 5)
    assert study.doubt is not None
    assert "other work ran on this machine" in study.doubt


def test_winners_that_are_over_the_budget_now_are_kept_with_that(clock: Clock, tmp_path: Path) -> None:
    class Slower(Clock):
        def __call__(self, model: onnx.ModelProto) -> Latency:
            found = super().__call__(model)
            return found if len(self.measured) == len(set(self.measured)) else taking(LIMIT_MS + 1)

    clock.__class__ = Slower
    searched(tmp_path / "run.db", 20)
    study = Study.open(tmp_path / "run.db")
    (best,) = study.best()
    assert not study.settings.budget.keeps_latency(study.again[best.trial.genotype])
    assert best.trial.cost.latency_ms is not None
    assert best.trial.cost.latency_ms <= LIMIT_MS


def test_a_resumed_search_decides_as_before_and_measures_nothing_again(clock: Clock, tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole.db", 40)
    clock.measured.clear()
    searched(tmp_path / "run.db", 20)
    before = set(clock.measured[:-5])  # the last are the winners, measured again
    clock.measured.clear()
    resumed = searched(tmp_path / "run.db", 40, resume=True)
    assert resumed.trials == whole.trials == Study.open(tmp_path / "run.db").trials
    assert not before & set(clock.measured[:-5])


def test_another_limit_is_refused(clock: Clock, tmp_path: Path) -> None:
    searched(tmp_path / "run.db", 5)
    with pytest.raises(StudyError, match=r"budget.latency_ms is 40.0, not 41.0"):
        searched(tmp_path / "run.db", 6, latency_ms=41.0, resume=True)


def test_a_limit_that_no_network_meets_is_reported_soon(clock: Clock) -> None:
    with pytest.raises(StudyError, match=r"latency at most 0.5 ms refused 500 \(the fastest takes \d+ ms\)"):
        searched(None, 5, latency_ms=0.5)
    assert len(clock.measured) <= 500


def test_a_network_that_cannot_be_measured_is_a_sentence() -> None:
    with pytest.raises(
        ModelError, match=r"the latency of [0-9]{8} cannot be measured: the fake scorer needs no network"
    ):
        search(DigitSpace(), Budget(latency_ms=1.0), iterations=1, scorer=FakeScorer())
