"""The evidence of one pass, as Python numbers: the input of every proxy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aznas_onnx.structure import Structure

__all__ = ["BlockEvidence", "Evidence", "StatisticResult", "Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEvidence:
    """The measurements at one primary block.

    Attributes
    ----------
    name
        The block's name.
    entropy
        Entropy of the normalised eigenvalues of the feature covariance (Eq. 3), in nats; NaN where the features
        have none; None where it was not measured.
    is_singular
        Whether rounding made eigenvalues so negative that the logarithm of the published code is undefined.
    directions
        Number of eigenvalues: channels, or samples where these are fewer; None where they were not measured.
    variance
        Sum of the eigenvalues: 0 for a constant feature map, not finite where activations overflowed.
    sigma
        Spectral norm of the block's estimated Jacobian (Eq. 10); None where it was not measured, as always at the first
        block.
    is_identity
        Whether the gradients at input and output are equal.
    unmeasured
        The reason why `sigma` is None, in words for the user; empty at the first block.
    """

    name: str
    entropy: float | None = None
    is_singular: bool = False
    directions: int | None = None
    variance: float | None = None
    sigma: float | None = None
    is_identity: bool = False
    unmeasured: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticResult:
    """The result of one network statistic.

    Attributes
    ----------
    values
        Numbers by name; any float.
    reason
        The reason why there are no values, in words for the user.
    is_lost
        Whether the statistic is defined for this network and failed, so that its proxies rank the network lowest. With
        a reason and without `is_lost` it is not defined for the network.
    """

    values: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    reason: str | None = None
    is_lost: bool = False

    def __post_init__(self) -> None:
        if bool(self.values) == (self.reason is not None):
            raise ValueError("a measurement has either values or a reason for having none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence on one network under one seed.

    Attributes
    ----------
    blocks
        In dataflow order; entropies and sigmas only where a proxy needed them.
    macs, params
        MACs of one sample; parameters of the network.
    is_transformer
        Whether attention and MLP residuals make up the network.
    as_published
        Whether features with a singular covariance have no entropy, as in the published code, instead of a low one.
    structure
        The structure of the graph; None where no proxy needs it.
    measured
        Results of the requested network statistics, by name.
    """

    blocks: tuple[BlockEvidence, ...]
    macs: int
    params: int
    is_transformer: bool = False
    as_published: bool = False
    structure: Structure | None = None
    measured: Mapping[str, StatisticResult] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One proxy of one network under one seed.

    Attributes
    ----------
    value
        Any float; not finite where the proxy has no value.
    reason
        The reason why it is not finite, in words for the user; None for a finite value.
    warnings
        Warnings about a finite value.
    applies
        False where the proxy is not defined for this network (ReLU patterns in a network without ReLU): it is then left
        out of a ranking, instead of ranking lowest.
    """

    value: float
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    applies: bool = True

    @classmethod
    def of(cls, value: float) -> Outcome:
        """Return the outcome that a number is: without a value where it is not finite."""
        if math.isfinite(value):
            return cls(value=value)
        return cls(value=value, reason="the value is not a number" if math.isnan(value) else "the value is infinite")

    @classmethod
    def inapplicable(cls, reason: str) -> Outcome:
        """Return the outcome of a proxy that is not defined for a network, and why."""
        return cls(value=math.nan, reason=reason, applies=False)
