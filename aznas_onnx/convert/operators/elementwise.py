"""Functions of one or several tensors, element by element, with NumPy broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch

from aznas_onnx.convert import inplace_activations
from aznas_onnx.convert.attributes import integer, number, text
from aznas_onnx.convert.context import Call, Context, Converter, unsupported
from aznas_onnx.convert.dtypes import INTEGER_RANGES
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def plain(function: Callable[..., Any]) -> Converter:
    """Return the converter of an operator that takes no attributes and means exactly what `function` does."""

    def convert(node: Node, context: Context) -> Call:
        return Call(function, node.inputs)

    return convert


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Converter:
    """Return the converter of an operator that folds `function` over any number of inputs."""

    def run(*tensors: Tensor) -> Tensor:
        return reduce(function, tensors)

    def convert(node: Node, context: Context) -> Call:
        return Call(function if len(node.inputs) == 2 else run, node.inputs)

    return convert


def along_axis(function: Callable[[Tensor, Tensor], Tensor]) -> Converter:
    """Return the converter, before version 7, of a binary operator that aligns its second input at an axis."""

    def convert(node: Node, context: Context) -> Call:
        rank = context.rank(node, node.inputs[0])
        own = context.rank(node, node.inputs[1])
        axis = integer(node, "axis", rank - own)
        missing = (1,) * (rank - axis % max(rank, 1) - own)
        return Call(lambda a, b: function(a, b.reshape(*b.shape, *missing)), node.inputs)

    return convert


def mean(node: Node, context: Context) -> Call:
    count = len(node.inputs)
    return Call(lambda *tensors: reduce(torch.add, tensors) / count, node.inputs)


def div(node: Node, context: Context) -> Call:
    if context.is_float(node.inputs[0]):
        return Call(torch.div, node.inputs)
    return Call(lambda a, b: torch.div(a, b, rounding_mode="trunc"), node.inputs)


def mod(node: Node, context: Context) -> Call:
    return Call(torch.fmod if integer(node, "fmod", 0) else torch.remainder, node.inputs)


def pow_(node: Node, context: Context) -> Call:
    base, exponent = node.inputs
    known = context.scalar(exponent)
    if known is not None and context.is_float(base) and (context.known_shape(exponent) or ()) == ():
        return Call(lambda x: torch.pow(x, known), (base,))  # torch has short cuts for 2, 0.5, -1 as numbers
    if context.is_float(exponent) and not context.is_float(base):
        return Call(lambda a, b: torch.pow(a.to(b.dtype), b).to(a.dtype), node.inputs)
    return Call(lambda a, b: torch.pow(a, b.to(a.dtype)), node.inputs)


def clip(node: Node, context: Context) -> Call:
    """Bounds are attributes before version 11 and inputs from it on; the graph can compute them."""
    names = [node.input(1), node.input(2)] if node.version >= 11 else ["", ""]
    if node.version >= 11:
        low, high = context.scalar(names[0]), context.scalar(names[1])
    else:
        low = number(node, "min", 0.0) if "min" in node.attributes else None
        high = number(node, "max", 0.0) if "max" in node.attributes else None
    if (names[0] and low is None) or (names[1] and high is None):
        return Call(_clip_between, (node.inputs[0], *names))
    if low is None and high is None:
        return Call(lambda x: x, node.inputs[:1])
    # On a CPU, clamp and its gradient take over twice as long as these two special cases of it.
    if context.is_float(node.inputs[0]) and low == 0 and high is None:
        return Call(inplace_activations.RELU, node.inputs[:1])
    if context.is_float(node.inputs[0]) and low is not None and high is not None and low <= high:
        return Call(inplace_activations.clip(low, high), node.inputs[:1])
    return Call(lambda x: torch.clamp(x, low, high), node.inputs[:1])


def _clip_between(x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def is_inf(node: Node, context: Context) -> Call:
    negative, positive = integer(node, "detect_negative", 1), integer(node, "detect_positive", 1)
    if negative and positive:
        return Call(torch.isinf, node.inputs)
    if positive:
        return Call(torch.isposinf, node.inputs)
    return Call(torch.isneginf if negative else torch.zeros_like, node.inputs)


def bitwise_not(node: Node, context: Context) -> Call:
    dtype = context.numpy_dtype(node.inputs[0])
    if dtype.name in ("uint16", "uint32", "uint4", "uint2"):  # carried in a wider type
        mask = INTEGER_RANGES[dtype.name][1]
        return Call(lambda x: torch.bitwise_not(x) & mask, node.inputs)
    return Call(torch.bitwise_not, node.inputs)


def bit_shift(node: Node, context: Context) -> Call:
    """Bits that leave the type on the left are dropped; a shift by the width or more leaves only the sign's fill."""
    dtype = context.numpy_dtype(node.inputs[0])
    if dtype.name == "uint64":
        raise unsupported(node, "shifts unsigned 64-bit integers", "narrower and signed integers are supported")
    low, high = INTEGER_RANGES[dtype.name]
    width = dtype.itemsize * 8
    to_left = text(node, "direction", "LEFT").upper() == "LEFT"

    def run(x: Tensor, amount: Tensor) -> Tensor:
        wide, shift = x.long(), amount.long()
        outside = (shift < 0) | (shift >= width)
        shift = shift.masked_fill(outside, 0)
        if to_left:
            moved = (wide << shift).masked_fill(outside, 0)
            moved = moved if width == 64 else ((moved - low) & (high - low)) + low
        else:
            moved = torch.where(outside, torch.where(wide < 0, -1, 0), wide >> shift)
        return moved.to(x.dtype)

    return Call(run, node.inputs)
