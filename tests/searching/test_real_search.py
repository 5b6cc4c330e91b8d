"""The whole way, with real networks and real scores: slow, and small."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.results import ProxyValue
from aznas_onnx.searching import Study, Trial, search

pytestmark = pytest.mark.slow

ITERATIONS = 40
SMALL = ["--space", "nb201", "--resolution", "8", "--batch-size", "8", "--top-k", "16"]


def command(path: Path, *more: str) -> list[str]:
    arguments = [*SMALL, "--iterations", str(ITERATIONS), "--db", str(path), "--format", "json", *more]
    return [sys.executable, "-m", "aznas_onnx", "search", *arguments]


def searched(path: Path, *more: str) -> Any:
    done = subprocess.run(command(path, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["best"]


def without_times(best: list[dict[str, Any]]) -> str:
    return json.dumps([{**one, "seconds": None} for one in best])


def scores(trials: tuple[Trial, ...]) -> list[tuple[object, ...]]:
    return [(trial.proposal, trial.status, trial.proxies) for trial in trials]


def n_trials(path: Path) -> int:
    try:
        return len(Study.open(path).trials)
    except ValueError:  # not there yet
        return 0


def test_a_killed_and_resumed_search_has_the_same_winner_to_the_byte(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.db", tmp_path / "killed.db"
    expected = searched(whole)
    for target in (3, 15, 30):
        process = subprocess.Popen(command(killed, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and n_trials(killed) < target:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert target <= n_trials(killed) < ITERATIONS
    assert without_times(searched(killed, "--resume")) == without_times(expected)
    assert scores(Study.open(killed).trials) == scores(Study.open(whole).trials)


def test_worker_processes_give_the_scores_of_one_process(tmp_path: Path) -> None:
    searched(tmp_path / "two.db", "--workers", "2")
    found = Study.open(tmp_path / "two.db").trials
    assert sorted(trial.number for trial in found) == list(range(ITERATIONS))
    alone = Study.open(searched_alone(tmp_path)).trials
    known = {trial.genotype: trial.proxies for trial in alone}
    # Both start with ten mutations of the same cell, whose order and number of tries depend on nothing else.
    shared = [trial for trial in found if trial.genotype in known]
    assert len(shared) >= 8
    for trial in shared:
        assert means(trial.proxies) == pytest.approx(means(known[trial.genotype]), rel=1e-4, nan_ok=True)


def means(proxies: Mapping[str, ProxyValue]) -> list[float]:
    return [math.nan if value.mean is None else value.mean for value in proxies.values()]


def searched_alone(folder: Path) -> Path:
    options = {"resolution": 8}
    search("nb201", iterations=20, space_options=options, batch_size=8, top_k=16, db=folder / "one.db")
    return folder / "one.db"


def test_worker_processes_find_a_space_in_a_file(repository: Path, tmp_path: Path) -> None:
    space = repository / "examples" / "resnet_space.py"
    arguments = ["--space", str(space), "--resolution", "8", "--params", "1M", "--iterations", "6", "--batch-size", "2"]
    process = [
        sys.executable,
        "-m",
        "aznas_onnx",
        "search",
        *arguments,
        "--workers",
        "2",
        "--db",
        str(tmp_path / "run.db"),
    ]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [trial.reason for trial in Study.open(tmp_path / "run.db").trials] == [None] * 6


def test_a_search_in_the_large_spaces_keeps_its_budget(tmp_path: Path) -> None:
    for space, budget in (("mbv2", ["--flops", "20M:50M"]), ("autoformer-tiny", ["--params", "4M:8M"])):
        path = tmp_path / f"{space}.db"
        arguments = ["--space", space, "--resolution", "64", "--batch-size", "2", "--iterations", "4", *budget]
        process = [sys.executable, "-m", "aznas_onnx", "search", *arguments, "--db", str(path)]
        done = subprocess.run(process, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for trial in Study.open(path).trials:
            assert trial.reason is None
            if space == "mbv2":
                assert 20_000_000 <= trial.cost.macs <= 50_000_000
                assert trial.proxies["macs"].mean == trial.cost.macs
            else:
                assert 4_000_000 <= trial.cost.params <= 8_000_000
