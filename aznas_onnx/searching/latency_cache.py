"""The latency of candidates, measured once each and stored."""

from __future__ import annotations

from typing import Any

from aznas_onnx.errors import ModelError
from aznas_onnx.latency import Latency, measure
from aznas_onnx.searching.executors import Executor, quiet
from aznas_onnx.searching.store.history import History
from aznas_onnx.spaces import Space
from aznas_onnx.user_modules import RAISED

__all__ = ["LatencyCache"]


class LatencyCache:
    """Measures genotypes and stores the measurements in the study, refused candidates included.

    A resumed search therefore decides about them as before.

    - `measured`, `loaded`: Number of measurements of this process, and of those under other load.
    """

    def __init__(self, space: Space[Any]) -> None:
        self._space = space
        self._history: History | None = None
        self._executor: Executor | None = None
        self.measured = self.loaded = 0

    def attach(self, history: History, executor: Executor) -> None:
        """Store measurements in a study, and read them from it; the executor pauses during a measurement."""
        self._history, self._executor = history, executor

    def __call__(self, genotype: str) -> float:
        """Return the milliseconds that a genotype's network takes; raise ModelError if it cannot be built or run."""
        known = None if self._history is None else self._history.latency_ms(genotype)
        if known is not None:
            return known
        with quiet(self._executor):
            found = self.again(genotype)
        self.measured += 1
        self.loaded += found.is_loaded
        return found.ms if self._history is None else self._history.keep_latency(genotype, found.ms)

    def again(self, genotype: str) -> Latency:
        """Measure a genotype's network without the cache; raise ModelError if it cannot be built or run."""
        try:
            return measure(self._space.build(self._space.parse(genotype)))
        except RAISED as error:
            raise ModelError(f"the latency of {genotype} cannot be measured: {error}") from error

    @property
    def doubt(self) -> str | None:
        """A sentence about other work on the machine, or None where there was little."""
        if 2 * self.loaded <= self.measured:
            return None
        return (
            f"other work ran on this machine while {self.loaded:,} of {self.measured:,} latencies were measured, so "
            "that some may be too high; search on a machine that is idle for exact ones"
        )
