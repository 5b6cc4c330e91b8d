"""The main path as a sequence of segments: weights, regions, and the nodes between them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aznas_onnx.blocks.dataflow import INPUT, DataGraph
from aznas_onnx.blocks.operator_roles import OperatorRole, role_of
from aznas_onnx.blocks.regions import Division, Merge, Region, merge_of
from aznas_onnx.blocks.traits import Traits, bits
from aznas_onnx.operators.sets import ARITHMETIC, MATRIX_PRODUCTS, POOLS, REDUCTIONS, SELECTS

__all__ = ["PathSegment", "SegmentKind", "MainPath", "segments_of"]


class SegmentKind(enum.Enum):
    """The kind of a segment of the main path."""

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
    OperatorRole.WEIGHT: SegmentKind.WEIGHT,
    OperatorRole.NORM: SegmentKind.NORM,
    OperatorRole.ACTIVATION: SegmentKind.ACTIVATION,
    OperatorRole.POOL: SegmentKind.POOL,
    OperatorRole.AFFINE: SegmentKind.AFFINE,
    OperatorRole.SHAPE: SegmentKind.SHAPE,
    OperatorRole.OTHER: SegmentKind.OTHER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSegment:
    """One node of the main path, or a region of it.

    - `start`, `end`: Places on the main path; the item's nodes are those after `start` up to `end`.
    - `nodes`: Set of its nodes.
    """

    kind: SegmentKind
    start: int
    end: int
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MainPath:
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
        """Whether a block can end at a place of the main path."""
        index = self.path[place]
        if index == INPUT or self.traits.collapsed >> index & 1:
            return False
        shape = self.data.shape(index)
        if self.data.channels(index) is None or len(shape) < 2:
            return False
        return len(self.data.made(index)) == 1 or bool(self.traits.recurrent >> index & 1)

    def keeps_batch(self, place: int) -> bool:
        """Whether samples are separate at a place of the main path."""
        return self.data.model.keeps_batch(self.data.tensor(self.path[place]))


def segments_of(network: MainPath, division: Division) -> list[PathSegment]:
    """List the items of the main path up to its stop."""
    starts = {region.start: region for region in division.regions}
    items: list[PathSegment] = []
    place = 0
    while place < network.stop - 1:
        region = starts.get(place)
        if region is not None:
            items.append(
                PathSegment(kind=_region_kind(network, region), start=place, end=region.end, nodes=region.nodes)
            )
            place = region.end
        else:
            kind = _node_kind(network, place + 1, division.long_merges)
            items.append(PathSegment(kind=kind, start=place, end=place + 1, nodes=1 << network.path[place + 1]))
            place += 1
    return items


def _node_kind(network: MainPath, place: int, long_merges: Mapping[int, str]) -> SegmentKind:
    index = network.path[place]
    if place in long_merges:
        return {Merge.SUM: SegmentKind.SUM, Merge.CONCAT: SegmentKind.CONCAT, Merge.OTHER: SegmentKind.OTHER}[
            merge_of(network.data, index)
        ]
    if not network.traits.weighted >> index & 1 and network.traits.collapsed >> index & 1:
        return SegmentKind.OTHER
    return _OF_ROLE[role_of(network.data.nodes[index], network.data.graph)]


def _region_kind(network: MainPath, region: Region) -> SegmentKind:
    """Separate blocks from gates, decomposed activations and normalisations, and data movement."""
    data, traits = network.data, network.traits
    weighted = region.nodes & traits.weighted
    if weighted:
        if is_grouped(network, region):
            return SegmentKind.WEIGHT
        if region.primary:
            return SegmentKind.REGION
        if _renews_token(network, region):
            return SegmentKind.OTHER
        gates = data.nodes[network.path[region.end]] in ARITHMETIC
        dense = (weighted & ~traits.depthwise).bit_count()
        return SegmentKind.GATE if gates and dense <= 1 and not region.nodes & traits.products else SegmentKind.WEIGHT
    if region.nodes & traits.products:
        return SegmentKind.WEIGHT
    members = [data.nodes[at] for at in bits(region.nodes)]
    if any(role_of(node, data.graph) is OperatorRole.WEIGHT for node in members):
        return SegmentKind.GATE
    if any(node in REDUCTIONS for node in members):
        scales = any(node.is_op("Sqrt", "Pow", "Reciprocal", "Div") for node in members)
        return SegmentKind.NORM if scales else SegmentKind.OTHER
    joins = merge_of(data, network.path[region.end]) is Merge.CONCAT
    if joins or any(node in SELECTS or node.is_op("Concat", "Pad") for node in members):
        return SegmentKind.SHAPE
    if any(node in POOLS or node in MATRIX_PRODUCTS for node in members):
        return SegmentKind.OTHER
    return SegmentKind.ACTIVATION


def _renews_token(network: MainPath, region: Region) -> bool:
    """Whether a region only computes a new class token and joins it to the other tokens."""
    data = network.data
    exit_ = network.path[region.end]
    if not data.nodes[exit_].is_op("Concat") or merge_of(data, exit_) is not Merge.OTHER:
        return False
    inputs = [name for name in data.nodes[exit_].inputs if name in data.infos]
    others = [parent for parent in data.parents[exit_] if parent == INPUT or data.positions(parent) != 1]
    weighted = any(data.leading_to(parent, region.nodes) & network.traits.weighted for parent in others)
    return any(data.positions_of(name) == 1 for name in inputs) and bool(others) and not weighted


def is_grouped(network: MainPath, region: Region) -> bool:
    """Whether a region is one convolution written group by group: slices, a convolution each, a concatenation."""
    data = network.data
    exit_ = network.path[region.end]
    weighted = region.nodes & network.traits.weighted
    if merge_of(data, exit_) is not Merge.CONCAT or weighted.bit_count() != len(data.parents[exit_]):
        return False
    return all(_is_one_group(network, region, parent) for parent in data.parents[exit_])


def _is_one_group(network: MainPath, region: Region, at: int) -> bool:
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
            first = data.nodes[at] in SELECTS
            return weights == 1 and (first or (entry != INPUT and data.nodes[entry].is_op("Split")))
        at = parents[0]
    return False
