"""What is inside a region: its paths, and the kind of block that they make."""

from __future__ import annotations

from functools import cached_property

from aznas_onnx.blocks.dataflow import INPUT
from aznas_onnx.blocks.items import Item, Network
from aznas_onnx.blocks.operators import is_linear
from aznas_onnx.blocks.regions import Merge, merge_of
from aznas_onnx.blocks.traits import bits
from aznas_onnx.blocks.types import BlockKind

__all__ = ["Inside"]

_PROJECTION = 2  # a path of a sum with at most this many weights, and fewer than another, only adapts the shape


class Inside:
    """The inside of a region of the main path.

    Parameters
    ----------
    network, item
        The region and where it is.
    """

    def __init__(self, network: Network, item: Item) -> None:
        self._data = network.data
        self._traits = network.traits
        self._nodes = item.nodes
        self.entry = network.path[item.start]
        self.exit = network.path[item.end]
        self.merge = merge_of(network.data, self.exit)
        self.weights = bits(item.nodes & network.traits.weighted)
        along = sum(1 << at for at in network.path[item.start + 1 : item.end + 1])
        self.branch = bits(along & network.traits.weighted) or self.weights
        self._widths = (network.channels(item.start), network.channels(item.end))

    @cached_property
    def paths(self) -> list[int]:
        """For each path into the exit, the set of nodes that lead to it; empty for an edge from the entry."""
        return [self._leading_to(parent) for parent in self._data.parents[self.exit]]

    @cached_property
    def identity(self) -> bool:
        """Whether the entry reaches the exit without weights and without pooling."""
        skipped = self._traits.weighted | self._traits.products | self._traits.collapsed
        passed = {self.entry}
        for at in bits(self._nodes & ~skipped):
            pools = self._data.nodes[at].is_op("MaxPool", "AveragePool", "LpPool")
            if not pools and any(parent in passed for parent in self._data.parents[at]):
                passed.add(at)
        return self.exit in passed

    @cached_property
    def projection(self) -> bool:
        """Whether one path only adapts the shape of the input for a sum."""
        counts = [(path & self._traits.weighted).bit_count() for path in self.paths]
        return self.merge is Merge.SUM and 0 < min(counts) <= _PROJECTION and min(counts) < max(counts)

    @property
    def is_depthwise(self) -> bool:
        """Whether all its weights are depthwise."""
        return not self._nodes & self._traits.weighted & ~self._traits.depthwise

    @cached_property
    def kind(self) -> BlockKind:
        """The kind of block that it is."""
        if self._nodes & self._traits.products:
            return BlockKind.ATTENTION
        if self._is_cell():
            return BlockKind.CELL
        if self.merge is Merge.CONCAT:
            return self._concatenation()
        if self._is_mlp():
            return BlockKind.MLP
        return BlockKind.INVERTED_RESIDUAL if self.expansion else BlockKind.RESIDUAL

    def _is_cell(self) -> bool:
        """Whether several weighted paths, none of them a mere projection, meet in sums."""
        if self.merge is Merge.SUM and not self.identity:
            counts = [(path & self._traits.weighted).bit_count() for path in self.paths]
            if sum(count > _PROJECTION for count in counts) > 1:
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
        return len(weighted) > 1 and not shared and any(path & ~self._traits.depthwise for path in weighted)

    def _concatenation(self) -> BlockKind:
        if not self.identity:
            return BlockKind.INCEPTION
        before, after = self._widths
        grows = before is None or after is None or after > before
        return BlockKind.DENSE if grows else BlockKind.RESIDUAL

    def _is_mlp(self) -> bool:
        """Whether the branch works on each position by itself, or is linear layers around a depthwise convolution."""
        dense = [at for at in self.branch if not self._traits.depthwise >> at & 1]
        if not dense or not all(self._traits.pointwise >> at & 1 for at in dense):
            return False
        if len(dense) == len(self.branch):
            return True
        ends_linear = all(is_linear(self._data.nodes[at]) for at in (self.branch[0], self.branch[-1]))
        return ends_linear and all(is_linear(self._data.nodes[at]) for at in dense)

    @cached_property
    def expansion(self) -> int | None:
        """Width at which an inverted residual works between its expansion and its projection, else None."""
        *inner, last = self.branch
        entry = self._widths[0] or 0
        if not self._traits.pointwise >> last & 1 or not inner:
            return None
        widths = {at: self._data.channels(at) or 0 for at in inner}
        depthwise = [widths[at] for at in inner if self._traits.depthwise >> at & 1]
        if depthwise and (max(depthwise) > entry or len(inner) == 1):
            return max(depthwise)
        fused = len(inner) == 1 and not self._traits.pointwise >> inner[0] & 1
        if fused and widths[inner[0]] > max(entry, self._data.channels(last) or 0):
            return widths[inner[0]]
        return None

    def _leading_to(self, last: int) -> int:
        """Return the set of the region's nodes that lead to `last`, itself included."""
        if last == INPUT or not self._nodes >> last & 1:
            return 0
        found, waiting = 1 << last, [last]
        while waiting:
            for parent in self._data.parents[waiting.pop()]:
                if parent != INPUT and self._nodes >> parent & 1 and not found >> parent & 1:
                    found |= 1 << parent
                    waiting.append(parent)
        return found
