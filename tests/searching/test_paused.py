"""Processes that score stand still while a latency is measured, and go on after it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from aznas_onnx.searching.executors import InlineExecutor, quiet
from aznas_onnx.searching.workers import ProcessExecutor
from tests.searching.fakes import FakeScorer


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a Linux file tells the state of a process")
def test_workers_stand_still_and_go_on(tmp_path: Path) -> None:
    executor = ProcessExecutor(FakeScorer(delay_s=0.2), 2)
    try:
        for number in range(2):
            executor.submit(number, f"{number}" * 8)
        with quiet(executor):
            pids = [worker.process.pid for worker in executor._workers]
            assert len(pids) == 2
            for pid in pids:
                assert pid is not None
                while state(pid) != "T":
                    time.sleep(0.01)
        assert sorted(executor.collect().number for _ in range(2)) == [0, 1]
    finally:
        executor.close()


def test_what_scores_here_needs_no_pause() -> None:
    with quiet(InlineExecutor(FakeScorer())), quiet(None):
        assert os.getpid()
