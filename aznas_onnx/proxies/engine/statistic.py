"""A statistic of the whole network, which proxies can request beside the block-by-block pass."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from aznas_onnx.proxies.engine.evidence import Evidence, Outcome, StatisticResult

if TYPE_CHECKING:
    from aznas_onnx.proxies.engine.seeded_network import SeededNetwork

__all__ = ["StatisticResult", "NetworkStatistic", "value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStatistic:
    """One named statistic of a network under one seed; proxies that name the same statistic share it.

    Attributes
    ----------
    name
        Unique among statistics; the key of its result in :attr:`Evidence.measured`.
    run
        A function of a `SeededNetwork`, or ``"module:function"``, which is imported when it is first needed, so that
        listing proxies imports no torch.
    """

    name: str
    run: Callable[[SeededNetwork], StatisticResult] | str

    @property
    def is_built_in(self) -> bool:
        """Whether it comes with this package."""
        return isinstance(self.run, str) and self.run.startswith(f"{__name__.partition('.')[0]}.")

    def measure(self, instance: SeededNetwork) -> StatisticResult:
        """Return the result; a statistic that does not apply has its reason in it."""
        if callable(self.run):
            return self.run(instance)
        module, _, function = self.run.partition(":")
        return cast("StatisticResult", getattr(importlib.import_module(module), function)(instance))


def value(measurement: str, key: str) -> Callable[[Evidence], Outcome]:
    """Return the usual `evaluate` of a proxy: one value of one measurement."""
    return _Value(measurement, key)


@dataclass(frozen=True, slots=True)
class _Value:
    """A class and no closure: proxies cross process boundaries."""

    measurement: str
    key: str

    def __call__(self, evidence: Evidence) -> Outcome:
        found = evidence.measured.get(self.measurement)
        if found is None:
            return Outcome.inapplicable(f"{self.measurement} were not measured")
        if found.reason is not None:
            return Outcome(value=math.nan, reason=found.reason, applies=found.is_lost)
        return Outcome.of(found.values[self.key])
