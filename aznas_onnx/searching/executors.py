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
        """Return everything that decides what the scores are, as JSON values.

        A study is resumed only with a scorer that describes itself as the first one did. A scorer whose proxies are not
        registered says which way they point: ``{"own_proxies": {NAME: {"direction": "lower is better"}}}``.
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
    """What scoring candidate `number` gave."""

    number: int
    scores: ProxyScores


class Executor(Protocol):
    """Scores candidates somewhere, several at a time.

    Each candidate that is submitted comes back from :meth:`collect` exactly once, whatever happens to the place that
    scored it. An executor that scores on this machine may have a method ``paused()``, a context in which it stands
    still, so that a latency is measured alone.
    """

    @property
    def slots(self) -> int:
        """How many candidates to keep submitted."""
        ...

    def submit(self, number: int, genotype: str) -> None:
        """Hand over a candidate; called while fewer than `slots` are out."""
        ...

    def collect(self) -> TrialOutcome:
        """Wait for one of the submitted candidates."""
        ...

    def close(self) -> None:
        """Stop; what is still being scored is given up."""
        ...


class InlineExecutor:
    """Scores in this process, one candidate at a time."""

    slots = 1

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._waiting: deque[tuple[int, str]] = deque()
        scorer.prepare(None)

    def submit(self, number: int, genotype: str) -> None:
        """Keep a candidate until it is collected."""
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
    """Score a candidate; whatever goes wrong becomes a failed status with its reason."""
    start = time.perf_counter()
    try:
        return scorer.score(genotype)
    except AznasError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  # one candidate (out of memory, say) must not end a search of days
        reason = f"{type(error).__name__}: {error}"
    elapsed_s = time.perf_counter() - start
    return ProxyScores(model=genotype, status=Status.FAILED, reason=reason, elapsed_s=elapsed_s)
