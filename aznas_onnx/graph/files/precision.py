"""Convert half, bfloat16 and double precision to float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from aznas_onnx.caches import cached
from aznas_onnx.graph.ir.graph import Array, AttributeValue, Constant, Graph, GraphInput, Node

__all__ = ["OTHER_FLOATS", "TYPE_ATTRIBUTES", "to_float32"]

OTHER_FLOATS = {
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
}
# Attributes that name a data type, by operator.
TYPE_ATTRIBUTES = {"to", "dtype", "stash_type", "output_dtype", "softmax_precision"}


def to_float32(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Return the graph with every float type made float32, and what was changed in words for the user."""
    found = {c.dtype for c in graph.constants.values()} | {value.dtype for value in graph.inputs}
    other = sorted({dtype.name for dtype in found} & set(OTHER_FLOATS.values()))
    changed = _convert(graph)
    return changed, (f"{' and '.join(other)} tensors taken as float32",) if other else ()


def _convert(graph: Graph) -> Graph:
    return replace(
        graph,
        inputs=tuple(_input(value) for value in graph.inputs),
        nodes=tuple(_node(node) for node in graph.nodes),
        constants=MappingProxyType({name: _constant(constant) for name, constant in graph.constants.items()}),
    )


@cached(64, "needed for every tensor; numpy builds the name of a type anew each time")
def _is_other_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name in OTHER_FLOATS.values()


def _input(value: GraphInput) -> GraphInput:
    return replace(value, dtype=np.dtype(np.float32)) if _is_other_float(value.dtype) else value


def _constant(constant: Constant) -> Constant:
    read = constant.read
    if not _is_other_float(constant.dtype):
        return constant

    def read_float32() -> Array:
        assert read is not None  # only installed where there is data
        return read().astype(np.float32)

    return replace(constant, dtype=np.dtype(np.float32), read=None if read is None else read_float32)


def _node(node: Node) -> Node:
    if not node.attributes:
        return node
    changed = {key: new for key, value in node.attributes.items() if (new := _attribute(key, value)) is not value}
    if not changed:
        return node
    attributes: Mapping[str, AttributeValue] = MappingProxyType({**node.attributes, **changed})
    return replace(node, attributes=attributes)


def _attribute(key: str, value: AttributeValue) -> AttributeValue:
    if isinstance(value, Graph):
        return _convert(value)
    if isinstance(value, np.ndarray):
        return value.astype(np.float32) if _is_other_float(value.dtype) else value
    if key in TYPE_ATTRIBUTES and value in OTHER_FLOATS:
        return int(onnx.TensorProto.FLOAT)
    return value
