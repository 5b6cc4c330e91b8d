"""The reason for each block, in words for the user."""

from __future__ import annotations

from aznas_onnx.blocks.dataflow import INPUT, DataGraph
from aznas_onnx.blocks.grouping import Part
from aznas_onnx.blocks.path_segments import MainPath
from aznas_onnx.blocks.region_analysis import RegionAnalysis
from aznas_onnx.blocks.regions import Division, Merge, merge_of
from aznas_onnx.blocks.traits import bits
from aznas_onnx.blocks.types import BlockKind
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.operators.sets import NORMALIZATIONS

__all__ = ["reason_for", "reasons_for_no_block"]

_NO_LAYER = "no convolution, linear or recurrent layer is on the paths that meet there (gates aside)"
_NO_POSITIONS = "no positions are left there: they are pooled, flattened, or one of them is chosen"


def reason_for(network: MainPath, part: Part, kind: BlockKind) -> str:
    """Return the sentence for a part of the main path that became a block of `kind`."""
    inside = None if part.region is None else RegionAnalysis(network, part.region)
    if kind in (BlockKind.STEM, BlockKind.SEPARABLE) or inside is None:
        return _chain_reason(network, part, kind)
    exit_ = network.data.nodes[inside.exit]
    count = len(inside.paths)
    if count == 1:
        read, added = _place(network.data, inside.entry), f"{exit_.op_type} {exit_.name!r} adds the result to them"
        return f"queries that do not depend on the samples attend to {read}, and {added}"
    paths = {2: "two", 3: "three", 4: "four"}.get(count, str(count))
    meeting = f"{paths} paths from {_place(network.data, inside.entry)} meet in {exit_.op_type} {exit_.name!r}"
    return f"{meeting}; {_detail(network.data, inside, kind)}"


def reasons_for_no_block(network: MainPath, division: Division) -> tuple[NearMiss, ...]:
    """Return why paths that meet in a sum or a concatenation of channels make no block there."""
    data = network.data
    found = {place: f"a long skip: {reason}" for place, reason in division.long_merges.items()}
    normalisations = {*NORMALIZATIONS} - {"BatchNormalization"}
    missed = {miss.node for miss in data.model.near_misses if miss.pattern in normalisations}
    for region in division.regions:
        is_missed = any(data.nodes[at].name in missed for at in bits(region.nodes))  # its own reason is given
        if not region.primary and not is_missed:
            is_collapsed = network.traits.collapsed >> network.path[region.end] & 1
            found[region.end] = _NO_POSITIONS if is_collapsed else _NO_LAYER
    return tuple(
        NearMiss(reason, "block", data.nodes[network.path[place]].name)
        for place, reason in sorted(found.items())
        if merge_of(data, network.path[place]) is not Merge.OTHER
    )


def _detail(data: DataGraph, inside: RegionAnalysis, kind: BlockKind) -> str:
    if kind is BlockKind.CELL:
        weighted = len(inside.weights)
        return f"parallel operations with {weighted} weights in all are summed up"
    if kind is BlockKind.INCEPTION:
        return f"their {data.channels(inside.exit)} channels are put side by side"
    if kind is BlockKind.DENSE:
        return "the input itself is put beside new channels"
    skip = "one of them is the identity"
    if not inside.identity:
        skip = "one of them projects the input" if inside.projection else "none of them is the identity"
    if kind is BlockKind.ATTENTION:
        return f"{skip}, another mixes positions with weights that it computes"
    if kind is BlockKind.RECURRENT:
        others = "another runs" if inside.identity or inside.projection else "they run"
        return f"{skip}, {others} over all steps"
    if kind is BlockKind.MLP:
        others = "another is" if inside.identity or inside.projection else "all are"
        return f"{skip}, {others} linear on each position"
    if kind is BlockKind.INVERTED_RESIDUAL:
        return f"{skip}, another widens to {inside.expansion} channels and narrows again"
    return skip


def _chain_reason(network: MainPath, part: Part, kind: BlockKind) -> str:
    data, nodes = network.data, 0
    for item in part.heavy:
        nodes |= item.nodes
    working = bits(nodes & network.traits.weighted) or bits(nodes & network.traits.products) or bits(nodes)
    named, s = _named(data, working), "s" if len(working) == 1 else ""
    if any(data.nodes[at].name in data.layers for at in working):
        return f"{named} are the steps of a recurrent layer"
    if kind is BlockKind.STEM:
        return f"{named} stand{s} before the first block with several paths"
    if kind is BlockKind.INVERTED_RESIDUAL:
        return f"{named} widen, work on the wide map, and narrow again, without a skip"
    if kind is BlockKind.SEPARABLE:
        return f"{named} are a depthwise and a pointwise convolution"
    if kind is BlockKind.RECURRENT:
        return f"{named} run{s} over all steps"
    if kind is BlockKind.HEAD:
        return f"{named} stand{s} behind the last block, before the positions are averaged or flattened"
    if kind is BlockKind.TRANSITION:
        return f"{named} stand{s} in a chain between blocks, where {_change(network, part)}"
    return f"{named} stand{s} in a chain, with what follows"


def _change(network: MainPath, part: Part) -> str:
    found = []
    for what, before, after in (
        ("channels", network.channels(part.start), network.channels(part.end)),
        ("positions", network.positions(part.start), network.positions(part.end)),
    ):
        if before != after and before is not None:
            found.append(f"{before} {what} become {after}")
    return " and ".join(found) or "the network begins"


def _named(data: DataGraph, indices: list[int]) -> str:
    nodes = [node for at in indices for node in data.behind(at)]
    if len(nodes) > 3:
        return f"{len(nodes)} operators from {nodes[0].name!r} to {nodes[-1].name!r}"
    return ", ".join(f"{node.op_type} {node.name!r}" for node in nodes)


def _place(data: DataGraph, index: int) -> str:
    return "the input" if index == INPUT else repr(data.nodes[index].name)
