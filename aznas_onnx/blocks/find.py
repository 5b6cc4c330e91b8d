"""Find the primary blocks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aznas_onnx.blocks.dataflow import data_graph, main_path
from aznas_onnx.blocks.declared import Declared, declared, matched
from aznas_onnx.blocks.grouping import Part, group
from aznas_onnx.blocks.naming import block_names
from aznas_onnx.blocks.operator_roles import is_weighted
from aznas_onnx.blocks.path_segments import MainPath, segments_of
from aznas_onnx.blocks.reasons import reason_for, reasons_for_no_block
from aznas_onnx.blocks.region_analysis import RegionAnalysis
from aznas_onnx.blocks.regions import Division, divide
from aznas_onnx.blocks.traits import bits, survey
from aznas_onnx.blocks.types import Block, BlockKind, Blocks
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.declared_blocks import declares_transformer
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.model import Model
from aznas_onnx.operators.sets import NORMALIZATIONS, PLAIN_CONVOLUTIONS, TENSOR_PRODUCTS

__all__ = ["find_blocks"]


def find_blocks(model: Model, patterns: Sequence[str] = ()) -> Blocks:
    """Find the primary blocks of a model.

    Parameters
    ----------
    model
        A prepared model.
    patterns
        Globs over the names of modules, nodes and tensors: each group of matching nodes is a block. They replace all
        other blocks.

    Returns
    -------
    Blocks
        At least one, in dataflow order. Those of `patterns`; else those that the model's metadata declares, in the
        order given there, repetitions included; else those found in the structure of the graph (``docs/blocks.md``).

    Raises
    ------
    UnknownNameError
        If a pattern, or a tensor that the metadata names, is not in the model.
    SettingsError
        If a pattern matches no group with a feature map.
    ModelError
        If a block's output has no elements, or is not a float tensor.
    """
    found = _find(model, patterns)
    for block in found.blocks:
        _check_output(model, block)
    return found


def _check_output(model: Model, block: Block) -> None:
    info = model.infos[block.output]
    what = f"{model.name}: block {block.name!r} ends in tensor {block.output!r} of"
    if info.shape is not None and 0 in info.shape:
        raise ModelError(
            f"{what} shape {info.shape}, which has no elements; export the model at the size that it is used with"
        )
    if info.dtype.kind != "f":
        raise ModelError(
            f"{what} type {info.dtype.name}; only floats can be scored: end the network before it with --cut-at"
        )


def _find(model: Model, patterns: Sequence[str]) -> Blocks:
    if patterns:
        return _assemble_declared(model, matched(model, patterns))
    if model.declared_blocks:
        return _assemble_declared(model, declared(model, model.declared_blocks))
    network = _network(model)
    if network is None:
        return _last_resort(model, "no output depends on the samples through floats")
    division, parts = _divided(network)
    if not parts:
        return _last_resort(model, "no weighted operator makes a feature map")
    return replace(_assemble(network, parts), near_misses=reasons_for_no_block(network, division))


def _network(model: Model) -> MainPath | None:
    data = data_graph(model)
    if data is None:
        return None
    traits = survey(data)
    path = main_path(data, [traits.weighted >> index & 1 for index in range(len(data.nodes))])
    stop = len(path)
    while stop > 2 and traits.collapsed >> path[stop - 1] & 1:
        stop -= 1
    return MainPath(data=data, traits=traits, path=tuple(path), stop=stop)


def _divided(network: MainPath) -> tuple[Division, list[Part]]:
    division = divide(network.data, network.traits, list(network.path), network.stop)
    return division, group(network, segments_of(network, division))


def _assemble(network: MainPath, parts: Sequence[Part]) -> Blocks:
    graph = network.data.graph
    kinds, outputs, members = _content(network, parts)
    named = [
        [node for item in part.heavy for at in bits(item.nodes) for node in network.data.behind(at)] for part in parts
    ]
    blocks = tuple(
        Block(
            index=index,
            name=name,
            kind=kind,
            output=output,
            nodes=tuple(node.name for node in nodes),
            channel_axis=_channel_axis(network.data.model, output),
            reason=reason_for(network, part, kind),
            batch_axis=_batch_axis(network.data.model, output),
        )
        for index, (name, kind, output, nodes, part) in enumerate(
            zip(block_names(named, kinds, graph), kinds, outputs, members, parts, strict=True)
        )
    )
    return Blocks(
        blocks=blocks,
        is_transformer=_is_transformer(network.data.model, outputs, kinds, members),
        warnings=_doubts(network, parts, blocks),
    )


def _content(network: MainPath, parts: Sequence[Part]) -> tuple[list[BlockKind], list[str], list[list[Node]]]:
    """Return the kind, the output and the nodes of each part."""
    outputs = [network.data.tensor(network.path[part.end]) for part in parts]
    return [_kind(network, part) for part in parts], outputs, _members(network.data.graph, outputs)


def _kind(network: MainPath, part: Part) -> BlockKind:
    if part.kind in (BlockKind.CONV, BlockKind.TRANSITION, BlockKind.HEAD) and _is_recurrent(network, part):
        return BlockKind.RECURRENT
    if part.kind is not None:
        return part.kind
    assert part.region is not None, "a part without a kind has a region"
    return RegionAnalysis(network, part.region).kind


def _is_recurrent(network: MainPath, part: Part) -> bool:
    """Whether all weights of a part are recurrent layers."""
    weights = network.traits.weighted & sum(item.nodes for item in part.heavy)
    return bool(weights) and not weights & ~network.traits.recurrent


def _assemble_declared(model: Model, found: Sequence[Declared]) -> Blocks:
    members = _members(model.graph, [entry.output for entry in found])
    blocks = tuple(
        Block(
            index=index,
            name=entry.name,
            kind=BlockKind.DECLARED,
            output=entry.output,
            nodes=tuple(node.name for node in nodes),
            channel_axis=_channel_axis(model, entry.output),
            reason=entry.reason,
            batch_axis=_batch_axis(model, entry.output),
        )
        for index, (entry, nodes) in enumerate(zip(found, members, strict=True))
    )
    if declares_transformer(model.graph.metadata):
        return Blocks(blocks=blocks, is_transformer=True)
    network = _network(model) if _may_be_transformer(model.graph) else None
    if network is None:
        return Blocks(blocks=blocks, is_transformer=False)
    _, parts = _divided(network)
    kinds, outputs, inside = _content(network, parts)
    return Blocks(blocks=blocks, is_transformer=bool(parts) and _is_transformer(model, outputs, kinds, inside))


def _members(graph: Graph, outputs: Sequence[str]) -> list[list[Node]]:
    """For each output the nodes that it depends on and that no earlier one does, in graph order."""
    order = {id(node): at for at, node in enumerate(graph.nodes)}
    claimed: set[int] = set()
    result: list[list[Node]] = []
    for output in outputs:
        found: dict[int, Node] = {}
        waiting = [output]
        while waiting:
            node = graph.producers.get(waiting.pop())
            at = -1 if node is None else order[id(node)]
            if node is not None and at not in claimed:
                claimed.add(at)
                found[at] = node
                waiting.extend(node.inputs)
        result.append([found[at] for at in sorted(found)])
    return result


def _channel_axis(model: Model, tensor: str) -> int:
    """Return the channel axis; where dataflow leaves it open, 1 for maps and vectors and the last for tokens."""
    known = model.layout.channel_axes.get(tensor)
    if known is not None:
        return known
    rank, batch = len(model.infos[tensor].shape or ()), model.layout.batch_axes.get(tensor, 0)
    axis = 2 if rank == 3 else 1
    return axis if axis != batch else max(place for place in range(rank) if place != batch)


def _batch_axis(model: Model, tensor: str) -> int:
    """Return the axis of the batch; where dataflow leaves it open, 0."""
    axis = model.layout.batch_axes.get(tensor, 0)
    return 0 if axis == _channel_axis(model, tensor) else axis


def _may_be_transformer(graph: Graph) -> bool:
    """Whether there is any evidence of a transformer; a quick test that excludes most networks."""
    nodes = graph.nodes
    return not any(node.is_op("BatchNormalization") for node in nodes) or any(
        node in TENSOR_PRODUCTS or node.is_op("Softmax", "Attention") for node in nodes
    )


def _is_transformer(
    model: Model, outputs: Sequence[str], kinds: Sequence[BlockKind], members: Sequence[Sequence[Node]]
) -> bool:
    """Whether attention and MLP residuals make up the network and convolutions only embed patches.

    A network that normalises over the batch is not a transformer: it has to run in training mode, like a convolutional
    one.
    """
    around = (BlockKind.STEM, BlockKind.TRANSITION, BlockKind.HEAD)
    body = [(kind, nodes) for kind, nodes in zip(kinds, members, strict=True) if kind not in around]
    tokens = sum(kind in (BlockKind.ATTENTION, BlockKind.MLP) for kind, _ in body)
    vectors = all(len(model.infos[output].shape or ()) < 3 for output in outputs)
    if 2 * tokens <= len(body) or vectors:
        return False
    inside = [node for _, nodes in body for node in nodes]
    operators = {node.op_type for node in inside}
    if "BatchNormalization" in operators or any(_mixes_positions(node, model.graph) for node in inside):
        return False
    # Without any normalisation it can be a network whose batch normalisation was folded (LeViT).
    normalises = "ReduceMean" in operators or any(node in NORMALIZATIONS for node in inside)
    return normalises or all(kind is BlockKind.MLP for kind, _ in body)


def _mixes_positions(node: Node, graph: Graph) -> bool:
    """Whether a node is a convolution of neighbouring positions, except of patches without overlap."""
    weight = graph.constants.get(node.input(1))
    if node not in PLAIN_CONVOLUTIONS or weight is None:
        return False
    kernel = weight.shape[2:]
    return max(kernel) > 1 and kernel != node.attributes.get("strides")


def _doubts(network: MainPath, parts: Sequence[Part], blocks: Sequence[Block]) -> tuple[str, ...]:
    found = []
    weighted = {network.data.nodes[at].name for at in bits(network.traits.weighted)}
    total = len(weighted)
    for part, block in zip(parts, blocks, strict=True):
        held = len(weighted.intersection(block.nodes))
        if part.region is not None and held > 8 and 2 * held > total:
            found.append(
                f"block {block.name!r} holds {held} of {total} weighted operators and could not be divided; "
                "name smaller blocks with --blocks if it is made of them"
            )
    if len(blocks) == 1:
        found.append("only one block was found; progressivity and trainability compare consecutive blocks")
    return tuple(found)


def _last_resort(model: Model, why: str) -> Blocks:
    """Take the last tensor of a model where nothing in it looks like a block."""
    graph = model.graph
    floats = {node: name for node in graph.nodes for name in node.outputs if name and _is_feature_map(model, name)}
    weighted = [name for node, name in floats.items() if is_weighted(node, graph)]
    output = (weighted or [*floats.values(), graph.outputs[0]])[-1]
    block = Block(
        index=0,
        name="network",
        kind=BlockKind.CONV,
        output=output,
        nodes=tuple(node.name for node in _members(graph, [output])[0]),
        channel_axis=_channel_axis(model, output),
        reason=f"the last tensor with weights stands for the network, because {why}",
        batch_axis=_batch_axis(model, output),
    )
    return Blocks(blocks=(block,), is_transformer=False, warnings=(f"no blocks were found: {why}",))


def _is_feature_map(model: Model, tensor: str) -> bool:
    info = model.infos[tensor]
    return info.dtype.kind == "f" and info.value is None and len(info.shape or ()) >= 2
