"""The network that `GraphBuilder` builds, as ONNX or as the typed graph.

Both are equal: reading the ONNX model gives the typed graph. A search uses the typed graph, which needs no protobuf and
no checks.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aznas_onnx.caches import cached
from aznas_onnx.graph.ir.declared_blocks import BLOCKS_KEY, TRANSFORMER_KEY
from aznas_onnx.graph.ir.graph import Array, AttributeValue, Constant, Graph, GraphInput, Node, type_fingerprint
from aznas_onnx.graph.ir.uniform_constants import filled
from aznas_onnx.operators.operator_record import Attributes

__all__ = ["BATCH", "SHAPE_SUFFIX", "BuiltNetwork", "WeightFill", "declared", "make_node"]

BATCH = "batch"  # name of the open axis
SHAPE_SUFFIX = ".weight_shape"  # of the initialisers with the shapes of weights
_IR_VERSION = 9  # of ONNX 1.15, the first with opset 20: old enough for every ONNX Runtime that this package accepts
_REMEMBERED = 8192  # steps that are written once; a search space of cells has some thousands


@dataclass(frozen=True, slots=True)
class WeightFill:
    """A weight without data: its name, its shape, and its value until it is initialised."""

    name: str
    shape: tuple[int, ...]
    fill: float

    @property
    def shape_name(self) -> str:
        """Name of the initialiser with the shape; weights of equal shapes share one."""
        return _shape_name(self.shape)


def _shape_name(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) + SHAPE_SUFFIX


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuiltNetwork:
    """A network as it was built.

    - `name`: Of the graph.
    - `opset`: Version of the standard operators.
    - `inputs`: With the open batch axis in front.
    - `steps`: Weights and nodes in the order in which they were added.
    - `constants`: Tensors that are fixed by the architecture.
    - `output`, `output_sizes`: Name of the output, and its axes behind the batch; None where shape inference finds one.
    - `metadata`: Entries of the model's metadata, the declared blocks among them.
    """

    name: str
    opset: int
    inputs: tuple[GraphInput, ...]
    steps: tuple[WeightFill | Node, ...]
    constants: Mapping[str, Array]
    output: str
    output_sizes: tuple[int | None, ...]
    metadata: Mapping[str, str]

    def model(self) -> onnx.ModelProto:
        """Return the network as valid ONNX of a few kilobytes."""
        initializers = {name: numpy_helper.from_array(value, name) for name, value in self.constants.items()}
        for shape in dict.fromkeys(step.shape for step in self.steps if isinstance(step, WeightFill)):
            name = _shape_name(shape)
            if name not in initializers:
                initializers[name] = numpy_helper.from_array(np.array(shape, dtype=np.int64), name)
        graph = helper.make_graph(
            [],
            self.name,
            [_value_info(value) for value in self.inputs],
            [helper.make_tensor_value_info(self.output, onnx.TensorProto.FLOAT, (BATCH, *self.output_sizes))],
            list(initializers.values()),
        )
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[opset], producer_name="aznas-onnx")
        model.graph.node.extend(self._node_protos())
        helper.set_model_props(model, dict(self.metadata))
        return model

    def graph(self) -> Graph:
        """Return the typed graph that reading the model would give."""
        constants = {name: Constant.of(value, frozenset({name})) for name, value in self.constants.items()}
        for step in self.steps:
            if isinstance(step, WeightFill):
                constants[step.name] = filled(step.name, step.shape, _scalar(step.fill))
        return Graph(
            name=self.name,
            inputs=self.inputs,
            outputs=(self.output,),
            nodes=tuple(step for step in self.steps if isinstance(step, Node)),
            constants=MappingProxyType(constants),
            metadata=MappingProxyType(dict(self.metadata)),
        )

    def _node_protos(self) -> Iterator[onnx.NodeProto]:
        for step in self.steps:
            yield _weight_proto(step) if isinstance(step, WeightFill) else _node_proto(step)


def _value_info(value: GraphInput) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


# The networks of a search have most of their steps in common, which are written once. Who is given such a message
# copies it into a graph.
@cached(_REMEMBERED, "the networks of a search have most of their steps in common")
def _weight_proto(step: WeightFill) -> onnx.NodeProto:
    return onnx.NodeProto(
        op_type="ConstantOfShape",
        input=(step.shape_name,),
        output=(step.name,),
        name=step.name,
        attribute=(_fill_attribute(step.fill),),
    )


@cached(_REMEMBERED, "the networks of a search have most of their steps in common")
def _node_proto(step: Node) -> onnx.NodeProto:
    return onnx.NodeProto(
        op_type=step.op_type,
        input=step.inputs,
        output=step.outputs,
        name=step.name,
        attribute=[_attribute(*item) for item in sorted(step.attributes.items())],
    )


@cached(64, "weights are filled with few values")
def _fill_attribute(value: float) -> onnx.AttributeProto:
    return helper.make_attribute("value", helper.make_tensor("", onnx.TensorProto.FLOAT, (1,), (value,)))


def _attribute(name: str, value: AttributeValue) -> onnx.AttributeProto:
    try:
        return _written(name, type_fingerprint(value), cast("Hashable", value))
    except TypeError:  # arrays, and lists of tensors
        return helper.make_attribute(name, value)


@cached(1024, "nodes share attributes that are equal")
def _written(name: str, fingerprint: object, value: Hashable) -> onnx.AttributeProto:
    """Write an attribute, once for all nodes that have it; `fingerprint` distinguishes 1 from 1.0."""
    return helper.make_attribute(name, value)


def declared(blocks: Sequence[str], *, is_transformer: bool, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata with the outputs of the primary blocks; without any, they are found in the graph."""
    own = {BLOCKS_KEY: json.dumps(list(blocks))} if blocks else {}
    return {**metadata, **own, **({TRANSFORMER_KEY: "true"} if is_transformer else {})}


def make_node(
    op_type: str,
    version: int,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    name: str,
    attributes: Attributes,
) -> Node:
    """Return a node whose attributes are as ONNX would give them back; equal nodes of several networks are one."""
    given = tuple((key, type_fingerprint(value), value) for key, value in attributes.items() if value is not None)
    try:
        return _equal_node(op_type, version, inputs, outputs, name, given)
    except TypeError:  # lists and arrays
        return _equal_node.__wrapped__(op_type, version, inputs, outputs, name, given)


@cached(_REMEMBERED, "the networks of a search have most of their nodes in common")
def _equal_node(
    op_type: str,
    version: int,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    name: str,
    attributes: tuple[tuple[str, object, Any], ...],
) -> Node:
    return Node(
        op_type=op_type,
        version=version,
        inputs=inputs,
        outputs=outputs,
        name=name,
        attributes=_plain_attributes(attributes),
    )


def _plain_attributes(given: tuple[tuple[str, object, Any], ...]) -> Mapping[str, AttributeValue]:
    """Return attributes with lists as tuples and numbers in single precision; those that are equal are one mapping."""
    try:
        return _equal_attributes(given)
    except TypeError:
        return _equal_attributes.__wrapped__(given)


@cached(1024, "nodes share attributes that are equal")
def _equal_attributes(given: tuple[tuple[str, object, Any], ...]) -> Mapping[str, AttributeValue]:
    return MappingProxyType({name: _plain(value) for name, _, value in given})


def _plain(value: Any) -> AttributeValue:
    if isinstance(value, float):
        return float(np.float32(value))
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


@cached(64, "few numbers are written as constants")
def _scalar(value: float) -> Array:
    return np.array(value, dtype=np.float32)
