"""Converters of onnx2torch, for operators that we have none for.

Importing onnx2torch takes over a second, so it happens when such an operator is met, and common ones never are.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from aznas_onnx.convert.context import Call, Context, Converter, unsupported
from aznas_onnx.graph.ir.graph import Node

__all__ = ["via_onnx2torch"]


def via_onnx2torch(version: int) -> Converter:
    """Return a converter that asks onnx2torch for its converter of an operator at exactly `version`.

    The operator table says for which versions of the operator that one is right: onnx2torch registers few of the
    newer versions, though most mean the same.
    """

    def convert(node: Node, context: Context) -> Call:
        from onnx2torch.node_converters.registry import get_converter
        from onnx2torch.onnx_node import OnnxNode

        onnx_node = OnnxNode(_to_proto(node), unique_name=node.name)
        try:
            result = get_converter(node.op_type, version, node.domain)(onnx_node, _constants(node, context))
        except NotImplementedError as error:
            found = f"is used in a way that onnx2torch does not convert ({error})"
            raise unsupported(node, found, "docs/operators.md says what is supported") from error
        return Call(result.torch_module, tuple(result.onnx_mapping.inputs))

    return convert


def _to_proto(node: Node) -> Any:
    from onnx import helper

    attributes: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in node.attributes.items()
    }
    return helper.make_node(
        node.op_type, list(node.inputs), list(node.outputs), node.name, domain=node.domain, **attributes
    )


def _constants(node: Node, context: Context) -> Any:
    """Return the part of onnx2torch's graph that its converters ask: the constant inputs, as tensors."""
    tensors: dict[str, torch.Tensor] = {}
    for name in node.inputs:
        value = context.known(name)
        if value is not None:
            tensors[name] = context.tensor(value)
    initializers = {name: SimpleNamespace(to_torch=lambda tensor=tensor: tensor) for name, tensor in tensors.items()}

    def no_producer(name: str) -> Any:
        raise KeyError(name)

    return SimpleNamespace(initializers=initializers, value_as_node_output=no_producer)
