from __future__ import annotations

import time

import pytest

from aznas_onnx.timing import Clock


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_inside_another_is_taken_out_of_it(ticks: list[float]) -> None:
    clock = Clock()
    with clock.phase("outer"):
        ticks[0] += 1.0
        with clock.phase("inner"):
            ticks[0] += 10.0
        ticks[0] += 2.0
    ticks[0] += 50.0
    with clock.phase("outer"):
        ticks[0] += 4.0
    assert clock.elapsed_s == {"outer": 7.0, "inner": 10.0}


def test_a_phase_that_fails_is_counted(ticks: list[float]) -> None:
    clock = Clock()

    def fail() -> None:
        ticks[0] += 3.0
        raise KeyError

    with pytest.raises(KeyError), clock.phase("broken"):
        fail()
    assert clock.elapsed_s == {"broken": 3.0}


def test_a_clock_that_does_not_run_counts_nothing_and_does_not_wait() -> None:
    clock = Clock(is_running=False)
    clock.synchronise = lambda: pytest.fail("it waited")
    with clock.phase("any"):
        pass
    assert clock.elapsed_s == {}


def test_a_running_clock_waits_for_the_device() -> None:
    clock, waits = Clock(), []
    clock.synchronise = lambda: waits.append(1)
    with clock.phase("any"):
        pass
    assert len(waits) == 2
