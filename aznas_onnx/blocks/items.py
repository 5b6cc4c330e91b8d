"""The main path as a sequence of items: weights, regions, and what stands between them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from aznas_onnx.blocks.dataflow import INPUT, DataGraph
from aznas_onnx.blocks.operators import Role, role_of
from aznas_onnx.blocks.regions import Division, Merge, Region, merge_of
from aznas_onnx.blocks.traits import Traits, bits

__all__ = ["Item", "Kind", "Network", "itemise"]


class Kind(enum.Enum):
    """What an item of the main path is."""

    REGION = enum.auto()
    WEIGHT = enum.auto()
    NORM = enum.auto()
    ACTIVATION = enum.auto()
    GATE = enum.auto()  # squeeze-and-excitation and its kin
    POOL = enum.auto()
    AFFINE = enum.auto()
    SUM = enum.auto()  # where a long skip joins
    CONCAT = enum.auto()  # likewise
    SHAPE = enum.auto()
    OTHER = enum.auto()


_OF_ROLE = {
    Role.WEIGHT: Kind.WEIGHT,
    Role.NORM: Kind.NORM,
    Role.ACTIVATION: Kind.ACTIVATION,
    Role.POOL: Kind.POOL,
    Role.AFFINE: Kind.AFFINE,
    Role.SHAPE: Kind.SHAPE,
    Role.OTHER: Kind.OTHER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One node of the main path, or a region of it.

    Attributes
    ----------
    start, end
        Places on the main path; the item's nodes are those after `start` up to `end`.
    nodes
        Set of its nodes.
    """

    kind: Kind
    start: int
    end: int
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A data graph with its traits, its main path, and the place where its positions end."""

    data: DataGraph
    traits: Traits
    path: tuple[int, ...]
    stop: int

    def node(self, place: int) -> int:
        """Return the node at a place of the main path."""
        return self.path[place]

    def channels(self, place: int) -> int | None:
        """Return the width at a place of the main path."""
        return self.data.channels(self.path[place])

    def positions(self, place: int) -> int | None:
        """Return the positions at a place of the main path."""
        return self.data.positions(self.path[place])

    def is_feature_map(self, place: int) -> bool:
        """Whether a block may end at a place of the main path."""
        index = self.path[place]
        if index == INPUT or self.traits.collapsed >> index & 1:
            return False
        shape = self.data.shape(index)
        if self.data.channels(index) is None or len(shape) < 2:
            return False
        return len(self.data.made(index)) == 1 or bool(self.traits.recurrent >> index & 1)

    def keeps_batch(self, place: int) -> bool:
        """Whether samples are apart at a place of the main path."""
        return self.data.model.keeps_batch(self.data.tensor(self.path[place]))


def itemise(network: Network, division: Division) -> list[Item]:
    """List the items of the main path up to its stop."""
    starts = {region.start: region for region in division.regions}
    items: list[Item] = []
    place = 0
    while place < network.stop - 1:
        region = starts.get(place)
        if region is not None:
            items.append(Item(kind=_region_kind(network, region), start=place, end=region.end, nodes=region.nodes))
            place = region.end
        else:
            kind = _node_kind(network, place + 1, division.long_merges)
            items.append(Item(kind=kind, start=place, end=place + 1, nodes=1 << network.path[place + 1]))
            place += 1
    return items


def _node_kind(network: Network, place: int, long_merges: frozenset[int]) -> Kind:
    index = network.path[place]
    if place in long_merges:
        return {Merge.SUM: Kind.SUM, Merge.CONCAT: Kind.CONCAT, Merge.OTHER: Kind.OTHER}[merge_of(network.data, index)]
    if not network.traits.weighted >> index & 1 and network.traits.collapsed >> index & 1:
        return Kind.OTHER
    return _OF_ROLE[role_of(network.data.nodes[index], network.data.graph)]


def _region_kind(network: Network, region: Region) -> Kind:
    """Tell blocks from gates, decomposed activations and normalisations, and mere reshuffling."""
    data, traits = network.data, network.traits
    weighted = region.nodes & traits.weighted
    if weighted:
        if is_grouped(network, region):
            return Kind.WEIGHT
        if region.primary:
            return Kind.REGION
        if _renews_token(network, region):
            return Kind.OTHER
        gates = data.nodes[network.path[region.end]].is_op("Mul", "Div", "Add", "Sub")
        dense = (weighted & ~traits.depthwise).bit_count()
        return Kind.GATE if gates and dense <= 1 and not region.nodes & traits.products else Kind.WEIGHT
    if region.nodes & traits.products:
        return Kind.WEIGHT
    members = [data.nodes[at] for at in bits(region.nodes)]
    if any(role_of(node, data.graph) is Role.WEIGHT for node in members):
        return Kind.GATE
    operators = {node.op_type for node in members}
    if any(name.startswith("Reduce") for name in operators):
        return Kind.NORM if operators & {"Sqrt", "Pow", "Reciprocal", "Div"} else Kind.OTHER
    if merge_of(data, network.path[region.end]) is Merge.CONCAT or operators & {"Concat", "Pad", "Slice", "Split"}:
        return Kind.SHAPE
    if operators & {"MaxPool", "AveragePool", "MatMul", "Gemm", "Einsum"}:
        return Kind.OTHER
    return Kind.ACTIVATION


def _renews_token(network: Network, region: Region) -> bool:
    """Whether a region only computes a new class token and puts it back beside the other tokens."""
    data = network.data
    exit_ = network.path[region.end]
    if not data.nodes[exit_].is_op("Concat") or merge_of(data, exit_) is not Merge.OTHER:
        return False
    inputs = [name for name in data.nodes[exit_].inputs if name in data.facts]
    others = [parent for parent in data.parents[exit_] if parent == INPUT or data.positions(parent) != 1]
    weighted = any(data.leading_to(parent, region.nodes) & network.traits.weighted for parent in others)
    return any(data.positions_of(name) == 1 for name in inputs) and bool(others) and not weighted


def is_grouped(network: Network, region: Region) -> bool:
    """Whether a region is one convolution written group by group: slices, a convolution each, a concatenation."""
    data = network.data
    exit_ = network.path[region.end]
    weighted = region.nodes & network.traits.weighted
    if merge_of(data, exit_) is not Merge.CONCAT or weighted.bit_count() != len(data.parents[exit_]):
        return False
    return all(_is_one_group(network, region, parent) for parent in data.parents[exit_])


def _is_one_group(network: Network, region: Region, at: int) -> bool:
    """Walk back from an input of the concatenation: one weight on the way, and a slice at its beginning."""
    data = network.data
    entry = network.path[region.start]
    weights = 0
    while at != INPUT and region.nodes >> at & 1:
        weights += network.traits.weighted >> at & 1
        parents: Sequence[int] = data.parents[at]
        if len(parents) != 1:
            return False
        if parents[0] == entry:
            first = data.nodes[at].is_op("Slice", "Split", "Gather")
            return weights == 1 and (first or (entry != INPUT and data.nodes[entry].is_op("Split")))
        at = parents[0]
    return False
