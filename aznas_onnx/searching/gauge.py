"""The latency of candidates, measured once each."""

from __future__ import annotations

from typing import Any

from aznas_onnx.errors import ModelError
from aznas_onnx.latency import measure_ms
from aznas_onnx.own_files import RAISED
from aznas_onnx.searching.history import History
from aznas_onnx.spaces import Space

__all__ = ["LatencyGauge"]


class LatencyGauge:
    """Measures genotypes and keeps what it measured in the study, refused candidates included.

    So a search that is resumed decides about them as it did before, whatever else the machine does by then.
    """

    def __init__(self, space: Space[Any]) -> None:
        self._space = space
        self._history: History | None = None

    def attach(self, history: History) -> None:
        """Keep measurements in a study, and take them from there."""
        self._history = history

    def __call__(self, genotype: str) -> float:
        """Return the milliseconds that a genotype's network takes.

        Raises
        ------
        ModelError
            If it cannot be built or run.
        """
        known = None if self._history is None else self._history.latency_ms(genotype)
        if known is not None:
            return known
        try:
            measured = measure_ms(self._space.build(self._space.parse(genotype)))
        except RAISED as error:
            raise ModelError(f"the latency of {genotype} cannot be measured: {error}") from error
        return measured if self._history is None else self._history.keep_latency(genotype, measured)
