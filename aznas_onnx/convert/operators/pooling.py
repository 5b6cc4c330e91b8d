"""Pooling over windows and global pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, integers, number
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.convert.operators.read_window import read_window
from aznas_onnx.convert.sliding_window import Window
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
_MAX: dict[int, Callable[..., Tensor]] = {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}
_MAX_WITH_INDICES: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _read(node: Node, context: Context) -> Window:
    kernel = integers(node, "kernel_shape") or ()
    if not 1 <= len(kernel) <= 3:
        raise unsupported(node, f"has {len(kernel)} spatial axes", "one to three spatial axes are supported")
    return read_window(node, context, kernel)


def _fits_torch(window: Window) -> bool:
    return window.is_symmetric and all(2 * pad <= width for pad, width in zip(window.begin, window.kernel, strict=True))


# ---- maximum ------------------------------------------------------------------------------------------------------
def max_pool(node: Node, context: Context) -> Call:
    window = _read(node, context)
    with_indices = len(node.outputs) > 1 and context.is_read(node.outputs[1])
    exact = _fits_torch(window)
    pads = None if exact else window.covering_pads(context.shape(node, node.inputs[0])[2:])
    options: dict[str, Any] = {
        "kernel_size": window.kernel,
        "stride": window.strides,
        "dilation": window.dilations,
        "padding": window.begin if exact else 0,
        "ceil_mode": window.ceil and exact,
    }
    if with_indices:
        return Call(_max_pool_with_indices(node, window, options, pads), node.inputs)
    pool = partial(_MAX[len(window.kernel)], **options)
    if not context.is_float(node.inputs[0]):
        return Call(_on_integers(pool, pads), node.inputs)
    if pads is None:
        return Call(pool, node.inputs)
    return Call(lambda x: pool(F.pad(x, pads, value=-math.inf)), node.inputs)


def _on_integers(pool: Callable[..., Tensor], pads: list[int] | None) -> Callable[[Tensor], Tensor]:
    """Pool 8-bit integers, which torch's pools do not accept; double represents them exactly."""

    def run(x: Tensor) -> Tensor:
        wide = x.double() if pads is None else F.pad(x.double(), pads, value=-math.inf)
        return pool(wide).to(x.dtype)

    return run


def _max_pool_with_indices(
    node: Node, window: Window, options: dict[str, Any], pads: list[int] | None
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """ONNX counts indices over the whole tensor; torch over one channel (of the padded tensor, if we padded)."""
    pool = _MAX_WITH_INDICES[len(window.kernel)]
    begin = (0,) * len(window.kernel) if pads is None else window.begin
    column_major = bool(integer(node, "storage_order", 0))

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        sizes = x.shape[2:]
        padded = x.double() if not x.is_floating_point() else x
        padded = padded if pads is None else F.pad(padded, pads, value=-math.inf)
        values, index = pool(padded, **options)
        coordinates = []
        for size, pad in zip(reversed(padded.shape[2:]), reversed(begin), strict=True):
            coordinates.append(index % size - pad)  # last axis first
            index = index // size
        steps = list(zip(coordinates, reversed(sizes), strict=True))
        if not column_major:  # column-major: the first axis runs fastest
            steps.reverse()
        flat = torch.zeros_like(index)
        for coordinate, size in steps:
            flat = flat * size + coordinate
        planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(sizes)
        flat = flat + planes.reshape(x.shape[0], x.shape[1], *([1] * len(sizes)))
        return values.to(x.dtype), flat

    return run


def max_unpool(node: Node, context: Context) -> Call:
    """Scatter maxima into zeros: the inverse of MaxPool with indices."""
    kernel = integers(node, "kernel_shape") or ()
    window = read_window(node, context, kernel)
    shape = context.shape(node, node.inputs[0])
    natural = (
        *shape[:2],
        *(
            (size - 1) * stride + width - before - after
            for size, stride, width, before, after in zip(
                shape[2:], window.strides, kernel, window.begin, window.end, strict=True
            )
        ),
    )
    wanted = context.ints(node, 2, "the output shape") or natural

    def run(x: Tensor, index: Tensor) -> Tensor:
        flat = x.new_zeros(math.prod(natural)).scatter(0, index.reshape(-1), x.reshape(-1))
        result = flat.reshape(natural)
        if wanted == natural:
            return result
        grow = [pad for size, goal in zip(natural[::-1], wanted[::-1], strict=True) for pad in (0, goal - size)]
        return F.pad(result, grow)

    return Call(run, node.inputs[:2])


# ---- average and p-norm -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool:
    """An average pool that pads both sides equally: the function of a step of ``(x)``.

    - `kernel`, `strides`, `padding`: Of each spatial axis.
    - `rounds_up`: Whether the last window can begin inside the map and end outside of it.
    - `counts_pads`: Whether padding counts as elements.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    rounds_up: bool
    counts_pads: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Return the averages of a (batch, channels, ...) tensor."""
        run = _AVERAGE[len(self.kernel)]
        return run(x, self.kernel, self.strides, self.padding, self.rounds_up, self.counts_pads)


def _sum_windows(window: Window) -> Callable[[Tensor], Tensor]:
    """Return the sum over each window of an input that is padded already."""
    if max(window.dilations) == 1:
        pool = partial(_AVERAGE[len(window.kernel)], kernel_size=window.kernel, stride=window.strides)
        elements = math.prod(window.kernel)
        return lambda x: pool(x) * elements
    return partial(_sum_dilated, window)


def _sum_dilated(window: Window, x: Tensor) -> Tensor:
    """Sum axis by axis over strided slices: torch's average pools have no dilation."""
    for axis, (width, stride, dilation) in enumerate(
        zip(window.kernel, window.strides, window.dilations, strict=True), start=2
    ):
        count = (x.shape[axis] - (width - 1) * dilation - 1) // stride + 1
        parts = []
        for tap in range(width):
            index = [slice(None)] * x.dim()
            index[axis] = slice(tap * dilation, tap * dilation + (count - 1) * stride + 1, stride)
            parts.append(x[tuple(index)])
        x = torch.stack(parts).sum(0)
    return x


def _elements_in_windows(window: Window, sizes: tuple[int, ...], count_pads: bool) -> np.ndarray:
    """Return how many elements each window averages over: shape of the output's spatial axes."""
    total = np.ones(())
    for axis, (size, count) in enumerate(zip(sizes, window.output_sizes(sizes), strict=True)):
        before, after = (window.begin[axis], window.end[axis]) if count_pads else (0, 0)
        start = np.arange(count) * window.strides[axis] - window.begin[axis]
        positions = start[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        inside = ((positions >= -before) & (positions < size + after)).sum(1)
        total = total[..., None] * inside
    return total


def average_pool(node: Node, context: Context) -> Call:
    window = _read(node, context)
    count_pads = bool(integer(node, "count_include_pad", 0))
    if _fits_torch(window) and max(window.dilations) == 1:
        pool = AveragePool(
            kernel=window.kernel,
            strides=window.strides,
            padding=window.begin,
            rounds_up=window.ceil,
            counts_pads=count_pads,
        )
        return Call(pool, node.inputs)
    sizes = context.shape(node, node.inputs[0])[2:]
    pads, add = window.covering_pads(sizes), _sum_windows(window)
    share = context.tensor(1.0 / np.maximum(_elements_in_windows(window, sizes, count_pads), 1.0))  # 0 where all is pad
    return Call(lambda x: add(F.pad(x, pads)) * share, node.inputs)


def lp_pool(node: Node, context: Context) -> Call:
    window, p = _read(node, context), number(node, "p", 2)
    pads, add = window.covering_pads(context.shape(node, node.inputs[0])[2:]), _sum_windows(window)
    return Call(lambda x: add(F.pad(x, pads).abs().pow(p)).pow(1.0 / p), node.inputs)


# ---- everything ---------------------------------------------------------------------------------------------------
def _spatial_axes(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def global_average_pool(node: Node, context: Context) -> Call:
    # The derivative of a sum is a view of the gradient; that of torch's mean is a map.
    return Call(lambda x: x.sum(_spatial_axes(x), keepdim=True) / max(math.prod(x.shape[2:]), 1), node.inputs)


def global_max_pool(node: Node, context: Context) -> Call:
    return Call(lambda x: torch.amax(x, _spatial_axes(x), keepdim=True), node.inputs)


def global_lp_pool(node: Node, context: Context) -> Call:
    p = number(node, "p", 2)
    return Call(lambda x: torch.linalg.vector_norm(x, p, _spatial_axes(x), keepdim=True), node.inputs)
