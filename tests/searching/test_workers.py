from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.operators import CUSTOM_OPERATORS, OPERATORS
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.searching import search
from aznas_onnx.searching.workers import ProcessExecutor
from tests.searching.fakes import DigitSpace, FakeScorer


def test_no_candidate_is_lost_or_doubled(tmp_path: Path) -> None:
    log = tmp_path / "log"
    study = search(
        DigitSpace(length=3), iterations=150, top_k=16, db=tmp_path / "run.db", workers=3, scorer=FakeScorer(log=log)
    )
    assert sorted(trial.number for trial in study.trials) == list(range(150))
    scored = log.read_text().split()
    assert len(scored) == len(set(scored)) == 150
    assert set(scored) == {trial.genotype for trial in study.trials}
    for trial in study.trials:
        assert trial.proxies == FakeScorer().score(trial.genotype).proxies


def test_a_candidate_that_kills_its_process_fails_and_the_others_go_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    study = search(DigitSpace(length=3), iterations=25, top_k=16, workers=2, scorer=FakeScorer(deadly="9", log=log))
    failed = {trial.genotype for trial in study.trials if trial.status is Status.FAILED}
    assert failed == {trial.genotype for trial in study.trials if "9" in trial.genotype}
    assert failed
    assert {trial.reason for trial in study.trials if trial.reason} == {
        "the process that scored it died 2 times (out of memory?)"
    }
    scored = log.read_text().split()
    for trial in study.trials:
        assert scored.count(trial.genotype) == (2 if trial.genotype in failed else 1)


def test_closing_gives_up_what_is_being_scored() -> None:
    executor = ProcessExecutor(FakeScorer(delay_s=600), 2)
    executor.submit(0, "555")
    executor.submit(1, "556")
    processes = [worker.process for worker in executor._workers]
    assert len(processes) == 2
    executor.close()
    for process in processes:
        with pytest.raises(ValueError, match="closed"):
            process.is_alive()


def test_a_scorer_that_cannot_travel_is_refused() -> None:
    scorer = FakeScorer()
    scorer.score = lambda genotype: None  # type: ignore[method-assign]
    with pytest.raises(SettingsError, match="cannot be sent to another process"):
        ProcessExecutor(scorer, 2)


class OperatorScorer(FakeScorer):
    """Reports as a model's name whether an operator of a file is known to the process."""

    def score(self, genotype: str) -> ProxyScores:
        known = "my.domain::Squareplus" in OPERATORS
        return replace(super().score(genotype), model=f"known: {known}")


def test_workers_load_the_operator_files_of_the_search(repository: Path) -> None:
    CUSTOM_OPERATORS.load(repository / "examples" / "own_operator.py")
    executor = ProcessExecutor(OperatorScorer(), 2)
    executor.submit(0, "555")
    assert executor.collect().scores.model == "known: True"
    executor.close()
