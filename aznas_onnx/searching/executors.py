"""The executor interface, and the executor within this process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from aznas_onnx.errors import AznasError
from aznas_onnx.results import ProxyScores, Status

__all__ = ["Executor", "InlineExecutor", "TrialOutcome", "Scorer", "evaluate", "quiet"]


class Scorer(Protocol):
    """Scores candidates by genotype. It can be pickled, so that worker processes get a copy."""

    def describe(self) -> Mapping[str, object]:
        """Return all settings that the scores depend on, as JSON values.

        A study can be resumed only by a scorer with an equal description. A scorer with unregistered proxies adds their
        directions: ``{"own_proxies": {NAME: {"direction": "lower is better"}}}``.
        """
        ...

    def prepare(self, threads: int | None) -> None:
        """Get ready in the process that will score, with `threads` threads (None: as many as the libraries like)."""
        ...

    def score(self, genotype: str) -> ProxyScores:
        """Score a candidate; the same genotype always gets the same scores."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """The result of scoring candidate `number`."""

    number: int
    scores: ProxyScores


class Executor(Protocol):
    """Scores candidates, several at a time.

    :meth:`collect` returns each submitted candidate exactly once, also after a crash of a worker. An executor on this
    machine can have a method ``paused()``, a context in which it does not score, so that a latency is measured alone.
    """

    @property
    def slots(self) -> int:
        """Number of candidates to score at a time."""
        ...

    def submit(self, number: int, genotype: str) -> None:
        """Submit a candidate; called while fewer than `slots` are in progress."""
        ...

    def collect(self) -> TrialOutcome:
        """Wait for one of the submitted candidates."""
        ...

    def close(self) -> None:
        """Stop; candidates in progress are abandoned."""
        ...


class InlineExecutor:
    """Scores in this process, one candidate at a time."""

    slots = 1

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._waiting: deque[tuple[int, str]] = deque()
        scorer.prepare(None)

    def submit(self, number: int, genotype: str) -> None:
        """Store a candidate until it is collected."""
        self._waiting.append((number, genotype))

    def collect(self) -> TrialOutcome:
        """Score the candidate that waits longest."""
        number, genotype = self._waiting.popleft()
        return TrialOutcome(number=number, scores=evaluate(self._scorer, genotype))

    def close(self) -> None:
        """Forget what waits."""
        self._waiting.clear()


def quiet(executor: Executor | None) -> AbstractContextManager[None]:
    """Let what an executor scores stand still for as long as the context lasts, if it can."""
    paused: Callable[[], AbstractContextManager[None]] = getattr(executor, "paused", nullcontext)
    return paused()


def evaluate(scorer: Scorer, genotype: str) -> ProxyScores:
    """Score a candidate; any exception becomes a failed status with its reason."""
    start = time.perf_counter()
    try:
        return scorer.score(genotype)
    except AznasError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  # one candidate (out of memory, say) must not end a search of days
        reason = f"{type(error).__name__}: {error}"
    elapsed_s = time.perf_counter() - start
    return ProxyScores(model=genotype, status=Status.FAILED, reason=reason, elapsed_s=elapsed_s)
