"""Run the file in ONNX Runtime, in float32, without optimisation.

Optimisation is off because the reference must compute the file exactly: ONNX Runtime fuses a Pad into the next MaxPool,
which is wrong where all values in a window are negative.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from aznas_onnx.errors import first_line
from aznas_onnx.graph import InputPlan, Model
from aznas_onnx.graph.files.load import subgraphs
from aznas_onnx.graph.files.precision import OTHER_FLOATS, TYPE_ATTRIBUTES
from aznas_onnx.runtime import unoptimised_session
from aznas_onnx.verify.verdict import LEAST_VARIATION, VerificationError

__all__ = [
    "compare_before_softmax",
    "constant_tensors",
    "end_at",
    "in_float32",
    "last_varying",
    "root_mean_square",
    "run_reference",
    "runs_in_pieces",
    "spread",
    "use_running_statistics",
    "without_dropout",
]

Array = npt.NDArray[Any]


def in_float32(model: onnx.ModelProto) -> None:
    """Make every other float type of a model float32, in place: ONNX Runtime lacks kernels for most of them on CPUs."""
    for graph in _all_graphs(model.graph):
        for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
            _tensor_in_float32(tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            _type_in_float32(value.type)
        _nodes_in_float32(graph.node)
    for function in model.functions:
        _nodes_in_float32(function.node)
        for node in function.node:
            for body in subgraphs(node):
                for graph in _all_graphs(body):
                    _nodes_in_float32(graph.node)


def _all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for body in subgraphs(node):
            yield from _all_graphs(body)


def _nodes_in_float32(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _tensor_in_float32(attribute.t)
            elif attribute.name in TYPE_ATTRIBUTES and attribute.i in OTHER_FLOATS:
                attribute.i = onnx.TensorProto.FLOAT


def _tensor_in_float32(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in OTHER_FLOATS:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _type_in_float32(kind: onnx.TypeProto) -> None:
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, str(kind.WhichOneof("value"))).elem_type
    if kind.tensor_type.elem_type in OTHER_FLOATS:
        kind.tensor_type.elem_type = onnx.TensorProto.FLOAT


def constant_tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the initialisers and the values of Constant nodes of the main graph, by the name that nodes read."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    return found


def end_at(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """End a model where scoring ends it, in place: some of its outputs can be removed or cut."""
    own = {value.name: value for value in model.graph.output}
    outputs = [own.get(name, onnx.ValueInfoProto(name=name)) for name in names]
    if own.keys() != set(names):
        del model.graph.output[:]
        model.graph.output.extend(outputs)


def compare_before_softmax(model: onnx.ModelProto) -> None:
    """Make the input of a final Softmax the model's output, in place."""
    producers = {output: node for node in model.graph.node for output in node.output}
    for output in model.graph.output:
        node = producers.get(output.name)
        while node is not None and node.op_type in ("Identity", "Cast"):
            node = producers.get(node.input[0])
        if node is not None and node.op_type in ("Softmax", "LogSoftmax"):
            output.name = node.input[0]


def runs_in_pieces(plan: InputPlan, batch_size: int) -> bool:
    """Whether the file is written for another batch size, so that ONNX Runtime runs it on pieces of the batch."""
    return not plan.batch_is_free and batch_size != plan.declared_batch


def use_running_statistics(model: onnx.ModelProto) -> None:
    """Take batch normalisation out of training mode, in place: in pieces, a batch has the statistics of its pieces."""
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or read.intersection(node.output[1:]):
            continue
        kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
        del node.attribute[:], node.output[1:]
        node.attribute.extend(kept)


def without_dropout(model: onnx.ModelProto) -> None:
    """Turn Dropout of a training-mode export into the identity, in place, as in scoring."""
    for node in model.graph.node:
        if node.op_type == "Dropout" and not node.domain:
            del node.input[1:]


def run_reference(model: onnx.ModelProto, feeds: Mapping[str, Array], own: Model, batch_size: int) -> dict[str, Array]:
    """Run a model in ONNX Runtime and return its outputs and the look-ups at which scoring begins.

    - `own`: The same model as read here, with its batch axes.
    """
    plan = own.inputs
    loose = onnx.ModelProto()
    loose.CopyFrom(model)
    for output in loose.graph.output:  # a file can declare a shape for its own batch size only
        if output.HasField("type"):
            output.type.tensor_type.ClearField("shape")
    loose.graph.output.extend(onnx.ValueInfoProto(name=name) for name in plan.look_ups)
    names = [output.name for output in loose.graph.output]
    try:
        session = unoptimised_session(loose.SerializeToString())
        if not runs_in_pieces(plan, batch_size):
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        step = plan.declared_batch
        chunks = [
            session.run(
                names, {name: _piece(value, plan.batch_axes.get(name), i, step) for name, value in feeds.items()}
            )
            for i in range(0, batch_size, step)
        ]
        axes = own.layout.batch_axes
        return {
            name: np.concatenate([chunk[index] for chunk in chunks], axis=axes.get(name, 0))
            for index, name in enumerate(names)
        }
    except Exception as error:  # ONNX Runtime raises its own classes straight from Exception
        raise VerificationError(f"ONNX Runtime cannot run the model: {first_line(error)}") from error


def last_varying(
    model: onnx.ModelProto, outputs: Sequence[str], feeds: Sequence[Mapping[str, Array]], own: Model
) -> tuple[str, ...]:
    """Return the tensors nearest to outputs that change with the samples, where the outputs do not.

    - `outputs`: Those that do not change.
    - `feeds`: Samples, and others.
    """
    every = onnx.ModelProto()
    every.CopyFrom(model)
    known = {output.name for output in every.graph.output}
    made = [name for node in model.graph.node for name in node.output if name and name not in known]
    every.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    step, axes = own.inputs.declared_batch, own.inputs.batch_axes
    pieces = [{name: _piece(value, axes.get(name), 0, step) for name, value in feed.items()} for feed in feeds]
    first, *others = (run_reference(every, piece, own, step) for piece in pieces)
    makers = {name: node for node in model.graph.node for name in node.output}
    found, seen, pending = list[str](), set(outputs), list(outputs)
    while pending:
        node = makers.get(pending.pop())
        for name in () if node is None else node.input:
            value = first.get(name)
            if name in seen or not isinstance(value, np.ndarray) or value.dtype.kind != "f":
                continue
            seen.add(name)
            largest = float(np.max(np.abs(value), initial=0.0))
            varies = all(spread(value, other[name]) > LEAST_VARIATION * largest for other in others)
            (found if varies else pending).append(name)
    return tuple(found)


def spread(wanted: Array, other: Array) -> float:
    """Return what two samples differ by: root mean square over a tensor, of two that are independent."""
    return root_mean_square(wanted, other) / math.sqrt(2.0) if wanted.shape == other.shape else 0.0


def root_mean_square(left: Array, right: Array) -> float:
    """Return the root mean square of a difference."""
    difference = left.astype(np.float64) - right.astype(np.float64)
    return float(np.sqrt(np.mean(np.square(difference)))) if difference.size else 0.0


def _piece(value: Array, axis: int | None, start: int, step: int) -> Array:
    """Return some samples of the inputs; all of an input without a batch."""
    return value if axis is None else value.take(range(start, min(start + step, value.shape[axis])), axis)
