"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from aznas_onnx.convert.attributes import integer, integers
from aznas_onnx.convert.context import Call, Context, Converter
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
Reduce: TypeAlias = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def reduction(function: Reduce, *, axes_input_since: int = 18) -> Converter:
    """Return the converter of a reduction; from version `axes_input_since` on its axes are an input."""

    def convert(node: Node, context: Context) -> Call:
        if node.version >= axes_input_since:
            axes = context.ints(node, 1, "the axes")
        else:
            axes = integers(node, "axes")
        keep = bool(integer(node, "keepdims", 1))
        if axes:
            return Call(lambda x: function(x, axes, keep), node.inputs[:1])
        if integer(node, "noop_with_empty_axes", 0):
            return Call(lambda x: function(x.unsqueeze(0), (0,), False), node.inputs[:1])
        return Call(lambda x: function(x, tuple(range(x.dim())), keep), node.inputs[:1])

    return convert


def sum_(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(x.sum(axes, keepdim=keep), count, rounding_mode="trunc").to(x.dtype)


def max_(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.amax(_nonempty(x, axes, -1), axes, keepdim=keep)


def min_(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.amin(_nonempty(x, axes, 1), axes, keepdim=keep)


def _nonempty(x: Tensor, axes: tuple[int, ...], sign: int) -> Tensor:
    """Give an empty axis one element that loses against every other: the extremum of nothing is infinite."""
    empty = [axis for axis in axes if x.shape[axis] == 0]
    if not empty:
        return x
    shape = list(x.shape)
    for axis in empty:
        shape[axis] = 1
    if x.is_floating_point():
        neutral: float = sign * math.inf
    elif x.dtype == torch.bool:
        neutral = sign > 0
    else:
        limits = torch.iinfo(x.dtype)
        neutral = limits.max if sign > 0 else limits.min
    return x.new_full(shape, neutral)


def prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((axis % max(x.dim(), 1) for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def l1(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return sum_(x.abs(), axes, keep)


def l2(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keepdim=keep)  # unlike sqrt, has a gradient at zero
        return norm
    return sum_square(x, axes, keep).double().sqrt().to(x.dtype)


def sum_square(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return sum_(x * x, axes, keep)


def log_sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return sum_(x, axes, keep).log().to(x.dtype)


def log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.numel() == 0:
        return log_sum(x.exp(), axes, keep)
    return torch.logsumexp(x if x.is_floating_point() else x.double(), axes, keepdim=keep).to(x.dtype)


def arg_reduction(function: Callable[..., Tensor]) -> Converter:
    """Return the converter of ArgMax or ArgMin."""

    def convert(node: Node, context: Context) -> Call:
        axis, keep = integer(node, "axis", 0), bool(integer(node, "keepdims", 1))
        if not integer(node, "select_last_index", 0):
            return Call(lambda x: function(_sortable(x), dim=axis, keepdim=keep), node.inputs)

        def run_last(x: Tensor) -> Tensor:
            return x.shape[axis] - 1 - function(_sortable(x).flip(axis), dim=axis, keepdim=keep)

        return Call(run_last, node.inputs)

    return convert


def _sortable(x: Tensor) -> Tensor:
    return x.to(torch.uint8) if x.dtype == torch.bool else x


def cumulative(function: Callable[..., Tensor], neutral: float) -> Converter:
    """Return the converter of CumSum or CumProd; `neutral` starts an exclusive one."""

    def convert(node: Node, context: Context) -> Call:
        axis = (context.ints(node, 1, "the axis") or (0,))[0]
        exclusive, reverse = bool(integer(node, "exclusive", 0)), bool(integer(node, "reverse", 0))

        def run(x: Tensor) -> Tensor:
            ordered = x.flip(axis) if reverse else x
            if exclusive:
                first = torch.full_like(ordered.narrow(axis, 0, 1), neutral)
                ordered = torch.cat((first, ordered.narrow(axis, 0, ordered.shape[axis] - 1)), dim=axis)
            total = function(ordered, axis, dtype=x.dtype)
            return total.flip(axis) if reverse else total

        return Call(run, node.inputs[:1])

    return convert
