"""The result of scoring: the proxies of one model, as values and statuses."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import printable

__all__ = ["ProxyScores", "ProxyValue", "Status"]


class Status(str, enum.Enum):
    """Whether a model was scored."""

    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyValue:
    """One proxy of one model, over seeds.

    Attributes
    ----------
    mean
        Mean over seeds, higher is better; None where the proxy is not finite or does not apply.
    stderr
        Standard error of the mean; None for one seed or an exact proxy.
    per_seed
        The value for each seed, in seed order; not finite where that seed has none.
    reason
        The reason why `mean` is None; None where it is a number.
    applies
        False where the proxy is not defined for this kind of network (progressivity of a transformer): the ranking then
        leaves it out, instead of ranking the network lowest.
    """

    mean: float | None
    stderr: float | None = None
    per_seed: tuple[float, ...] = ()
    reason: str | None = None
    applies: bool = True

    def __post_init__(self) -> None:
        if (self.mean is None) == (self.reason is None):
            raise ValueError("a proxy has either a mean or a reason for having none")
        if self.mean is not None and not math.isfinite(self.mean):
            raise ValueError(f"the mean of a proxy is finite or None, not {self.mean}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyScores:
    """The result of scoring one model.

    Attributes
    ----------
    model
        The path as given, or the model's name.
    status, reason
        `reason` is None where the status is ok, else one sentence for the user.
    proxies
        By name: ``expressivity``, ``progressivity``, ``trainability``, ``macs`` and any further requested ones.
    macs, params
        Multiply-adds of one sample, and trainable parameters; None where the model failed.
    blocks
        Number of primary blocks.
    elapsed_s
        Wall-clock seconds for reading, converting and scoring.
    changes, warnings
        Changes of the graph before scoring, and warnings, in words for the user.
    profile_s
        Seconds by phase; empty unless requested.
    design
        Traits of the network's design (:mod:`aznas_onnx.structure.design`); empty where the model failed.
    """

    model: str
    status: Status
    reason: str | None = None
    proxies: Mapping[str, ProxyValue] = field(default_factory=lambda: MappingProxyType({}))
    macs: int | None = None
    params: int | None = None
    blocks: int | None = None
    elapsed_s: float = 0.0
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    profile_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    design: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def named(self, sentence: str) -> str:
        """Return a sentence about this model, such as its reason or a warning, so that it names the model once."""
        return sentence if self.model in sentence or printable(self.model) in sentence else f"{self.model}: {sentence}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes, which read-only mappings do not."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return _restored, ({**values, **{name: dict(values[name]) for name in _MAPPINGS}},)


_MAPPINGS = ("proxies", "profile_s", "design")


def _restored(values: JsonObject) -> ProxyScores:
    mappings = {name: MappingProxyType(values[name]) for name in _MAPPINGS}
    return ProxyScores(**{**values, **mappings})
