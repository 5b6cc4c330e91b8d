"""Operators that create tensors of known shape, and casts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from aznas_onnx.convert.attributes import integer, text
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.convert.dtypes import numpy_dtype
from aznas_onnx.convert.rounding import convert_values
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def constant(node: Node, context: Context) -> Call:
    """Usually a graph constant already; this is for a Constant node that is left in a graph."""
    (name, value), *_ = node.attributes.items()
    if name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        raise unsupported(node, f"holds its data as {name}", "numbers and dense tensors are supported")
    kind: Any = {"f": np.float32, "i": np.int64}.get(name[6:7])
    array = np.asarray(value, dtype=kind)
    context.carrier(node, array.dtype)
    tensor = context.tensor(array)
    return Call(lambda: tensor, ())


def constant_of_shape(node: Node, context: Context) -> Call:
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    dtype = context.carrier(node, value.dtype)
    fill = value.item() if value.dtype.kind in "biuf" else float(value)
    shape = context.known_shape(node.outputs[0])
    shape = (context.ints(node, 0, "the shape") or ()) if shape is None else shape
    device = context.device
    return Call(lambda: torch.full(shape, fill, dtype=dtype, device=device), ())


def eye_like(node: Node, context: Context) -> Call:
    code = integer(node, "dtype", 0)
    source = context.numpy_dtype(node.inputs[0])
    dtype = context.carrier(node, numpy_dtype(code) if code else source)
    rows, columns = context.shape(node, node.inputs[0])
    array = np.eye(rows, columns, integer(node, "k", 0))
    tensor = context.tensor(array).to(dtype)
    return Call(lambda: tensor, ())


def range_(node: Node, context: Context) -> Call:
    values = [context.known(name) for name in node.inputs]
    if any(value is None for value in values):
        raise unsupported(node, "has bounds that depend on data", "the bounds must be known before the model runs")
    start, limit, delta = (np.asarray(value).reshape(-1)[0] for value in values)
    count = max(math.ceil((float(limit) - float(start)) / float(delta)), 0)
    tensor = context.tensor(start + np.arange(count).astype(start.dtype) * delta)
    return Call(lambda: tensor, ())


def one_hot(node: Node, context: Context) -> Call:
    axis = integer(node, "axis", -1)
    depth = int((context.ints(node, 1, "the depth") or (0,))[0])

    def run(index: Tensor, values: Tensor) -> Tensor:
        position = axis if axis >= 0 else axis + index.dim() + 1
        classes = torch.arange(depth, device=index.device)
        inside = (index >= -depth) & (index < depth)
        hot = ((index.long() % depth).unsqueeze(-1) == classes) & inside.unsqueeze(-1)
        return torch.where(hot, values[1], values[0]).movedim(-1, position)

    return Call(run, (node.inputs[0], node.inputs[2]))


def cast(node: Node, context: Context) -> Call:
    return _cast_to(node, context, numpy_dtype(integer(node, "to", 1)))


def cast_like(node: Node, context: Context) -> Call:
    return _cast_to(node, context, context.numpy_dtype(node.inputs[1]))


def _cast_to(node: Node, context: Context, target: np.dtype[Any]) -> Call:
    source = context.numpy_dtype(node.inputs[0])
    context.carrier(node, source)
    run = convert_values(
        source,
        target,
        context.carrier(node, target),
        saturate=bool(integer(node, "saturate", 1)),
        round_mode=text(node, "round_mode", "up"),
    )
    return Call(run, node.inputs[:1])
