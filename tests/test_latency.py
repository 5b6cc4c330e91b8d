"""Latency: what is measured, and what is said of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest

from aznas_onnx import latency as room
from aznas_onnx import spaces
from aznas_onnx.errors import ModelError
from aznas_onnx.latency import Latency, Stopwatch, measure


def test_a_network_of_ten_times_the_work_takes_longer() -> None:
    small, large = (spaces.get("nb201", resolution=resolution) for resolution in (8, 64))
    cell = small.sample(np.random.default_rng(0))
    assert 0 < measure(small.build(cell)).ms < measure(large.build(cell)).ms


def test_what_onnxruntime_refuses_is_a_sentence() -> None:
    broken = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3] x) => (float[1, 3] y) { y = NoSuchOperator(x) }'
    )
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network: .*NoSuchOperator"):
        measure(broken)


class Scripted(Stopwatch):
    """Has rounds of given times, in seconds, the last of them again and again."""

    def __init__(self, *rounds: list[float]) -> None:
        self.left = list(rounds)

    def _round(self) -> list[float]:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


QUIET = [1.0] * 10
BUSY = [[1.5 + 0.1 * number + 0.01 * run for run in range(10)] for number in range(6)]  # no two are alike


def test_a_quiet_machine_needs_the_fewest_rounds() -> None:
    found = Scripted(QUIET).measure(fewest=4, most=10)
    assert (found.ms, found.spread, found.rounds) == (1000.0, 0.0, 40)


def test_more_rounds_are_taken_until_some_agree_with_the_fastest() -> None:
    found = Scripted(*BUSY[:4], QUIET, BUSY[4], QUIET, BUSY[5], QUIET, *BUSY).measure(fewest=4, most=24)
    assert found.ms == 1000.0  # and not the median
    assert found.rounds == 90
    assert found.spread > 0.25
    assert found.is_loaded


def test_what_never_agrees_ends_too() -> None:
    rounds = [[1.0 + 0.1 * number] * 3 for number in range(30)]
    assert Scripted(*rounds).measure(fewest=2, most=7).rounds == 21


def test_a_measurement_says_what_it_is() -> None:
    found = Latency(ms=12.345, quantile=0.05, spread=0.3, rounds=80, waited=0.0)
    assert str(found) == (
        "12.3 ms (5% quantile of 80 runs, median 30% above; other work ran, and it waited 0% of the time)"
    )
    assert Latency.from_json(found.as_json()) == Latency(ms=12.345, quantile=0.05, spread=0.3, rounds=80, waited=0.0)
    assert not Latency(ms=1.0, quantile=0.05, spread=0.1, rounds=80, waited=0.05).is_loaded
    assert Latency(ms=1.0, quantile=0.05, spread=0.1, rounds=80, waited=0.2).is_loaded
    assert found.divided(2).ms == pytest.approx(6.17, abs=0.01)


def burn() -> None:
    signal.alarm(60)  # should the test that began it die
    while True:
        pass


@contextmanager
def burners(number: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=burn, daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.slow
def test_under_load_it_says_so() -> None:
    space = spaces.get("nb201")
    watch = Stopwatch(space.build(space.sample(np.random.default_rng(0))))
    with burners(2 * (os.cpu_count() or 1)):
        time.sleep(2)
        assert any(watch.measure().is_loaded for _ in range(3))


def hold(path: Path, ready: Path) -> None:
    with room._alone():
        ready.touch()
        time.sleep(0.5)
        path.touch()


@pytest.mark.skipif(os.name != "posix", reason="no file locks")
def test_two_processes_do_not_measure_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LOCK", f"aznas-latency-test-{os.getpid()}")
    context = multiprocessing.get_context("fork")
    other = context.Process(target=hold, args=(tmp_path / "done", tmp_path / "ready"))
    other.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with room._alone():
        assert (tmp_path / "done").exists()
    other.join()


def test_equal_branches_are_run_each() -> None:
    """Drawn networks have equal numbers for all weights, and trained ones have not."""

    def network(branches: int) -> onnx.ModelProto:
        convs = "\n".join(f"y{place} = Conv <pads = [1, 1, 1, 1]> (x, w)" for place in range(branches))
        names = ", ".join(f"y{place}" for place in range(branches))
        return onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1, 32, 32, 32] x) => (float[1, 32, 32, 32] y)
            <int64[4] shape = {{32, 32, 3, 3}}>
            {{ w = ConstantOfShape (shape) {convs} y = Sum ({names}) }}"""
        )

    assert measure(network(8)).ms > 3 * measure(network(1)).ms
