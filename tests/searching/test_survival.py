"""Real processes, really killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aznas_onnx.searching import Study, search
from tests.searching.fakes import DigitSpace, FakeScorer

ITERATIONS = 200


def start(
    repository: Path, folder: Path, *, delay_s: float, workers: int = 1, company: int = 1
) -> subprocess.Popen[str]:
    arguments = [folder / "run.db", ITERATIONS, delay_s, workers, folder / "log", company]
    command = [sys.executable, "-m", "tests.searching.fakes", *map(str, arguments)]
    return subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.strip()


def wait_for_trials(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until `count` candidates were handed to the scorer, or the process ended."""
    while process.poll() is None and len(scored(folder)) < count:
        time.sleep(0.002)


def scored(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().split() if log.exists() else []


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def uninterrupted() -> Study:
    return search(DigitSpace(), iterations=ITERATIONS, top_k=16, scorer=FakeScorer())


def test_a_search_that_is_killed_again_and_again_ends_as_if_nothing_had_been(
    repository: Path, tmp_path: Path, uninterrupted: Study
) -> None:
    chance = random.Random(0)
    kills = 0
    for target in (1, 5, 60, 61, 140, 190):
        process = start(repository, tmp_path, delay_s=0.003)
        wait_for_trials(tmp_path, target + kills, process)
        time.sleep(chance.random() * 0.02)  # anywhere between two candidates
        kill(process)
        kills += 1
        known = Study.open(tmp_path / "run.db").trials
        assert known == uninterrupted.trials[: len(known)]
        handed_out = scored(tmp_path)
        assert len(set(handed_out)) - len(known) <= 1  # at most the candidate in flight is lost
    winner = finish(start(repository, tmp_path, delay_s=0))
    study = Study.open(tmp_path / "run.db")
    assert study.trials == uninterrupted.trials
    assert winner == study.best()[0].trial.genotype == uninterrupted.best()[0].trial.genotype
    assert len(scored(tmp_path)) <= ITERATIONS + kills


def test_two_processes_share_one_file(repository: Path, tmp_path: Path) -> None:
    both = [start(repository, tmp_path, delay_s=0.003, company=2) for _ in range(2)]
    winners = {finish(process) for process in both}
    check_complete(tmp_path, winners)
    with_both = {trial_writer for (trial_writer,) in rows(tmp_path, "SELECT DISTINCT writer FROM trials")}
    assert len(with_both) == 2  # each of them added some
    assert sorted(scored(tmp_path)) == sorted(set(scored(tmp_path)))  # none was scored twice


def test_what_a_killed_process_had_in_flight_is_scored_by_the_other(repository: Path, tmp_path: Path) -> None:
    first, second = (start(repository, tmp_path, delay_s=0.006, company=2) for _ in range(2))
    wait_for_trials(tmp_path, 100, first)
    kill(first)
    check_complete(tmp_path, {finish(second)})
    assert len(scored(tmp_path)) <= ITERATIONS + 1


def test_workers_that_are_killed_with_their_parent_leave_a_file_that_goes_on(repository: Path, tmp_path: Path) -> None:
    process = start(repository, tmp_path, delay_s=0.006, workers=3)
    wait_for_trials(tmp_path, 60, process)
    kill(process)
    known = len(Study.open(tmp_path / "run.db").trials)
    assert known >= 50
    check_complete(tmp_path, {finish(start(repository, tmp_path, delay_s=0))})


def check_complete(folder: Path, winners: set[str]) -> None:
    study = Study.open(folder / "run.db")
    assert sorted(trial.number for trial in study.trials) == list(range(ITERATIONS))
    assert len({trial.genotype for trial in study.trials}) == ITERATIONS
    assert winners == {study.best()[0].trial.genotype}
    assert rows(folder, "SELECT * FROM claims") == []


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "run.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found
