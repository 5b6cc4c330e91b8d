"""Rounding to integers and back, to compare a quantised file with other runtimes.

Quantised integers are integers here too. Gradients do not pass the rounding, which is why scoring strips these
operators from a graph before it gets here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from aznas_onnx.convert.attributes import integer
from aznas_onnx.convert.context import Call, Context
from aznas_onnx.convert.dtypes import INTEGER_RANGES, numpy_dtype
from aznas_onnx.convert.rounding import MINIFLOATS
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor

_MOST = 255  # of 8 bits


def _aligner(node: Node, context: Context) -> Callable[[Tensor], Tensor]:
    """Return the function that broadcasts a scale or zero point: per tensor, per axis, or per block of an axis."""
    shape = context.shape(node, node.inputs[0])
    granularity = context.shape(node, node.inputs[1])
    axis = integer(node, "axis", 1)
    block = integer(node, "block_size", 0)
    if block:
        return lambda parameter: parameter.repeat_interleave(block, axis).narrow(axis, 0, shape[axis])
    if len(granularity) == 1 and granularity[0] > 1:
        along = [1] * len(shape)
        along[axis if len(shape) > 1 else 0] = -1
        return lambda parameter: parameter.reshape(along)
    return lambda parameter: parameter.reshape(()) if parameter.numel() == 1 else parameter


def dequantize_linear(node: Node, context: Context) -> Call:
    align, dtype = _aligner(node, context), context.dtype

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        centred = x.to(dtype) if zero is None else x.to(dtype) - align(zero).to(dtype)
        return centred * align(scale)

    return Call(run, node.inputs)


def quantize_linear(node: Node, context: Context) -> Call:
    align = _aligner(node, context)
    code, zero_name = integer(node, "output_dtype", 0), node.input(2)
    target = (
        context.numpy_dtype(zero_name) if zero_name else numpy_dtype(code or 2)  # 2 is uint8, the default
    )
    carrier = context.carrier(node, target)
    narrow, saturate = MINIFLOATS.get(target.name), bool(integer(node, "saturate", 1))

    def run_float(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        assert narrow is not None
        shifted = x / align(scale) if zero is None else x / align(scale) + align(zero)
        return narrow.round(shifted, saturate=saturate)

    if narrow is not None:
        return Call(run_float, node.inputs)
    low, high = INTEGER_RANGES[target.name]

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        rounded = torch.round(x / align(scale))
        shifted = rounded if zero is None else rounded + align(zero).to(rounded.dtype)
        return shifted.clamp(low, high).to(carrier)

    return Call(run, node.inputs)


def dynamic_quantize_linear(node: Node, context: Context) -> Call:
    """Round to 8 bits by the range of the whole tensor, zero included; samples of a batch share it."""

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        least, most = torch.aminmax(x)
        low, high = least.clamp(max=0.0), most.clamp(min=0.0)
        scale = (high - low) / _MOST
        divisor = torch.where(scale == 0, torch.ones_like(scale), scale)
        zero = torch.round((-low / divisor).clamp(0, _MOST))
        integers = (torch.round(x / divisor) + zero).clamp(0, _MOST)
        return integers.to(torch.uint8), scale, zero.to(torch.uint8)

    return Call(run, node.inputs)
