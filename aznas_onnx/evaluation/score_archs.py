"""Score the measured architectures; each result is written at once."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.evaluation.record import Record, make_record
from aznas_onnx.evaluation.weighted_operators import count_weighted_operators
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.searching.executors import Executor
from aznas_onnx.spaces import Space

__all__ = ["Scored", "score_archs"]

_HOPELESS = 10  # so many that fail, and none that does not, end the benchmark


class _RecordStore(Protocol):
    """Stores records."""

    records: dict[str, Record]

    def add(self, record: Record) -> None:
        """Store a record."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A moment of a benchmark.

    - `done`, `total`: Architectures scored (earlier runs included), and requested.
    - `failed`: Number of architectures that could not be scored.
    - `rate`: Architectures per second since this run began.
    """

    done: int
    total: int
    failed: int
    rate: float

    @property
    def remaining_s(self) -> float | None:
        """Seconds left at this rate; None before the first."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


def score_archs(
    archs: Sequence[str],
    space: Space[Any],
    make_executor: Callable[[], Executor],
    store: _RecordStore,
    on_progress: Callable[[Scored], None] | None = None,
) -> None:
    """Score the architectures without a record; failed ones, and files that have changed, are scored again.

    Raises SettingsError if the first architectures all fail.
    """
    digests = {arch: _digest(space, arch) for arch in archs}
    waiting = deque(arch for arch in archs if not _is_scored(store.records.get(arch), digests[arch]))
    known = len(archs) - len(waiting)
    began, finished, failed = time.monotonic(), 0, 0

    def report() -> None:
        if on_progress is not None:
            elapsed_s = time.monotonic() - began
            rate = finished / elapsed_s if elapsed_s > 0 else 0.0
            on_progress(Scored(done=known + finished, total=len(archs), failed=failed, rate=rate))

    report()
    if not waiting:
        return
    with contextlib.closing(make_executor()) as executor:
        out: dict[int, str] = {}
        number = 0
        while waiting or out:
            while waiting and len(out) < executor.slots:
                out[number] = waiting.popleft()
                executor.submit(number, out[number])
                number += 1
            outcome = executor.collect()
            arch = out.pop(outcome.number)
            store.add(make_record(outcome.scores, _layers(space, arch, outcome.scores), digests[arch]))
            finished += 1
            failed += outcome.scores.status is Status.FAILED
            if failed == finished == _HOPELESS and not known:
                raise SettingsError(
                    f"the first {_HOPELESS} architectures all failed to score; the last one: {outcome.scores.reason}"
                )
            report()


def _is_scored(record: Record | None, digest: str | None) -> bool:
    """Whether a network has its score: another one can be in its file since."""
    return record is not None and record.reason is None and record.digest == digest


def _digest(space: Space[Any], arch: str) -> str | None:
    """Return the digest of a network's file; None where there is none, or it cannot be read, which scoring reports."""
    try:
        return space.digest(space.parse(arch))
    except ModelError:
        return None


def _layers(space: Space[Any], arch: str, scores: ProxyScores) -> int | None:
    if scores.status is Status.FAILED:
        return None
    return count_weighted_operators(space.build(space.parse(arch)))
