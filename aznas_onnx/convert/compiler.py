"""Compile a graph at one batch size to a straight list of torch calls."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch

from aznas_onnx.convert.context import Call, Context
from aznas_onnx.convert.dtypes import carrier, is_float, to_tensor
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.convert.table import OPERATORS
from aznas_onnx.errors import AznasError, ModelError, UnsupportedOperatorError
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["compile_program"]


def compile_program(
    graph: Graph,
    infos: TensorInfos,
    constants: Mapping[str, torch.Tensor],
    *,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    training: bool = False,
    also: Collection[str] = (),
) -> Program:
    """Convert a canonical graph to a program at the batch size of its infos.

    - `graph`, `infos`: The graph and its infos. Shape operands (of Reshape, Slice, Pad, ...) must be known.
    - `constants`: Tensors on `device` for some of the graph's constants: the initialised weights. They are used
      unchanged. Other constants come from the infos or the file; floats become `dtype`.
    - `device`, `dtype`: Device and floating-point type of the program. Integers have their own type.
    - `training`: Whether BatchNormalization uses the statistics of the batch. Nothing else changes: Dropout stays off,
      and running statistics are not updated.
    - `also`: Further tensors to compute, also where the graph's outputs do not depend on them.

    Raises UnsupportedOperatorError if an operator, or the way it is used, has no converter.
    Raises ModelError if a constant that is needed as a tensor has neither an initialised tensor nor data.
    """
    device = torch.device(device)
    fixed, initialised = _trace_values(graph, infos, constants)
    context = Context(graph, infos, initialised, device=device, dtype=dtype, training=training)
    context.read.update(also)
    _check_inputs(graph)
    steps: list[Step] = []
    for node in reversed(graph.nodes):
        read = [name for name in node.outputs if name in context.read]
        if fixed.issuperset(read):
            continue  # it is unread, or its value is known
        call = _convert(node, context)
        outputs = node.outputs
        if len(read) < len(outputs):
            outputs = tuple(name if name in context.read else "" for name in node.outputs)
        steps.append(Step(node=node.name, run=call.run, inputs=call.inputs, outputs=outputs))
        context.read.update(call.inputs)
    steps.reverse()
    return Program(
        steps=tuple(steps),
        constants=_constant_tensors(graph, context, constants, steps),
        inputs=tuple(graph_input.name for graph_input in graph.inputs),
        outputs=graph.outputs,
        notes=tuple(context.notes),
    )


def _convert(node: Node, context: Context) -> Call:
    converter = OPERATORS.converter(node)
    try:
        return converter(node, context)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, AznasError):
            raise
        raise ModelError(
            f"node {node.name!r} does not have the inputs or attributes of operator {node.operator}-{node.version} "
            f"({type(error).__name__}: {error})"
        ) from error


def _check_inputs(graph: Graph) -> None:
    for graph_input in graph.inputs:
        if carrier(graph_input.dtype, torch.float32) is None:
            raise UnsupportedOperatorError(
                f"input {graph_input.name!r} holds {graph_input.dtype}; tensors of numbers and booleans are supported"
            )


def _trace_values(
    graph: Graph, infos: TensorInfos, constants: Mapping[str, torch.Tensor]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the node outputs whose values are known, and the tensors that depend on initialised weights.

    A float that was computed from an initialised weight can have a known value in the infos: it is the value for the
    file's weights and must not be used. Integers computed from a weight can only be its shape.
    """
    fixed: set[str] = set()
    initialised = set(constants)
    for node in graph.nodes:
        reads_initialised = not initialised.isdisjoint(node.inputs)
        for name in node.outputs:
            info = infos.get(name)
            if info is None:
                continue
            if reads_initialised and is_float(info.dtype):
                initialised.add(name)
            elif info.value is not None:
                fixed.add(name)
    return frozenset(fixed), frozenset(initialised)


def _constant_tensors(
    graph: Graph, context: Context, initialised: Mapping[str, torch.Tensor], steps: Iterable[Step]
) -> dict[str, torch.Tensor]:
    """Return a tensor for each name that is read and that neither a step nor the caller of the program gives."""
    given = {name for step in steps for name in step.outputs}
    given.update(graph_input.name for graph_input in graph.inputs)
    tensors: dict[str, torch.Tensor] = {}
    for name in context.read:
        if name in initialised:
            tensors[name] = initialised[name]
        elif name and name not in given:
            tensors[name] = _constant_tensor(name, context)
    return tensors


def _constant_tensor(name: str, context: Context) -> torch.Tensor:
    array = context.known(name)
    if array is None:
        raise ModelError(f"tensor {name!r} is read but has no data; weights without data must be initialised")
    tensor = to_tensor(array, context.device, context.dtype)
    if tensor is None:
        raise ModelError(f"constant {name!r} is of type {array.dtype}; tensors of numbers and booleans are supported")
    return tensor
