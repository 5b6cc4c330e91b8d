"""Shapes of operators that ONNX does not define: their converters, run on tensors without data or on zeros."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from aznas_onnx.convert.checked_converters import convert
from aznas_onnx.convert.context import Context, Converter
from aznas_onnx.convert.dtypes import carrier, to_tensor
from aznas_onnx.convert.table import OPERATORS
from aznas_onnx.errors import AznasError, ModelError
from aznas_onnx.graph.ir.graph import Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.user_modules import RAISED, place, summary

__all__ = ["infer_by_running"]

_FLOAT = np.dtype(np.float32)


def infer_by_running(node: Node, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo] | None:
    """Return what is known about the outputs of a node; None where its operator has no converter.

    Raises ModelError if its converter does not run on operands of these shapes.
    """
    converter = OPERATORS.foreign(node)
    if converter is None:
        return None
    given = {name: info for name, info in zip(node.inputs, inputs, strict=True) if info is not None}
    if any(info.shape is None for info in given.values()):
        return [TensorInfo(None, _FLOAT)] * len(node.outputs)
    # A converter of onnx2torch can read weights while it converts, and it is unknown which inputs are weights.
    rest = [name for name in node.inputs[1:] if name in given and given[name].value is None]
    failure: BaseException = AssertionError("no attempt was made")
    for device, weights in itertools.product(("meta", "cpu"), ((), rest)):
        try:
            return _run(converter, node, given, weights, torch.device(device))
        except RAISED as error:
            failure = error
    if isinstance(failure, AznasError):
        raise ModelError(str(failure)) from failure
    shapes = ", ".join(str(given[name].shape) if name else "?" for name in node.inputs)
    raise ModelError(
        f"node {node.name!r} ({node.operator}) cannot be run on inputs of shapes {shapes}: "
        f"{summary(failure)} ({place(failure)})"
    ) from failure


def _run(
    converter: Converter, node: Node, given: Mapping[str, TensorInfo], weights: Collection[str], device: torch.device
) -> list[TensorInfo]:
    constants = {name: Constant(shape=given[name].shape or (), dtype=given[name].dtype) for name in weights}
    graph = Graph(name="", inputs=(), outputs=node.outputs, nodes=(node,), constants=MappingProxyType(constants))
    infos = TensorInfos(given, 1)
    context = Context(graph, infos, frozenset(weights), device=device, dtype=torch.float32, training=True)
    call = convert(converter, node, context)
    with torch.no_grad():
        made = call.run(*(_operand(given[name], device) if name else None for name in call.inputs))
    tensors = dict(zip(node.outputs, (made,) if isinstance(made, torch.Tensor) else made, strict=False))
    return [_info(tensors[name]) if name else TensorInfo(None, _FLOAT) for name in node.outputs]


def _operand(info: TensorInfo, device: torch.device) -> torch.Tensor:
    if info.value is not None:
        tensor = to_tensor(info.value, device, torch.float32)
        assert tensor is not None
        return tensor
    return torch.zeros(info.shape or (), device=device, dtype=carrier(info.dtype, torch.float32))


def _info(tensor: torch.Tensor) -> TensorInfo:
    return TensorInfo(tuple(tensor.shape), torch.empty(0, dtype=tensor.dtype).numpy().dtype)
