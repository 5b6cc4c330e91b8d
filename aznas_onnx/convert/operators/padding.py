"""Pad, in all its modes, over any axes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integers, number, text
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.convert.sliding_window import to_torch_pads
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
Positions: TypeAlias = npt.NDArray[np.int64]


def pad(node: Node, context: Context) -> Call:
    """Read pads from an attribute before version 11 and from an input from it on; negative ones cut."""
    mode = text(node, "mode", "constant")
    begin, end = _pads(node, context)
    if not any(begin) and not any(end):
        return Call(lambda x: x, node.inputs[:1])
    if mode == "constant":
        return _pad_constant(node, context, to_torch_pads(begin, end))
    if mode not in ("reflect", "edge", "wrap"):
        raise unsupported(node, f"has mode {mode!r}", "modes 'constant', 'reflect', 'edge' and 'wrap' are supported")
    shape = context.shape(node, node.inputs[0])
    # One index list an axis is exact for any rank and for pads wider than the axis, which torch's modes are not.
    picks = [
        (axis, context.tensor(_positions(mode, shape[axis], before, after)))
        for axis, (before, after) in enumerate(zip(begin, end, strict=True))
        if before or after
    ]

    def run(x: Tensor) -> Tensor:
        for axis, positions in picks:
            x = x.index_select(axis, positions)
        return x

    return Call(run, node.inputs[:1])


def _pads(node: Node, context: Context) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the pads before and after every axis of the input."""
    pads = (context.ints(node, 1, "the pads") if node.version >= 11 else integers(node, "pads")) or ()
    axes = context.ints(node, 3, "the axes") if node.input(3) else None
    half = len(pads) // 2
    if axes is None:
        return pads[:half], pads[half:]
    rank = context.rank(node, node.inputs[0])
    begin, end = [0] * rank, [0] * rank
    for axis, before, after in zip(axes, pads[:half], pads[half:], strict=True):
        begin[axis], end[axis] = before, after
    return tuple(begin), tuple(end)


def _pad_constant(node: Node, context: Context, pads: list[int]) -> Call:
    value_name = node.input(2) if node.version >= 11 else ""
    value = context.scalar(value_name) if value_name else number(node, "value", 0.0)
    if value is not None:
        return Call(lambda x: F.pad(x, pads, value=value), node.inputs[:1])

    def run(x: Tensor, fill: Tensor) -> Tensor:
        inside = F.pad(torch.ones_like(x, dtype=torch.bool), pads)
        return torch.where(inside, F.pad(x, pads), fill.to(x.dtype))

    return Call(run, (node.inputs[0], value_name))


def _positions(mode: str, size: int, before: int, after: int) -> Positions:
    """Return which element of an axis each element of the padded axis copies; negative pads cut first."""
    first, last = max(-before, 0), size - max(-after, 0)
    positions = np.arange(-max(before, 0), last - first + max(after, 0), dtype=np.int64)
    return first + _folded(mode, last - first, positions)


def _folded(mode: str, size: int, positions: Positions) -> Positions:
    if mode == "wrap":
        return positions % size
    if mode == "edge" or size == 1:
        return positions.clip(0, size - 1)
    period = 2 * (size - 1)  # back and forth without repeating the ends
    folded = positions % period
    return np.asarray(np.minimum(folded, period - folded))
