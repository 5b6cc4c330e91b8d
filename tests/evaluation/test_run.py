from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import Bootstrap, Scored, bench, prepare_run, read_scores
from aznas_onnx.evaluation.score_archs import score_archs
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.searching.workers import ProcessExecutor
from tests.evaluation.samples import BuiltDigits, SumScorer, truth_of
from tests.searching.fakes import FakeScorer

ROWS = {f"{number:02}": float(number) for number in range(40)}
SPACE = BuiltDigits(length=2)
CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def test_scores_are_compared_with_the_measurements(tmp_path: Path) -> None:
    scorer = SumScorer()
    found = bench(SPACE, truth_of(tmp_path, ROWS), sample=30, scorer=scorer, bootstrap=Bootstrap(resamples=0))
    assert found.n == len(scorer.asked) == 30
    assert found.proxies == ("expressivity", "trainability", "macs")
    assert found.overall.proxies == found.proxies
    assert [one.kendall["accuracy"].value for one in found.baselines][1:] == [None, None]  # all the same


def test_the_file_is_continued_and_only_the_rest_is_scored(tmp_path: Path) -> None:
    truth, path = truth_of(tmp_path, ROWS), tmp_path / "scores.jsonl"
    first, second, third = SumScorer(), SumScorer(), SumScorer()
    prepare_run(SPACE, truth, sample=10, scores=path, scorer=first).score()
    run = prepare_run(SPACE, truth, sample=25, scores=path, scorer=second)
    run.score()
    assert len(second.asked) == 15
    assert tuple(first.asked + second.asked) == run.archs
    run = prepare_run(SPACE, truth, sample=10, scores=path, scorer=third)
    run.score()
    assert third.asked == []
    assert [record.arch for record in run.records()] == first.asked  # of the sample, not all in the file


def test_an_interruption_keeps_what_is_scored(tmp_path: Path) -> None:
    truth, path = truth_of(tmp_path, ROWS), tmp_path / "scores.jsonl"
    scorer = SumScorer(interrupt_at=4)
    run = prepare_run(SPACE, truth, scores=path, scorer=scorer)
    with pytest.raises(KeyboardInterrupt):
        run.score()
    assert [record.arch for record in run.records()] == list(read_scores(path).records) == scorer.asked
    assert len(scorer.asked) == 4


def test_what_failed_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    truth, path = truth_of(tmp_path, ROWS), tmp_path / "scores.jsonl"
    run = prepare_run(SPACE, truth, scores=path, scorer=SumScorer(failing=("07", "31")))
    run.score()
    assert sorted(record.arch for record in run.records() if record.reason) == ["07", "31"]
    assert read_scores(path).records["07"].reason == "ValueError: this one fails"
    again = SumScorer()
    run = prepare_run(SPACE, truth, scores=path, scorer=again)
    run.score()
    assert sorted(again.asked) == ["07", "31"]
    assert all(record.reason is None for record in run.records())


def test_a_benchmark_that_only_fails_ends_early(tmp_path: Path) -> None:
    scorer = SumScorer(failing=tuple(ROWS))
    run = prepare_run(SPACE, truth_of(tmp_path, ROWS), scorer=scorer)
    with pytest.raises(SettingsError, match="the first 10 architectures all failed to score; the last one: ValueErr"):
        run.score()
    assert len(scorer.asked) == 10


def test_other_settings_are_refused_before_anything_is_scored(tmp_path: Path) -> None:
    truth, path = truth_of(tmp_path, ROWS), tmp_path / "scores.jsonl"
    prepare_run(SPACE, truth, sample=2, scores=path, scorer=SumScorer()).score()
    other = SumScorer(version=2)
    with pytest.raises(SettingsError, match=r"scoring\.version is 1 there and 2 here"):
        prepare_run(SPACE, truth, scores=path, scorer=other).score()
    run = prepare_run("nb201", truth_of(tmp_path, {CELL: 1.0}), scores=path, scorer=other)
    with pytest.raises(SettingsError, match=r"space\.name is 'digits' there and 'nb201' here"):
        run.score()
    assert other.asked == []


def test_settings_of_scoring_are_filled_in_and_checked(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {CELL: 1.0})
    run = prepare_run(
        "nb201", truth, settings=ScoreSettings(batch_size=8, device="cpu"), space_options={"resolution": 16}
    )
    assert run.settings.scoring.batch_size == 8
    assert run.settings.scoring.seeds == 1
    assert run.settings.scoring.resolution == 16
    assert run.settings.space.options == {"resolution": 16, "num_classes": 10}
    with pytest.raises(SettingsError):
        prepare_run("nb201", truth, settings=ScoreSettings(batch_size=0))
    with pytest.raises(SettingsError, match="options go with the name of a space"):
        prepare_run(SPACE, truth, space_options={"resolution": 16}, scorer=SumScorer())


def test_progress_counts_what_was_there_already(tmp_path: Path) -> None:
    truth, path = truth_of(tmp_path, ROWS), tmp_path / "scores.jsonl"
    prepare_run(SPACE, truth, sample=3, scores=path, scorer=SumScorer()).score()
    seen: list[Scored] = []
    prepare_run(SPACE, truth, sample=6, scores=path, scorer=SumScorer(failing=tuple(ROWS))).score(seen.append)
    assert [(one.done, one.total, one.failed) for one in seen] == [(3, 6, 0), (4, 6, 1), (5, 6, 2), (6, 6, 3)]
    assert seen[0].remaining_s is None
    assert seen[-1].remaining_s == 0


def test_several_processes_score_each_architecture_once(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ROWS)
    log = tmp_path / "log"
    run = prepare_run(SPACE, truth, sample=20, scorer=SumScorer())
    make_executor = partial(ProcessExecutor, FakeScorer(log=log, failing="7"), 2)
    score_archs(run.archs, SPACE, make_executor, run.memory)
    assert sorted(log.read_text().split()) == sorted(run.archs)
    assert [record.arch for record in run.records()] == list(run.archs)
    assert {record.arch for record in run.records() if record.reason} == {arch for arch in run.archs if "7" in arch}
