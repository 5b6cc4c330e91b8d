"""Limits on a file, and the budget that all passes over it share."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol

from aznas_onnx.errors import ModelError

__all__ = ["Limits", "copy", "reading", "spend", "within"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on a model; a model beyond them is refused with a message that names the bound.

    Attributes
    ----------
    file_bytes
        Size of the model file, external data not counted.
    weight_bytes
        All constants together, external data included. They are read only where needed.
    nodes
        Number of nodes, branches and loop bodies included, after functions are inlined.
    unrolled_nodes
        Number of nodes that unrolled loops can add; sixteen times as many operands and constants.
    inputs
        Number of inputs that are not initialisers.
    constants
        Number of initialisers and other tensors in the file.
    tensor_elements
        Elements of any one tensor, for one sample.
    folded_elements
        Elements of a constant whose value is computed while the graph is read; larger ones stay symbolic, and so do all
        others once the computed values take 32 bytes for each of these.
    copied_bytes
        Bytes of text and tensors that inlining and unrolling can copy.
    reading_s
        Processor time of reading, finding blocks and counting together.
    scoring_s
        Estimated time of a scoring pass; None for any.
    """

    file_bytes: int = 2**31  # the limit of protobuf
    weight_bytes: int = 64 * 2**30
    nodes: int = 50_000
    unrolled_nodes: int = 20_000
    inputs: int = 2_000
    constants: int = 100_000
    tensor_elements: int = 2**31
    folded_elements: int = 2**22
    copied_bytes: int = 2**26
    reading_s: float = 6.0
    scoring_s: float | None = None


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def operator(self) -> str: ...


_WORK_BETWEEN_LOOKS = 1024
_REMINDER_S = 0.05  # a pass can have caught the first refusal as the model's own


class _Budget:
    """The spent budget of one reading, and its place."""

    __slots__ = ("_copied_bytes", "_ends_s", "_limits", "is_open", "left", "node")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ends_s = time.thread_time() + limits.reading_s
        self._copied_bytes = 0
        self.left = _WORK_BETWEEN_LOOKS  # of work, until the next look at the clock
        self.node: _Named | None = None
        self.is_open = True

    def look(self) -> None:
        self.left = _WORK_BETWEEN_LOOKS
        if time.thread_time() > self._ends_s:
            self.refuse()

    def copy(self, node: _Named, size_bytes: int) -> None:
        self._copied_bytes += size_bytes
        if self._copied_bytes > self._limits.copied_bytes:
            raise ModelError(
                f"node {_short(node.name)!r} ({node.operator}) is repeated until its names and tensors take more than "
                f"{self._limits.copied_bytes:,} bytes; export the model without that loop or function"
            )

    def refuse(self) -> None:
        where = f", and has come to node {_short(self.node.name)!r} ({self.node.operator})" if self.node else ""
        raise ModelError(
            f"reading it takes more than {self._limits.reading_s:g} s of processor time{where}; "
            "export a smaller graph, or allow more with --time-limit SECONDS"
        )

    def remind(self, signal_number: int, frame: FrameType | None) -> None:
        """Raise from a timer, for passes that call :func:`spend` too seldom; it counts the work of all threads."""
        if self.is_open and time.thread_time() > self._ends_s:
            self.refuse()


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:100]}...{name[-100:]}"


_open: ContextVar[_Budget | None] = ContextVar("reading", default=None)


@contextmanager
def reading(limits: Limits) -> Iterator[None]:
    """Open the budget of one reading; a nested reading shares the outer budget.

    Passes over a graph spend it with :func:`spend`: the budget belongs to the call, like a transaction, and no result
    depends on it. In the main thread of a process a timer limits passes that do not spend, where the system has a free
    one.
    """
    if _open.get() is not None:
        yield
        return
    budget = _Budget(limits)
    token = _open.set(budget)
    try:
        with _timer(budget, limits.reading_s):
            yield
    finally:
        budget.is_open = False
        _open.reset(token)


@contextmanager
def _timer(budget: _Budget, seconds: float) -> Iterator[None]:
    """Let a signal interrupt the reading once the process has worked so long."""
    is_free = (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGPROF) is signal.SIG_DFL
    )
    if not is_free:
        yield
        return
    signal.signal(signal.SIGPROF, budget.remind)
    signal.setitimer(signal.ITIMER_PROF, seconds, _REMINDER_S)
    try:
        yield
    finally:
        budget.is_open = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)


def spend(node: _Named | None, work: int = 1) -> None:
    """Spend budget of the current reading.

    Parameters
    ----------
    node
        The current node; None for the one before.
    work
        Approximate number of names or tensors to process next.

    Raises
    ------
    ModelError
        If the budget is spent.
    """
    budget = _open.get()
    if budget is not None:
        if node is not None:
            budget.node = node
        budget.left -= work
        if budget.left <= 0:
            budget.look()


def copy(node: _Named, size_bytes: int) -> None:
    """Spend bytes of the budget for copies of loop bodies and functions; raise ModelError beyond it."""
    budget = _open.get()
    if budget is not None:
        budget.copy(node, size_bytes)


def within(seconds: float | None, limits: Limits | None = None) -> Limits:
    """Return limits with the time that ``--time-limit`` allows for reading and for scoring; as they are for None."""
    given = limits or Limits()
    return given if seconds is None else replace(given, reading_s=seconds, scoring_s=seconds)
