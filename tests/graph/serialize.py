"""From the typed graph back to ONNX: to run it elsewhere, and to prove that rewrites kept its meaning."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.graph import Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.shapes.shape_inference import node_proto, schema

__all__ = ["emit"]

_IR_VERSION = 8  # of opsets 15 to 18; every runtime reads it


def emit(graph: Graph, infos: TensorInfos) -> onnx.ModelProto:
    """Write a graph as a model for one batch size.

    Parameters
    ----------
    graph
        With control flow resolved.
    infos
        Of that graph; they give inputs and outputs their shapes, and a shape operand its value.

    Returns
    -------
    onnx.ModelProto
        With all constants inside, so below two gigabytes.

    Raises
    ------
    ModelError
        If a constant has no data, or nodes come from opsets that one file cannot have both.
    """
    versions = _versions(graph.nodes)
    used = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
    model = helper.make_model(
        helper.make_graph(
            [node_proto(node) for node in graph.nodes],
            graph.name or "graph",
            [_value_info(value.name, infos) for value in graph.inputs],
            [_value_info(name, infos) for name in dict.fromkeys(graph.outputs)],
            [_tensor(name, constant) for name, constant in graph.constants.items() if name in used],
        ),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in versions.items()],
    )
    model.ir_version = max(_IR_VERSION, helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True))
    return model


def _versions(nodes: Iterable[Node]) -> dict[str, int]:
    """Return the newest version of each domain, having checked that every node means the same in it."""
    newest: dict[str, int] = {}
    for node in nodes:
        newest[node.domain] = max(node.version, newest.get(node.domain, 1))
    for node in nodes:
        own, other = (schema(node.op_type, version, node.domain) for version in (node.version, newest[node.domain]))
        if own is not None and other is not None and not _extends(other, own):
            raise ModelError(
                f"node {node.name!r} ({node.operator}) of opset {node.version} means something else in opset "
                f"{newest[node.domain]}, which another node needs"
            )
    return newest or {"": 1}


def _extends(newer: onnx.defs.OpSchema, older: onnx.defs.OpSchema) -> bool:
    """Whether a newer version of an operator takes all that an older one takes, in the same places."""
    names = [[value.name.lower() for value in version.inputs] for version in (newer, older)]
    return names[0][: len(names[1])] == names[1] and all(
        name in newer.attributes and newer.attributes[name].default_value == attribute.default_value
        for name, attribute in older.attributes.items()
    )


def _value_info(name: str, infos: TensorInfos) -> onnx.ValueInfoProto:
    info = infos[name]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(info.dtype)), info.shape)


def _tensor(name: str, constant: Constant) -> onnx.TensorProto:
    if constant.read is None:
        raise ModelError(f"constant {name!r} has no data")
    return numpy_helper.from_array(constant.read(), name)
