"""`aznas export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.searching import Study, search
from tests.export.test_winner import LengthScorer


@pytest.fixture
def run_db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    search("nb201", iterations=12, space_options={"resolution": 8}, db="run.db", scorer=LengthScorer())
    return Study.open("run.db")


def exported(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[int]:
    assert run(["export", "run.db", "-o", "winners", "--format", "json", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "aznas.export/1"
    for one in document["exported"]:
        assert (Path(one["folder"]) / "model.onnx").is_file()
    return [one["trial"] for one in document["exported"]]


def numbers(candidates: tuple[object, ...]) -> list[int]:
    return [one.trial.number for one in candidates]  # type: ignore[attr-defined]


def test_the_best_one_by_default(run_db: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported([], capsys) == numbers(run_db.best())


def test_several_of_the_best(run_db: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported(["--best", "3"], capsys) == numbers(run_db.best(3))


def test_trials_by_number(run_db: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(exported(["--trial", "4", "--trial", "0"], capsys)) == [0, 4]


def test_the_front_and_the_best_without_doubles(run_db: Study, capsys: pytest.CaptureFixture[str]) -> None:
    front = numbers(run_db.pareto("macs"))
    found = exported(["--pareto", "macs", "--best", "1"], capsys)
    assert sorted(found) == sorted({*front, *numbers(run_db.best())})


def test_a_line_for_each_network(run_db: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "run.db", "-o", "winners"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    number = run_db.best()[0].trial.number
    assert line.startswith(f"winners/1-trial-{number}: rank 1 of 12 candidates, ")


def test_an_export_in_place_of_an_earlier_one_says_so(run_db: Study, capsys: pytest.CaptureFixture[str]) -> None:
    for seen in (False, True):
        assert run(["export", "run.db", "-o", "winners"]) == 0
        assert ("(in place of an earlier export)" in capsys.readouterr().out) is seen


def test_more_than_there_are_says_how_many_there_are(run_db: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "run.db", "--best", "13", "-o", "winners"]) == 0
    assert capsys.readouterr().err.strip() == "warning: --best 13: the study has 12 scored candidates"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run.db", "--trial", "99"], "there is no trial 99; the study has 12"),
        (["other.db"], "there is no study other.db"),
        (["notes.txt"], "notes.txt is not a study"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    arguments: list[str], message: str, run_db: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.txt").write_text("no study")
    assert run(["export", *arguments, "-o", "winners"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"aznas: {message}")
    assert len(captured.err.splitlines()) == 1
    assert not Path("winners").exists()
