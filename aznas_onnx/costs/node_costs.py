"""Results of counting."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Costs", "CountStatus", "NodeCost"]


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
    """Costs of a model, or of some of its nodes."""

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
        """Bytes of all outputs of the nodes that compute, for one sample in float32."""
        return sum(node.activation_bytes for node in self.nodes)

    @property
    def unsupported(self) -> Mapping[str, int]:
        """Operators whose MACs are unknown, and how many nodes have each."""
        found: dict[str, int] = {}
        for node in self.nodes:
            if node.status is CountStatus.UNSUPPORTED:
                found[node.operator] = found.get(node.operator, 0) + 1
        return found

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which operators the MACs leave out, a sentence for each."""
        return tuple(
            f"the multiply-adds of {number} {operator} nodes are unknown and left out of macs"
            for operator, number in self.unsupported.items()
        )

    def of(self, nodes: Collection[str]) -> Costs:
        """Return the costs of the nodes whose names are in `nodes`, such as those of a block."""
        wanted = frozenset(nodes)
        return Costs(nodes=tuple(node for node in self.nodes if node.node in wanted))

    def by_operator(self) -> Mapping[str, Costs]:
        """Return the costs of each operator, those with most MACs first."""
        grouped: dict[str, list[NodeCost]] = {}
        for node in self.nodes:
            grouped.setdefault(node.operator, []).append(node)
        return _largest_first((operator, Costs(nodes=tuple(nodes))) for operator, nodes in grouped.items())


def _largest_first(groups: Iterable[tuple[str, Costs]]) -> Mapping[str, Costs]:
    return dict(sorted(groups, key=lambda group: (-group[1].macs, -group[1].params, group[0])))
