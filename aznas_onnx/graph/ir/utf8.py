"""Check that the text of a file is UTF-8, which protobuf does not.

Names are checked once, where a file is opened. Descriptions are never read and not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import onnx

from aznas_onnx.errors import ModelError

__all__ = ["check_text", "node_is_text"]

_KIND = onnx.AttributeProto
_Found: TypeAlias = tuple[str, "str | bytes"]


def check_text(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Check all names in a model that is about to be read.

    - `model`: As it was parsed.
    - `nodes`: The nodes of its graph that are not known to be valid UTF-8.

    Raises ModelError if a name is not UTF-8.
    """
    found = "a name"
    try:
        if _are_text(model, nodes):
            return
        for found, text in _texts(model, nodes):
            if not isinstance(text, str):
                raise ModelError(
                    f"{found} is {text[:40]!r}, which is no UTF-8; export the model again with names that are text"
                )
    except UnicodeDecodeError as error:  # protobuf's other implementations
        raise ModelError(f"{found}, or what follows it, is no UTF-8; export the model again") from error


def _are_text(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> bool:
    """Whether all names are UTF-8; takes a tenth of the time of finding the name that is not.

    Most of a file are initialisers and Constant nodes, whose names are collected at once.
    """
    names: list[object] = []
    others = []
    for tensor in model.graph.initializer:
        names.append(tensor.name)
        if tensor.external_data:
            names.extend(text for _, text in _of_tensor(tensor))
    for node in nodes:
        if node.op_type != "Constant" or len(node.attribute) != 1 or node.attribute[0].type != _KIND.TENSOR:
            others.append(node)
            continue
        attribute = node.attribute[0]
        names += (node.name, node.domain, node.overload, attribute.name, attribute.ref_attr_name, attribute.t.name)
        names += node.input
        names += node.output
        if attribute.t.external_data:
            others.append(node)
    names.extend(text for _, text in _texts(model, others, with_initialisers=False))
    return {str}.issuperset(map(type, names))


def node_is_text(node: onnx.NodeProto) -> bool:
    """Whether all names of a node, those in its graphs included, are UTF-8."""
    try:
        return all(isinstance(text, str) for _, text in _of_node(node))
    except UnicodeDecodeError:
        return False


def _texts(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], *, with_initialisers: bool = True
) -> Iterator[_Found]:
    for entry in model.opset_import:
        yield "the domain of an operator set", entry.domain
    for entry in (*model.metadata_props, *model.graph.metadata_props):
        yield "a key of the metadata", entry.key
        yield f"the value of {entry.key!r} in the metadata", entry.value
    yield from _of_graph(model.graph, with_initialisers=with_initialisers)
    for node in nodes:
        yield from _of_node(node)
    for function in model.functions:
        for text in (function.name, function.domain, function.overload):
            yield "the name of a function", text
        for text in (*function.input, *function.output, *function.attribute):
            yield f"a name in function {function.name!r}", text
        for entry in function.opset_import:
            yield "the domain of an operator set", entry.domain
        for node in (*function.node, _with(function.attribute_proto)):
            yield from _of_node(node)


def _with(attributes: Iterable[onnx.AttributeProto]) -> onnx.NodeProto:
    return onnx.NodeProto(attribute=attributes)


def _of_graph(graph: onnx.GraphProto, *, with_initialisers: bool = True) -> Iterator[_Found]:
    """Yield the names of a graph without those of its nodes."""
    yield "the graph's name", graph.name
    for value in (*graph.input, *graph.output):
        yield "the name of an input or output", value.name
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                yield f"a symbol in the shape of {value.name!r}", dimension.dim_param
    for tensor in graph.initializer if with_initialisers else ():
        yield from _of_tensor(tensor)
    for sparse in graph.sparse_initializer:
        yield from _of_tensor(sparse.values)
        yield from _of_tensor(sparse.indices)


def _of_tensor(tensor: onnx.TensorProto) -> Iterator[_Found]:
    yield "the name of a tensor", tensor.name
    for entry in tensor.external_data:
        yield f"an entry of the external data of tensor {tensor.name!r}", entry.key
        yield f"the {entry.key} of the external data of tensor {tensor.name!r}", entry.value


def _of_node(node: onnx.NodeProto) -> Iterator[_Found]:
    yield "the name of a node", node.name
    what = f"a name in node {node.name!r}"
    for text in (node.op_type, node.domain, node.overload, *node.input, *node.output):
        yield what, text
    for attribute in node.attribute:
        yield what, attribute.name
        if attribute.ref_attr_name:
            yield what, attribute.ref_attr_name
        if attribute.type == _KIND.TENSOR:
            yield from _of_tensor(attribute.t)
        for graph in (attribute.g, *attribute.graphs) if attribute.type in (_KIND.GRAPH, _KIND.GRAPHS) else ():
            yield from _of_graph(graph)
            for inner in graph.node:
                yield from _of_node(inner)
        if attribute.type in (_KIND.SPARSE_TENSOR, _KIND.TENSORS):
            for tensor in (attribute.sparse_tensor.values, attribute.sparse_tensor.indices, *attribute.tensors):
                yield from _of_tensor(tensor)
