"""Analyse the paths of a region, and the kind of block that they form."""

from __future__ import annotations

from functools import cached_property

from aznas_onnx.blocks.dataflow import INPUT
from aznas_onnx.blocks.operator_roles import is_linear
from aznas_onnx.blocks.path_segments import MainPath, PathSegment
from aznas_onnx.blocks.regions import Merge, merge_of
from aznas_onnx.blocks.traits import bits
from aznas_onnx.blocks.types import BlockKind
from aznas_onnx.operators.sets import POOLS

__all__ = ["RegionAnalysis"]

_PROJECTION = 2  # a path of a sum with at most this many weights, and fewer than another, only adapts the shape


class RegionAnalysis:
    """The inside of a region of the main path.

    - `network`, `item`: The region and where it is.
    """

    def __init__(self, network: MainPath, item: PathSegment) -> None:
        self._data = network.data
        self._traits = network.traits
        self._nodes = item.nodes
        self.entry = network.path[item.start]
        self.exit = network.path[item.end]
        self.merge = merge_of(network.data, self.exit)
        self.weights = bits(item.nodes & network.traits.weighted)
        along = sum(1 << at for at in network.path[item.start + 1 : item.end + 1])
        self.branch = bits(along & network.traits.weighted) or self.weights
        self._widths = (self._entry_width(), network.channels(item.end))

    def _entry_width(self) -> int | None:
        """Return the width of the entry, before it is split into parts that take different paths."""
        if self.entry != INPUT and self._data.nodes[self.entry].is_op("Split"):
            return self._data.channels(self._data.parents[self.entry][0])
        return self._data.channels(self.entry)

    @cached_property
    def paths(self) -> list[int]:
        """For each path into the exit, the set of nodes that lead to it; empty for an edge from the entry."""
        return [self._leading_to(parent) for parent in self._data.parents[self.exit]]

    @cached_property
    def _passed(self) -> set[int]:
        """The nodes that depend on the entry alone, without weights and without pooling."""
        skipped = self._traits.weighted | self._traits.products | self._traits.collapsed
        passed = {self.entry}
        for at in bits(self._nodes & ~skipped):
            if self._data.nodes[at] not in POOLS and all(parent in passed for parent in self._data.parents[at]):
                passed.add(at)
        return passed

    @cached_property
    def identity(self) -> bool:
        """Whether one path into the exit is the entry itself."""
        return self._takes_entry(self.exit)

    @cached_property
    def partial_skip(self) -> bool:
        """Whether the entry is added to a part of the channels, before all are put side by side again (ReXNet)."""
        weights = self._nodes & self._traits.weighted
        return any(
            len(self._data.parents[at]) > 1
            and merge_of(self._data, at) is Merge.SUM
            and self._takes_entry(at)
            and not weights & ~self._leading_to(at)
            for at in bits(self._nodes)
        )

    def _takes_entry(self, at: int) -> bool:
        """Whether one input of a node is the entry itself, through concatenations if need be."""
        waiting, seen = [at], {at}
        while waiting:
            for parent in self._data.parents[waiting.pop()]:
                if parent in self._passed:
                    return True
                nested = parent != INPUT and self._nodes >> parent & 1 and parent not in seen
                if nested and merge_of(self._data, parent) is Merge.CONCAT:
                    waiting.append(parent)
                    seen.add(parent)
        return False

    @cached_property
    def _depths(self) -> dict[int, int]:
        """For each node, the number of weights in a row on the way from the entry."""
        depths: dict[int, int] = {}
        for at in bits(self._nodes):
            above = (depths.get(parent, 0) for parent in self._data.parents[at])
            depths[at] = max(above, default=0) + (self._traits.weighted >> at & 1)
        return depths

    def _parallel_depths(self, at: int) -> list[int]:
        """Return the number of weights in a row on each path into a node."""
        return [self._depths.get(parent, 0) for parent in self._data.parents[at]]

    @cached_property
    def projection(self) -> bool:
        """Whether one path only adapts the shape of the input for a sum."""
        depths = self._parallel_depths(self.exit)
        return self.merge is Merge.SUM and 0 < min(depths) <= _PROJECTION and min(depths) < max(depths)

    @property
    def is_depthwise_layer(self) -> bool:
        """Whether it is a depthwise convolution, or several in parallel, with or without a skip."""
        return self.merge is Merge.SUM and not self._nodes & self._traits.weighted & ~self._traits.depthwise

    @property
    def is_pointwise_layer(self) -> bool:
        """Whether it is a sum of single pointwise convolutions, with or without a skip."""
        single = self.merge is Merge.SUM and max(self._parallel_depths(self.exit)) == 1
        return single and not self._nodes & self._traits.weighted & ~self._traits.pointwise

    @cached_property
    def kind(self) -> BlockKind:
        """The kind of block that it is."""
        if self._nodes & self._traits.products:
            return BlockKind.ATTENTION
        if self._is_recurrent():
            return BlockKind.RECURRENT
        if self._is_cell():
            return BlockKind.CELL
        if self.merge is Merge.CONCAT:
            before, after = self._widths
            if self.identity and not (before and after and after <= before):
                return BlockKind.DENSE
            if not self.identity and not self.partial_skip:
                return BlockKind.INCEPTION
        if self._is_mlp():
            return BlockKind.MLP
        return BlockKind.INVERTED_RESIDUAL if self.expansion else BlockKind.RESIDUAL

    def _is_recurrent(self) -> bool:
        """Whether the weights are recurrent layers and linear layers on each step."""
        others = self._nodes & self._traits.weighted & ~self._traits.recurrent
        return bool(self._nodes & self._traits.recurrent) and not others & ~self._traits.pointwise

    def _is_cell(self) -> bool:
        """Whether several weighted paths, none of them a mere projection, meet in sums."""
        long_paths = sum(depth > _PROJECTION for depth in self._parallel_depths(self.exit))
        if self.merge is Merge.SUM and not self.identity and long_paths > 1:
            return True
        inner = bits(self._nodes & ~(1 << self.exit))
        return any(self._adds_parallel_operations(at) for at in inner if len(self._data.parents[at]) > 1)

    def _adds_parallel_operations(self, at: int) -> bool:
        if merge_of(self._data, at) is not Merge.SUM:
            return False
        paths = [self._leading_to(parent) & self._traits.weighted for parent in self._data.parents[at]]
        weighted = [path for path in paths if path]
        shared = weighted[0] if weighted else 0
        for path in weighted[1:]:
            shared &= path
        if len(weighted) < 2 or shared or max(self._parallel_depths(at)) < 2:
            return False  # single operations side by side are one convolution in disguise (RepVGG)
        return any(path & ~self._traits.depthwise for path in weighted)

    def _is_mlp(self) -> bool:
        """Whether the branch works on each position by itself, or is linear layers around a depthwise convolution."""
        dense = [at for at in self.weights if not self._traits.depthwise >> at & 1]
        if not dense or not all(self._traits.pointwise >> at & 1 for at in dense):
            return False
        if len(dense) == len(self.weights):
            return True
        ends_linear = all(is_linear(self._data.nodes[at]) for at in (self.branch[0], self.branch[-1]))
        return ends_linear and all(is_linear(self._data.nodes[at]) for at in dense)

    @cached_property
    def expansion(self) -> int | None:
        """Width at which an inverted residual works between its expansion and its projection, else None."""
        *inner, last = self.branch
        spatial = [at for at in inner if not self._traits.pointwise >> at & 1]
        if not spatial or not self._traits.pointwise >> last & 1:
            return None
        width = max(self._data.channels(at) or 0 for at in spatial)
        arriving = [self._data.channels(parent) for parent in self._data.parents[last]]
        if arriving and all(channels and 2 * channels <= width for channels in arriving):
            return None  # half of it gates the other half (WaveNet)
        wide = width > max(self._widths[0] or 0, self._data.channels(last) or 0)
        depthwise = all(self._traits.depthwise >> at & 1 for at in spatial)
        if wide:
            return width if depthwise or len(spatial) == 1 else None
        return width if depthwise and len(inner) == 1 else None  # the first block of MobileNetV2 does not expand

    def _leading_to(self, last: int) -> int:
        return self._data.leading_to(last, self._nodes)
