"""Multiply-adds, parameters and activation sizes, per node, per operator and per block.

One MAC is one multiply-add. Counts are for one sample, whatever the batch size of the facts.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from aznas_onnx.graph.model import Model

__all__ = ["CountStatus", "Costs", "NodeCost", "count"]


class CountStatus(str, enum.Enum):
    """How an operator's MACs came about."""

    COUNTED = "counted"
    ZERO = "zero"  # by declaration: no multiply-adds in the convention of the literature (fvcore, thop)
    UNSUPPORTED = "unsupported"  # shown, never silently zero


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """Cost of one node for one sample; `params` are trainable elements that this node is the first to read."""

    node: str
    operator: str
    status: CountStatus
    macs: int
    params: int
    activation_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of a model."""

    nodes: tuple[NodeCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds of one sample."""
        return sum(node.macs for node in self.nodes)

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(node.params for node in self.nodes)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all outputs of the nodes that compute, for one sample in the file's dtype."""
        return sum(node.activation_bytes for node in self.nodes)

    @property
    def unsupported(self) -> Mapping[str, int]:
        """Operators whose MACs are unknown, and how many nodes have each."""
        found: dict[str, int] = {}
        for node in self.nodes:
            if node.status is CountStatus.UNSUPPORTED:
                found[node.operator] = found.get(node.operator, 0) + 1
        return found


def count(model: Model) -> Costs:
    """Count a model."""
    raise NotImplementedError
