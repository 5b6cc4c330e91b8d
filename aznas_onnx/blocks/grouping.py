"""Group the segments of the main path into blocks, and find where each ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aznas_onnx.blocks.operator_roles import is_weighted
from aznas_onnx.blocks.path_segments import MainPath, PathSegment, SegmentKind
from aznas_onnx.blocks.region_analysis import RegionAnalysis
from aznas_onnx.blocks.regions import Merge
from aznas_onnx.blocks.types import BlockKind

__all__ = ["Part", "group"]

_HEAVY = (SegmentKind.WEIGHT, SegmentKind.REGION)
_LONGEST_STEM = 6  # weights before the first body block; a longer chain is a separate network

# Weights in a row, a letter each: depthwise (D activated, d not), pointwise (P, or L not activated), attention (A),
# other (K, k).
_INVERTED = re.compile("d?P[Dd]L|dPL|[Dd]L")
_FUSED = re.compile("P?KL")
_SEPARABLE = re.compile("[Dd]P")
_ATTENTION = re.compile("[PL]?A[PL]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of the main path that becomes a block.

    - `kind`: None for a region, whose kind follows from its analysis.
    - `heavy`: The segments with its weights.
    - `start`, `end`: Places on the main path: the end of the part before, and the block's output.
    """

    kind: BlockKind | None
    heavy: tuple[PathSegment, ...]
    start: int
    end: int

    @property
    def region(self) -> PathSegment | None:
        """The region of this part, if it has one."""
        return next((item for item in self.heavy if item.kind is SegmentKind.REGION), None)


def group(network: MainPath, items: Sequence[PathSegment]) -> list[Part]:
    """Divide the items into parts, in order."""
    return _Grouping(network, items).run()


def _next_of(kinds: Sequence[SegmentKind], items: Sequence[PathSegment]) -> list[int]:
    """For each item, where the next one of these kinds is; the number of items where none follows."""
    found = [len(items)] * len(items)
    for at in range(len(items) - 1, 0, -1):
        found[at - 1] = at if items[at].kind in kinds else found[at]
    return found


@dataclass(frozen=True, slots=True)
class _Cluster:
    """Weights of one block, as indices of segments; the kind is None until the neighbours are known."""

    members: tuple[int, ...]
    kind: BlockKind | None = None


class _Grouping:
    def __init__(self, network: MainPath, items: Sequence[PathSegment]) -> None:
        self._network = network
        self._items = items
        self._heavy_after = _next_of(_HEAVY, items)
        self._inside = {
            index: RegionAnalysis(network, item) for index, item in enumerate(items) if item.kind is SegmentKind.REGION
        }
        sums = [index for index, inside in self._inside.items() if inside.merge is Merge.SUM]
        activated = [index for index in sums if self._kind(index + 1) is SegmentKind.ACTIVATION]
        self._sums_are_activated = 2 * len(activated) > len(sums)
        normalised = [index for index in sums if self._normalises_stream(index + 1)]
        self._sums_are_normalised = 2 * len(normalised) > len(sums)

    def run(self) -> list[Part]:
        clusters = self._without_classifier(self._joined(self._clusters()))
        clusters = self._with_places(clusters)
        parts: list[Part] = []
        start = 0
        for at, cluster in enumerate(clusters):
            following = clusters[at + 1] if at + 1 < len(clusters) else None
            end = self._end(cluster, following)
            if end is None or end <= start or (following and self._is_lone_depthwise(cluster, start, end)):
                continue  # its nodes belong to the block that follows
            heavy = tuple(self._items[member] for member in cluster.members)
            parts.append(Part(kind=self._settled(cluster, start, end), heavy=heavy, start=start, end=end))
            start = end
        return parts

    def _kind(self, index: int) -> SegmentKind | None:
        return self._items[index].kind if index < len(self._items) else None

    def _normalises_stream(self, index: int) -> bool:
        """Whether a segment is a post-norm: the skip of the next residual block starts at its output."""
        follower = self._inside.get(index + 1)
        return self._kind(index) is SegmentKind.NORM and follower is not None and follower.identity

    # -- which weights belong together

    def _clusters(self) -> list[_Cluster]:
        found: list[_Cluster] = []
        run: list[int] = []
        for index, item in enumerate(self._items):
            if (
                item.kind is SegmentKind.WEIGHT
                or self._is_depthwise_layer(index)
                or self._is_pointwise_layer(index, run)
            ):
                run.append(index)
            elif item.kind is SegmentKind.REGION:
                found += self._parse(run, is_first=not found)
                found.append(_Cluster((index,)))
                run = []
        return found + self._parse(run, is_first=not found)

    def _parse(self, run: Sequence[int], is_first: bool) -> list[_Cluster]:
        letters = "".join(self._letter(index) for index in run)
        found: list[_Cluster] = []
        at = 0
        while at < len(run):
            kind, length = None, 1
            inverted, separable = _INVERTED.match(letters, at), _SEPARABLE.match(letters, at)
            attention, fused = _ATTENTION.match(letters, at), _FUSED.match(letters, at)
            if attention:
                length = attention.end() - at
            elif inverted:
                kind, length = BlockKind.INVERTED_RESIDUAL, inverted.end() - at
            elif fused and (at or not is_first) and self._widens(run[at : fused.end()]):
                kind, length = BlockKind.INVERTED_RESIDUAL, fused.end() - at
            elif separable:
                kind, length = BlockKind.SEPARABLE, 2
            found.append(_Cluster(tuple(run[at : at + length]), kind))
            at += length
        return found

    def _letter(self, index: int) -> str:
        item, traits = self._items[index], self._network.traits
        weighted = item.nodes & traits.weighted
        following = range(index + 1, self._next_heavy(index))
        activated = any(self._items[at].kind is SegmentKind.ACTIVATION for at in following)
        if item.nodes & traits.products:
            return "A"
        if not weighted & ~traits.depthwise:
            return "D" if activated else "d"
        if not weighted & ~traits.pointwise:
            return "P" if activated else "L"
        return "K" if activated else "k"

    def _next_heavy(self, index: int) -> int:
        return self._heavy_after[index]

    def _widens(self, run: Sequence[int]) -> bool:
        """Whether consecutive weights work on a map that is wider than their input and output."""
        places = (self._items[run[0]].start, self._items[run[-2]].end, self._items[run[-1]].end)
        before, middle, after = (self._network.channels(place) or 0 for place in places)
        return middle > before and middle > after

    def _is_depthwise_layer(self, index: int) -> bool:
        """Whether a region is a depthwise convolution that a pointwise one follows (ConvMixer, MobileOne)."""
        inside = self._inside.get(index)
        follower = self._next_heavy(index)
        if inside is None or not inside.is_depthwise_layer or follower == len(self._items):
            return False
        after = self._inside.get(follower)
        return after.is_pointwise_layer if after is not None else self._letter(follower) in "PL"

    def _is_pointwise_layer(self, index: int, run: Sequence[int]) -> bool:
        """Whether a region is the pointwise convolution that follows a depthwise one."""
        inside = self._inside.get(index)
        return inside is not None and inside.is_pointwise_layer and bool(run) and self._is_depthwise_layer(run[-1])

    def _joined(self, clusters: list[_Cluster]) -> list[_Cluster]:
        """Join the pointwise convolution that squeezes before an inception module, or gathers after a dense one."""
        found: list[_Cluster] = []
        for cluster in clusters:
            before = found[-1] if found else None
            if before is not None and (self._squeezes(before, cluster) or self._gathers(before, cluster)):
                found[-1] = _Cluster(before.members + cluster.members)
            else:
                found.append(cluster)
        return found

    def _squeezes(self, before: _Cluster, cluster: _Cluster) -> bool:
        """Whether a pointwise convolution narrows the map for the parallel paths behind it (SqueezeNet, NASNet)."""
        inside = self._inside.get(cluster.members[0])
        if inside is None or len(before.members) > 1 or self._kind(before.members[0]) is not SegmentKind.WEIGHT:
            return False
        if inside.kind not in (BlockKind.INCEPTION, BlockKind.CELL) or self._letter(before.members[0]) not in "PL":
            return False
        last, region = self._items[before.members[0]], self._items[cluster.members[0]]
        kept = (SegmentKind.NORM, SegmentKind.ACTIVATION, SegmentKind.AFFINE)
        plain = all(self._kind(at) in kept for at in range(before.members[0] + 1, cluster.members[0]))
        width, output = self._network.channels(last.end), self._network.channels(region.end)
        return plain and width is not None and output is not None and width < output

    def _gathers(self, before: _Cluster, cluster: _Cluster) -> bool:
        """Whether a pointwise convolution mixes what was just concatenated with the input (VoVNet, DLA)."""
        region = next((at for at in before.members if at in self._inside), None)
        first = cluster.members[0]
        if region is None or len(cluster.members) > 1 or self._kind(first) is not SegmentKind.WEIGHT:
            return False
        inside = self._inside[region]
        kept = self._network.positions(self._items[first].end) == self._network.positions(self._items[region].end)
        if inside.merge is not Merge.CONCAT or not inside.identity or not kept or self._letter(first) not in "PL":
            return False
        last = before.members[-1]
        return first == last + 1 if last == region else self._next_heavy(last) == first

    def _without_classifier(self, clusters: list[_Cluster]) -> list[_Cluster]:
        """Drop the last weight of a chain where it makes the network's answer rather than a feature."""
        network = self._network
        tail = [network.data.nodes[at] for at in network.path[network.stop :]]
        if len(clusters) < 2 or any(is_weighted(node, network.data.graph) for node in tail):
            return clusters
        last = clusters[-1].members[-1]
        if self._kind(last) is not SegmentKind.WEIGHT or self._items[last].nodes & network.traits.recurrent:
            return clusters
        following = self._items[last + 1 :]
        feature = any(item.kind is SegmentKind.NORM for item in following)
        if not tail:
            feature = feature or any(self._is_hidden(item) for item in following)
        return clusters if feature else clusters[:-1]

    def _is_hidden(self, item: PathSegment) -> bool:
        node = self._network.data.nodes[self._network.path[item.end]]
        return item.kind is SegmentKind.POOL or (
            item.kind is SegmentKind.ACTIVATION and not node.is_op("Sigmoid", "Tanh")
        )

    # -- clusters and their neighbours

    def _with_places(self, clusters: list[_Cluster]) -> list[_Cluster]:
        """Find the stem and the head: the parts before the first body block and after the last one."""
        body = [at for at, cluster in enumerate(clusters) if self._is_body(cluster)]
        if not body:
            return [replace(cluster, kind=cluster.kind or BlockKind.CONV) for cluster in clusters]
        before, rest = clusters[: body[0]], clusters[body[0] :]
        if len(before) <= _LONGEST_STEM:
            members = tuple(member for cluster in before for member in cluster.members)
            before = [_Cluster(members, BlockKind.STEM)] if before else []
        else:
            before[0] = replace(before[0], kind=BlockKind.STEM)
        if body[-1] < len(clusters) - 1:
            rest[-1] = replace(rest[-1], kind=rest[-1].kind or BlockKind.HEAD)
        return before + rest

    def _is_body(self, cluster: _Cluster) -> bool:
        return cluster.kind is not None or any(self._kind(member) is SegmentKind.REGION for member in cluster.members)

    def _is_lone_depthwise(self, cluster: _Cluster, start: int, end: int) -> bool:
        """Whether a cluster is a shape-preserving depthwise convolution between two blocks (TinyViT)."""
        if (
            cluster.kind is not None
            or len(cluster.members) > 1
            or self._kind(cluster.members[0]) is not SegmentKind.WEIGHT
        ):
            return False
        same = self._settled(cluster, start, end) is BlockKind.CONV
        return same and self._letter(cluster.members[0]) in "Dd"

    def _settled(self, cluster: _Cluster, start: int, end: int) -> BlockKind | None:
        if cluster.kind is not None or self._is_body(cluster):
            return cluster.kind
        network = self._network
        before = (network.channels(start), network.positions(start))
        same = before == (network.channels(end), network.positions(end))
        return BlockKind.CONV if same else BlockKind.TRANSITION

    # -- where a block ends

    def _end(self, cluster: _Cluster, following: _Cluster | None) -> int | None:
        """Return the place of the block's output, None where it would be no feature map."""
        last = cluster.members[-1]
        limit = following.members[0] if following else self._next_heavy(last)
        end = self._absorbed(last, limit)
        if self._kind(last) is SegmentKind.WEIGHT and self._kind(limit) is SegmentKind.REGION:
            start = self._items[limit].start
            if self._network.is_feature_map(start) and self._network.keeps_batch(start):
                return start
        places = [place for place in range(end, self._items[last].end - 1, -1) if self._network.is_feature_map(place)]
        return next(filter(self._network.keeps_batch, places), places[0] if places else None)

    def _absorbed(self, last: int, limit: int) -> int:
        """Follow a block's last weights or merge over what belongs to them, up to item `limit`."""
        is_region = self._kind(last) is SegmentKind.REGION
        end = self._items[last].end
        for index in range(last + 1, limit):
            item = self._items[index]
            if item.kind in (SegmentKind.CONCAT, SegmentKind.WEIGHT, SegmentKind.REGION):
                break
            if item.kind in (SegmentKind.SHAPE, SegmentKind.OTHER):
                if self._shape(item.end) == self._shape(end) or self._frees_batch(end, item.end):
                    end = item.end
            elif not is_region or self._belongs_to_merge(index, last):
                end = item.end
            elif item.kind in (SegmentKind.NORM, SegmentKind.AFFINE, SegmentKind.ACTIVATION):
                break  # the pre-activation of the next block
        return end

    def _frees_batch(self, end: int, place: int) -> bool:
        """Whether joined rows of samples and positions become samples with positions."""
        network, rows, parted = self._network, self._shape(end), self._shape(place)
        return len(rows) == 2 and len(parted) == 3 and rows[1:] == parted[2:] and network.keeps_batch(place)

    def _belongs_to_merge(self, index: int, last: int) -> bool:
        kind = self._kind(index)
        if kind is SegmentKind.ACTIVATION:
            return self._inside[last].merge is not Merge.SUM or self._sums_are_activated
        if kind is SegmentKind.NORM:
            return self._normalises_stream(index) or (index == last + 1 and self._sums_are_normalised)
        return kind in (SegmentKind.GATE, SegmentKind.POOL, SegmentKind.SUM)

    def _shape(self, place: int) -> tuple[int, ...]:
        return self._network.data.shape(self._network.path[place])
