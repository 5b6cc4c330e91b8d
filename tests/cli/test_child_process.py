"""A function in a process of its own: what it returns and raises, and what becomes of a process that ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from aznas_onnx.cli.child_process import Bug, EndedError, ended_by_signals, in_child_process, limit_processor_time
from aznas_onnx.errors import AznasError, ModelError

Tell = Callable[[str], None]


def answer(value: Any, tell: Tell) -> Any:
    tell("at work")
    sys.stdout.write("on stdout\n")
    sys.stderr.write("on stderr, without an end")
    return value


def refuse(tell: Tell) -> None:
    raise ModelError("net.onnx: no")


def stumble(tell: Tell) -> None:
    raise ZeroDivisionError("oops")


def leave(tell: Tell) -> None:
    sys.exit(0)


def vanish(status: int, tell: Tell) -> None:
    os._exit(status)


def die(number: int, tell: Tell) -> None:
    os.kill(os.getpid(), number)


def compute(tell: Tell) -> None:
    limit_processor_time(0.1)
    while True:
        pass


def allocate(tell: Tell) -> int:
    return len(bytearray(2**46))


def work_on(tell: Tell) -> str:
    limit_processor_time(0.1)
    limit_processor_time(None)
    end_s = time.process_time() + 1.5
    while time.process_time() < end_s:
        pass
    return "done"


def outcome(work: Callable[..., Any], *arguments: Any) -> tuple[Any, list[str], list[str]]:
    stages: list[str] = []
    lines: list[str] = []
    with in_child_process(work, *arguments) as child:
        return child.result(on_stage=stages.append, on_line=lines.append), stages, lines


@pytest.mark.parametrize("is_alone", [True, False], ids=["a copy", "a new process"])
def test_a_result_comes_back_with_the_reported_stages(is_alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aznas_onnx.cli.child_process._can_fork", lambda: is_alone)
    value = MappingProxyType({"a": (1, 2.5)})
    assert outcome(answer, value) == (value, ["at work"], ["on stdout", "on stderr, without an end"])


def test_errors_come_back_as_sentences_and_bugs_with_their_traceback() -> None:
    with pytest.raises(AznasError, match=r"net\.onnx: no"):
        outcome(refuse)
    with pytest.raises(Bug, match="ZeroDivisionError: oops") as caught:
        outcome(stumble)
    assert "in stumble" in caught.value.trace


@pytest.mark.parametrize(
    ("work", "arguments", "message"),
    [
        (leave, (), "SystemExit: 0"),
        (vanish, (0,), "ended with status 0 and no decision"),
        (vanish, (1,), "ended with status 1 and no decision"),
        (die, (signal.SIGKILL,), "ended by SIGKILL"),
        (die, (signal.SIGXCPU,), "ended by SIGXCPU"),
        (die, (signal.SIGTERM,), "ended by SIGTERM"),
        (compute, (), "ended by SIGXCPU .reading them takes too much processor time"),
        (allocate, (), "not enough memory"),
    ],
)
def test_a_process_that_ends_has_no_result(work: Callable[..., Any], arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(AznasError, match=message):
        outcome(work, *arguments)


def test_a_limit_of_processor_time_can_be_lifted() -> None:
    assert outcome(work_on)[0] == "done"


def test_signals_that_end_the_command_are_an_error() -> None:
    def ask() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5)

    with pytest.raises(EndedError, match="SIGTERM"), ended_by_signals():
        ask()
