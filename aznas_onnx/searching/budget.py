"""Budgets of a search, checked from the genotype alone."""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aznas_onnx.counts import format_count, read_count
from aznas_onnx.documents import JsonObject
from aznas_onnx.errors import SettingsError
from aznas_onnx.latency import Latency
from aznas_onnx.spaces import Space

__all__ = ["Budget", "Cost", "CountConvention", "Limit"]

G = TypeVar("G", bound=Hashable)


class CountConvention(str, enum.Enum):
    """Whose multiply-adds the budget limits and the complexity proxy ranks."""

    GRAPH = "graph"  # those of the ONNX graph, as `aznas inspect` counts them
    PAPER = "paper"  # the FLOPs of the paper's own code for the space, quirks included


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The counts and the latency of a candidate.

    Attributes
    ----------
    macs
        Multiply-adds of one sample in the graph.
    params
        Trainable parameters.
    layers
        Layers, as the space counts them.
    paper_flops
        `macs` in the convention of the paper's authors; None where the space has none.
    latency_ms
        Milliseconds in ONNX Runtime; None where the budget does not limit them.
    """

    macs: int
    params: int
    layers: int
    paper_flops: int | None = None
    latency_ms: float | None = None

    @classmethod
    def of(cls, space: Space[G], genotype: G) -> Cost:
        """Count a genotype."""
        return cls(
            macs=space.macs(genotype),
            params=space.params(genotype),
            layers=space.layers(genotype),
            paper_flops=space.paper_flops(genotype),
        )

    def counted(self, convention: CountConvention) -> int:
        """Return the multiply-adds by a convention that the space has."""
        if convention is CountConvention.GRAPH:
            return self.macs
        assert self.paper_flops is not None
        return self.paper_flops


@dataclass(frozen=True, slots=True)
class Limit:
    """A closed range; an end that is None is open, and one such as ``"600M"`` is read as a count."""

    minimum: int | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        for name in ("minimum", "maximum"):
            end = read_count(f"{name} of a budget", getattr(self, name))
            object.__setattr__(self, name, end)
            if end is not None and end < 0:
                raise SettingsError(f"a budget of {end} is negative; write a count such as 600M")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise SettingsError(
                f"a budget from {self.minimum:,} to {self.maximum:,} admits nothing; write the smaller end first"
            )

    @property
    def is_open(self) -> bool:
        """Whether every value is admitted."""
        return self.minimum is None and self.maximum is None

    def admits(self, value: int) -> bool:
        """Whether `value` lies within the range."""
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def distance(self, value: int) -> int:
        """Return how far `value` lies outside; 0 inside."""
        below = 0 if self.minimum is None else max(0, self.minimum - value)
        above = 0 if self.maximum is None else max(0, value - self.maximum)
        return below + above

    def __str__(self) -> str:
        low, high = (None if end is None else format_count(end) for end in (self.minimum, self.maximum))
        if low is None:
            return "any" if high is None else f"at most {high}"
        return f"at least {low}" if high is None else f"{low} to {high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits on every candidate; a count in place of a :class:`Limit`, such as ``"600M"``, is its maximum.

    Attributes
    ----------
    macs
        Multiply-adds of one sample, by the study's counting convention.
    params, layers
        Trainable parameters, and layers as the space counts them.
    latency_ms
        Maximal milliseconds of one sample, as measured by :func:`aznas_onnx.latency.measure`; or None.

    Examples
    --------
    >>> print(Budget(macs=Limit(maximum=600_000_000), layers=Limit(maximum=14)))
    MACs at most 600M, layers at most 14
    """

    macs: Limit = field(default_factory=Limit)
    params: Limit = field(default_factory=Limit)
    layers: Limit = field(default_factory=Limit)
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits():
            given: object = limit
            if not isinstance(given, Limit):
                object.__setattr__(self, name, Limit(maximum=read_count(name, given)))
        if self.latency_ms is not None and not (math.isfinite(self.latency_ms) and self.latency_ms > 0):
            raise SettingsError(
                f"a latency of {self.latency_ms:g} ms admits nothing; give a finite number of milliseconds above 0"
            )

    def keeps_latency(self, latency: Latency) -> bool:
        """Whether a latency is within the limit, if there is one."""
        return self.latency_ms is None or latency.ms <= self.latency_ms

    def limits(self) -> Iterator[tuple[str, Limit]]:
        """Yield name and limit of each count, open ones included."""
        yield "macs", self.macs
        yield "params", self.params
        yield "layers", self.layers

    def as_json(self) -> JsonObject:
        """Return the limits of counts as lists of [minimum, maximum], and that of latency, if any, as a number."""
        ends: dict[str, Any] = {name: [limit.minimum, limit.maximum] for name, limit in self.limits()}
        return ends if self.latency_ms is None else {**ends, "latency_ms": self.latency_ms}

    @classmethod
    def from_json(cls, data: JsonObject) -> Budget:
        """Read back what :meth:`as_json` wrote."""
        counts = {name: Limit(*ends) for name, ends in data.items() if name != "latency_ms"}
        return cls(**counts, latency_ms=data.get("latency_ms"))

    def __str__(self) -> str:
        parts = [f"{LABELS[name]} {limit}" for name, limit in self.limits() if not limit.is_open]
        parts += [] if self.latency_ms is None else [f"latency at most {self.latency_ms:g} ms"]
        return ", ".join(parts) or "no limits"


LABELS: Mapping[str, str] = {"macs": "MACs", "params": "parameters", "layers": "layers"}
