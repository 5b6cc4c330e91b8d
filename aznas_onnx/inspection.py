"""Inspect a model: primary blocks, MACs and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from aznas_onnx.blocks import Block, Blocks, find_blocks
from aznas_onnx.costs import Costs, NodeCost, count
from aznas_onnx.graph import Limits, Model, Source, Value, prepare
from aznas_onnx.graph.files.load import source_name
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.prepare import error_context
from aznas_onnx.graph.shapes.shape_inference import is_foreign
from aznas_onnx.limits import reading
from aznas_onnx.operators import CUSTOM_OPERATORS

__all__ = ["InspectedBlock", "InspectedNode", "Inspection", "inspect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedBlock:
    """A primary block with its feature map and its costs.

    Attributes
    ----------
    block
        The block.
    shape
        Of its feature map for one sample; None where it depends on data.
    channel_axis
        The place of the channels in `shape`.
    costs
        Of its nodes.
    """

    block: Block
    shape: tuple[int, ...] | None
    channel_axis: int
    costs: Costs


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedNode:
    """A node's cost, the shape of its first output for one sample, and the name of the block it is in, if any."""

    cost: NodeCost
    shape: tuple[int, ...] | None
    block: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Blocks and costs of a model. Counts are for one sample; a MAC is one multiply-add.

    Attributes
    ----------
    model
        The path as given, or the model's name.
    inputs
        Shape of each input for one sample: without the batch, where it has one.
    batch_axes
        The batch axis of each input; inputs without one are absent.
    sample_input
        The input with the samples.
    blocks
        The primary blocks, in dataflow order.
    nodes
        Every node of the canonical graph, in topological order.
    costs
        Of the whole model; `costs.unsupported` lists operators that the totals leave out.
    outside
        Costs of the nodes outside all blocks: usually the classifier.
    is_transformer
        Whether attention and MLP residuals make up the network; it then has no progressivity.
    run_shapes, run_batch
        Shapes of all inputs for a run of the unchanged file, and the number of samples in it.
    changes, warnings
        Changes of the graph during reading, and warnings, in words for the user.
    near_misses
        Patterns that were nearly recognised, layers after which no normalisation was restored, and sums that end no
        block, with the reason.
    """

    model: str
    inputs: Mapping[str, tuple[int, ...]]
    batch_axes: Mapping[str, int]
    sample_input: str
    blocks: tuple[InspectedBlock, ...]
    nodes: tuple[InspectedNode, ...]
    costs: Costs
    outside: Costs
    is_transformer: bool
    run_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    run_batch: int = 1
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()


def inspect(
    source: Source,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    cut_at: Sequence[str] = (),
    values: Mapping[str, Value] | None = None,
    blocks: Sequence[str] = (),
    keep_graph: bool = False,
    limits: Limits | None = None,
) -> Inspection:
    """Find a model's primary blocks and count its multiply-adds, parameters and activations.

    Parameters
    ----------
    source
        Path of an ONNX file, or a ModelProto.
    input_shapes
        Shapes of inputs with open dimensions, by name; the name ``""`` is the input with the samples.
    cut_at
        Tensors or nodes that end the network, instead of the file's outputs.
    values
        Values of inputs that steer the network (a length, a sample rate, a flag), by name.
    blocks
        Patterns that name the primary blocks, as for :func:`aznas_onnx.blocks.find_blocks`; empty finds them.
    keep_graph
        Keep normalisation folded where the exporter folded it.
    limits
        Limits on the model.

    Returns
    -------
    Inspection
        Blocks with their reasons, and costs by block, operator and node. Unknown operators and data-dependent control
        flow are not counted: `costs.unsupported` and a warning name them.

    Raises
    ------
    ModelError
        If the model cannot be read, is invalid, or has no feature map.

    Examples
    --------
    >>> import onnx.parser
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 8, opset_import: ["" : 17]>
    ...     tiny (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)
    ...     <int64[4] shape = {4, 3, 3, 3}>
    ...     { w = ConstantOfShape (shape) y = Conv <pads = [1, 1, 1, 1]> (x, w) }''')
    >>> inspect(model).costs.macs  # 4 * 3 * 3 * 3 multiply-adds at each of 64 positions
    6912
    """
    limits = limits or Limits()
    with error_context(source_name(source)), reading(limits):
        model = prepare(
            source,
            input_shapes=input_shapes,
            cut_at=cut_at,
            values=values,
            keep_graph=keep_graph,
            partial=True,
            limits=limits,
        )
        return _inspected(model, find_blocks(model, blocks), count(model))


def _inspected(model: Model, found: Blocks, costs: Costs) -> Inspection:
    block_of = {node: block.name for block in found.blocks for node in block.nodes}
    return Inspection(
        model=model.source,
        inputs=MappingProxyType({name: model.inputs.shape_of_one(name) for name in model.inputs.sample_shapes}),
        batch_axes=model.inputs.batch_axes,
        sample_input=model.inputs.primary,
        blocks=tuple(_inspect_block(model, block, costs.of(block.nodes)) for block in found.blocks),
        nodes=_inspect_nodes(model, costs, block_of),
        costs=costs,
        outside=costs.of([node.node for node in costs.nodes if node.node not in block_of]),
        is_transformer=found.is_transformer,
        run_shapes=MappingProxyType(model.inputs.shapes(model.inputs.run_batch)),
        run_batch=model.inputs.run_batch,
        changes=model.changes,
        warnings=(*model.warnings, *found.warnings, *_by_onnx2torch(model.graph.nodes)),
        near_misses=(*model.near_misses, *found.near_misses),
    )


def _by_onnx2torch(nodes: Iterable[Node]) -> Iterator[str]:
    """Yield a note for each operator that ONNX does not define and that onnx2torch converts."""
    foreign = (node for node in nodes if is_foreign(node) and CUSTOM_OPERATORS.is_of_onnx2torch(node))
    for operator in dict.fromkeys(node.operator for node in foreign):
        yield f"operator {operator} is converted by onnx2torch, which gives its shapes"


def _inspect_block(model: Model, block: Block, costs: Costs) -> InspectedBlock:
    shape, whole = _sample_shape(model, block.output), model.infos[block.output].shape
    dropped = (
        shape is not None and whole is not None and len(shape) < len(whole) and block.batch_axis < block.channel_axis
    )
    return InspectedBlock(block=block, shape=shape, channel_axis=block.channel_axis - dropped, costs=costs)


def _inspect_nodes(model: Model, costs: Costs, block_of: Mapping[str, str]) -> tuple[InspectedNode, ...]:
    first_output = {node.name: next(filter(None, node.outputs), "") for node in model.graph.nodes}
    first_output.update((look_up.node, name) for name, look_up in model.inputs.look_ups.items())
    return tuple(
        InspectedNode(cost=cost, shape=_sample_shape(model, first_output[cost.node]), block=block_of.get(cost.node))
        for cost in costs.nodes
    )


def _sample_shape(model: Model, tensor: str) -> tuple[int, ...] | None:
    """Return a tensor's shape for one sample: without the batch, or with its share of an axis joined with it."""
    info, batch = model.infos.get(tensor), model.infos.batch_size
    shape = None if info is None else info.shape
    if not shape or not model.inputs.has_batch:
        return shape
    axis = model.layout.batch_axes.get(tensor)
    if axis is None or shape[axis] % batch:
        return shape[1:] if shape[0] == batch else shape
    share = shape[axis] // batch
    return (*shape[:axis], *((share,) if share > 1 else ()), *shape[axis + 1 :])
