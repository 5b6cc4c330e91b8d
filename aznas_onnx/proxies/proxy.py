"""The record of a proxy."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from aznas_onnx.proxies.engine.evidence import Evidence, Outcome
from aznas_onnx.proxies.engine.statistic import NetworkStatistic

__all__ = ["Direction", "Need", "Proxy"]


class Direction(str, enum.Enum):
    """Which way a proxy points."""

    HIGHER_IS_BETTER = "higher is better"
    LOWER_IS_BETTER = "lower is better"


class Need(str, enum.Enum):
    """The measurements that a proxy needs; each includes those before it."""

    GRAPH = "graph"  # counts only: no pass
    FEATURES = "features"  # a forward pass: covariance of each block's features
    GRADIENTS = "gradients"  # forward and backward: each block's vector-Jacobian product


def _no_doubt(evidence: Evidence, value: float) -> str:
    """Doubt no value."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One zero-cost proxy.

    Attributes
    ----------
    name
        Name for users and in results.
    description
        One line.
    equation
        The paper's equation.
    direction
        Which values are better.
    needs
        The measurements that it needs.
    evaluate
        Computes the proxy from the evidence of one seed.
    for_transformers
        Whether it is defined for transformers.
    uses_structure
        Whether it reads :attr:`Evidence.structure`.
    measurement
        The network statistic that it needs; proxies that name the same statistic share it.
    origin
        Authors or method, venue and year.
    requires
        What a network must have for it to apply, in words; empty for any network.
    cost
        Its cost, in words.
    fidelity
        ``"as published"``, or the adaptations; empty if unknown.
    doubt
        Returns a warning for a finite value outside the possible range of a trainable network; empty for other values.
    """

    name: str
    description: str
    equation: str
    direction: Direction
    needs: Need
    evaluate: Callable[[Evidence], Outcome]
    for_transformers: bool = True
    uses_structure: bool = False
    measurement: NetworkStatistic | None = None
    origin: str = ""
    requires: str = ""
    cost: str = ""
    fidelity: str = ""
    doubt: Callable[[Evidence, float], str] = _no_doubt

    @property
    def passes(self) -> str:
        """The pass of the proxy, in few words; proxies with the same words share it."""
        if self.measurement is not None:
            return f"own: {self.measurement.name}"
        return {
            Need.GRAPH: "none",
            Need.FEATURES: "AZ-NAS, forward half",
            Need.GRADIENTS: "AZ-NAS",
        }[self.needs]

    @property
    def is_exact(self) -> bool:
        """Whether it is the same under every seed: it follows from the graph."""
        return self.needs is Need.GRAPH and self.measurement is None
