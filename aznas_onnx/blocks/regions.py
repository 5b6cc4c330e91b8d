"""Regions: where paths leave the main path and join it again.

Every path beside the main path that leaves it at one place and joins it at another spans an interval of it. The
intervals are processed from short to long. A short interval is a region, together with all that it contains or crosses.
An interval of several blocks in a row is a long skip (the connections of a U-Net, the outer residual of a stage, the
second input of a NASNet cell, the other resolutions of an HRNet): it is no region, and the node where it joins is a
node of the chain.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from aznas_onnx.blocks.dataflow import DataGraph
from aznas_onnx.blocks.query_blocks import entered_streams
from aznas_onnx.blocks.traits import Traits, bits

__all__ = ["Division", "Merge", "Region", "divide", "merge_of"]

# Thresholds of the long skip, in weighted operators on the main path. The blocks of published networks have at most 6
# in a row; a skip over a whole plain network (VDSR, SRResNet) has 10 and more.
_LONG_CHAIN = 8
_LOWER_RESOLUTION = 4

# A lattice of paths has an interval for every two of its nodes. Published networks have hundreds at most; beyond this
# many, only the shortest are processed, and the others are long skips.
_MOST_INTERVALS = 4096
_TOO_MANY = f"more than {_MOST_INTERVALS} paths leave and join, and only the shortest are examined"


class Merge(enum.Enum):
    """How paths meet."""

    SUM = enum.auto()
    CONCAT = enum.auto()
    OTHER = enum.auto()  # products, quotients, attention, concatenation of tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """A part of the main path, with all side paths.

    - `start`, `end`: Places on the main path: the node before the paths split, and the node where the last of them
      join.
    - `nodes`: Set of the nodes after `start` up to `end`, side paths included.
    - `primary`: Whether weighted paths meet here in a sum or a concatenation of channels.
    """

    start: int
    end: int
    nodes: int
    primary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """The regions of a main path, in order and disjoint, and the places where long skips join it, with the reason."""

    regions: tuple[Region, ...]
    long_merges: Mapping[int, str]


def merge_of(data: DataGraph, index: int) -> Merge:
    """Return how paths meet in a node."""
    node = data.nodes[index]
    if node.is_op("Add", "Sum"):
        return Merge.SUM
    if node.is_op("Concat"):
        axis, rank = node.attributes.get("axis"), len(data.shape(index))
        channel_axis = data.model.layout.channel_axes.get(node.outputs[0])
        if isinstance(axis, int) and rank and axis % rank == channel_axis:
            return Merge.CONCAT
    return Merge.OTHER


def divide(data: DataGraph, traits: Traits, path: list[int], stop: int) -> Division:
    """Find the regions of the main path up to place `stop`."""
    return _Divider(data, traits, path, stop).divide()


class _Divider:
    def __init__(self, data: DataGraph, traits: Traits, path: list[int], stop: int) -> None:
        self._data = data
        self._traits = traits
        self._path = path
        self._up_to = [0]  # set of the path's nodes up to each place
        for index in path[1:]:
            self._up_to.append(self._up_to[-1] | 1 << index)
        self._total = (self._up_to[stop - 1] & traits.weighted).bit_count()
        found = _bypasses(data, path, stop)
        found |= entered_streams(data, path, stop, found)
        spans = sorted(found, key=lambda span: (span[1] - span[0], span[0]))
        self._intervals = [self._region(start, end, found[start, end]) for start, end in spans[:_MOST_INTERVALS]]
        self._left_out = [end for _, end in spans[_MOST_INTERVALS:]]

    def divide(self) -> Division:
        regions: list[Region] = []
        dropped: dict[Region, str] = {}
        for interval in self._intervals:
            touched = [region for region in regions if region.start < interval.end and region.end > interval.start]
            reason = self._why_long(interval, touched)
            if reason:
                dropped[interval] = reason
            else:
                kept = [region for region in regions if region not in touched]
                regions = [*kept, self._join(interval, touched)]
        regions.sort(key=lambda region: region.start)
        regions = [self._with_side_inputs(region, dropped) for region in regions]
        inside = {place for region in regions for place in range(region.start + 1, region.end + 1)}
        long_merges = dict.fromkeys(self._left_out, _TOO_MANY)
        long_merges |= {interval.end: reason for interval, reason in reversed(dropped.items())}  # of the shortest
        outside = {place: reason for place, reason in long_merges.items() if place not in inside}
        return Division(regions=tuple(regions), long_merges=outside)

    def _with_side_inputs(self, region: Region, dropped: Iterable[Region]) -> Region:
        """Add the nodes of a long skip that joins inside a region, as in a cell with two inputs."""
        nodes = region.nodes
        for interval in dropped:
            if region.start < interval.end <= region.end:
                nodes |= interval.nodes & ~self._up_to[-1]
        return replace(region, nodes=nodes)

    def _along(self, start: int, end: int) -> int:
        """Return the set of the path's nodes after `start` up to `end`."""
        return self._up_to[end] & ~self._up_to[start]

    def _region(self, start: int, end: int, beside: int) -> Region:
        nodes = beside | self._along(start, end)
        exit_ = self._path[end]
        primary = (
            bool(nodes & self._traits.weighted)
            and merge_of(self._data, exit_) is not Merge.OTHER
            and not self._traits.collapsed >> exit_ & 1
        )
        return Region(start=start, end=end, nodes=nodes, primary=primary)

    def _join(self, interval: Region, touched: list[Region]) -> Region:
        parts = [interval, *touched]
        start, end = min(part.start for part in parts), max(part.end for part in parts)
        nodes = self._along(start, end)
        for part in parts:
            nodes |= part.nodes
        whole = [part for part in parts if part.start == start and part.end == end]
        if not whole:  # they cross
            primary = any(part.primary for part in parts)
        else:
            primary = any(part.primary for part in whole) or any(map(self._is_substantial, touched))
        return Region(start=start, end=end, nodes=nodes, primary=primary)

    def _is_substantial(self, region: Region) -> bool:
        """Whether a region can be a block: more than a depthwise convolution with a skip."""
        if not region.primary:
            return False
        weighted = region.nodes & self._traits.weighted
        dense = weighted & ~self._traits.depthwise
        return bool(region.nodes & self._traits.products) or (dense.bit_count() >= 1 and weighted.bit_count() >= 2)

    def _why_long(self, interval: Region, touched: list[Region]) -> str:
        """Return why an interval is a long skip; empty where it is not."""
        blocks = [region for region in touched if self._counts(region, interval)]
        if any(region.start <= interval.start and interval.end <= region.end for region in blocks):
            return ""
        if len(blocks) >= 2:
            return "" if self._is_parallel(interval, blocks) else "it spans several blocks in a row"
        if blocks and self._leads_on(blocks[0], interval):
            return "it spans a block from which another path leads on beyond its end"
        if interval.nodes & self._traits.products:
            return ""
        along = self._along(interval.start, interval.end) & self._traits.weighted
        dense = (along & ~self._traits.depthwise).bit_count()
        if dense >= _LONG_CHAIN and 2 * along.bit_count() > self._total:
            return f"it spans {dense} layers in a row, and over half of the network's"
        return (
            "the path that it spans goes down in resolution and up again" if self._is_hourglass(interval, along) else ""
        )

    def _counts(self, region: Region, interval: Region) -> bool:
        """Whether a region would remain a block if `interval` were a long skip over it.

        One on a small part of the channels that `interval` adds to would not: it is a head of attention (EfficientViT).
        """
        if not self._is_substantial(region):
            return False
        if not region.nodes & self._traits.products:
            return True
        places = (region.end, interval.start, interval.end)
        inner, before, after = (self._data.channels(self._path[place]) for place in places)
        adds = merge_of(self._data, self._path[interval.end]) is Merge.SUM
        return not (adds and inner and before and after and 2 * inner < min(before, after))

    def _is_parallel(self, interval: Region, blocks: list[Region]) -> bool:
        """Whether two regions and a weighted path beside both form one cell.

        Two cells of a network whose cells read two predecessors are equal to that, but for the skips that begin or end
        between them.
        """
        first, last = min(blocks, key=lambda region: region.start), max(blocks, key=lambda region: region.end)
        beside = interval.nodes & ~self._up_to[-1] & self._traits.weighted
        spanned = first.start == interval.start and first.end == last.start and last.end == interval.end
        if len(blocks) != 2 or not spanned or beside.bit_count() < 2:
            return False
        middle = first.end
        after = any(other.start == middle and other.end > last.end for other in self._intervals)
        before = any(other.end == middle and other.start < first.start for other in self._intervals)
        return not before and not after

    def _leads_on(self, block: Region, interval: Region) -> bool:
        """Whether a path leaves after `block`, inside of `interval`, and joins beyond it.

        Then `block` is a stop for more than this interval, which spans it and part of the next block: the second
        input of a NASNet cell does.
        """
        return any(
            block.end <= other.start < interval.end < other.end and other.primary
            for other in self._intervals
            if block.end <= interval.end
        )

    def _is_hourglass(self, interval: Region, along: int) -> bool:
        """Whether the path reduces the resolution and increases it again before it joins its skip."""
        end = self._data.positions(self._path[interval.end])
        if end is None or end == 1:
            return False
        lower = [at for at in bits(along) if 2 * (self._data.positions(at) or end) <= end]
        return len(lower) >= _LOWER_RESOLUTION


def _bypasses(data: DataGraph, path: list[int], stop: int) -> dict[tuple[int, int], int]:
    """Find where side paths leave and join the main path, and the set of nodes of each."""
    places = {index: place for place, index in enumerate(path)}
    sources: dict[int, frozenset[int]] = {}  # for a side node: the places that it is reached from
    beside: dict[int, int] = {}  # and the set of side nodes that lead to it, itself included
    reached: dict[int, int] = {}  # for a place: the set of side nodes that are reached from it
    found: dict[tuple[int, int], int] = {}
    for index, parents in enumerate(data.parents):
        place = places.get(index)
        if place is None:
            through, starts = 1 << index, frozenset[int]()
            for parent in parents:
                starts |= frozenset((places[parent],)) if parent in places else sources[parent]
                through |= beside.get(parent, 0)
            sources[index], beside[index] = starts, through
            for start in starts:
                reached[start] = reached.get(start, 0) | 1 << index
        elif place < stop:
            for parent in parents:
                if parent not in places:
                    for start in sources[parent]:
                        nodes = beside[parent] & reached[start]
                        found[start, place] = found.get((start, place), 0) | nodes
                elif places[parent] != place - 1:
                    found.setdefault((places[parent], place), 0)
    return found
