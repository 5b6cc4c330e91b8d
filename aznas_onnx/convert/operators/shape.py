"""Operators that move elements or change the shape without arithmetic."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, integers, text
from aznas_onnx.convert.context import Call, Context
from aznas_onnx.convert.sliding_window import to_torch_pads
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


# ---- views --------------------------------------------------------------------------------------------------------
def reshape(node: Node, context: Context) -> Call:
    shape = context.ints(node, 1, "the shape") if context.known(node.inputs[1]) is not None else None
    if shape is None:  # computed from data, but the result can be known
        return _reshape_to(context.shape(node, node.outputs[0]), node)
    if 0 not in shape or integer(node, "allowzero", 0):
        return _reshape_to(shape, node)
    source = context.shape(node, node.inputs[0])
    return _reshape_to(tuple(size or source[axis] for axis, size in enumerate(shape)), node)


def _reshape_to(shape: tuple[int, ...], node: Node) -> Call:
    return Call(lambda x: x.reshape(shape), node.inputs[:1])


def flatten(node: Node, context: Context) -> Call:
    axis = integer(node, "axis", 1)

    def run(x: Tensor) -> Tensor:
        return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))

    return Call(run, node.inputs)


def _axes(node: Node, context: Context) -> tuple[int, ...] | None:
    """Return the axes of Squeeze and Unsqueeze: an attribute before version 13, an input from it on."""
    return context.ints(node, 1, "the axes") if node.version >= 13 else integers(node, "axes")


def squeeze(node: Node, context: Context) -> Call:
    axes = _axes(node, context)
    if axes is None:
        return Call(torch.squeeze, node.inputs[:1])
    return Call(lambda x: x.squeeze(axes), node.inputs[:1])


def unsqueeze(node: Node, context: Context) -> Call:
    axes = _axes(node, context) or ()
    if len(axes) == 1:
        axis = axes[0]
        return Call(lambda x: x.unsqueeze(axis), node.inputs[:1])

    def run(x: Tensor) -> Tensor:
        rank = x.dim() + len(axes)  # the axes are those of the result
        for position in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(position)
        return x

    return Call(run, node.inputs[:1])


def transpose(node: Node, context: Context) -> Call:
    order = integers(node, "perm")
    if order is None:
        return Call(lambda x: x.permute(*reversed(range(x.dim()))), node.inputs)
    return Call(lambda x: x.permute(order), node.inputs)


def expand(node: Node, context: Context) -> Call:
    shape = context.known_shape(node.outputs[0])
    if shape is None:
        wanted = context.ints(node, 1, "the shape") or ()
        shape = np.broadcast_shapes(context.shape(node, node.inputs[0]), wanted)
    return Call(lambda x: x.expand(shape), node.inputs[:1])


def identity(node: Node, context: Context) -> Call:
    return Call(lambda x: x, node.inputs[:1])


def dropout(node: Node, context: Context) -> Call:
    """Leave it off, always: scoring is inference for everything but BatchNormalization."""
    if len(node.outputs) < 2 or not context.is_read(node.outputs[1]):
        return Call(lambda x: x, node.inputs[:1])
    mask = torch.bool if node.version >= 10 else context.dtype
    return Call(lambda x: (x, torch.ones_like(x, dtype=mask)), node.inputs[:1])


# ---- joining and cutting ------------------------------------------------------------------------------------------
def concat(node: Node, context: Context) -> Call:
    axis = integer(node, "axis", 1)
    return Call(lambda *tensors: torch.cat(tensors, axis), node.inputs)


def split(node: Node, context: Context) -> Call:
    """Sizes are an attribute before version 13 and an input from it on; equal parts where they are omitted."""
    axis = integer(node, "axis", 0)
    sizes = context.ints(node, 1, "the sizes") if node.version >= 13 else integers(node, "split")
    if sizes is None:
        total = context.shape(node, node.inputs[0])[axis]
        parts = integer(node, "num_outputs", len(node.outputs))
        size = -(-total // parts)  # the last part is smaller where the parts are uneven
        sizes = (*(size,) * (parts - 1), total - size * (parts - 1))
    lengths = list(sizes)
    return Call(lambda x: torch.split(x, lengths, axis), node.inputs[:1])


def slice_(node: Node, context: Context) -> Call:
    """Bounds are attributes before version 10 and inputs from it on."""
    if node.version < 10:
        starts, ends, axes = integers(node, "starts"), integers(node, "ends"), integers(node, "axes")
        steps = None
    else:
        starts, ends = context.ints(node, 1, "the starts"), context.ints(node, 2, "the ends")
        axes, steps = context.ints(node, 3, "the axes"), context.ints(node, 4, "the steps")
    starts, ends = starts or (), ends or ()
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    rank = len(context.known_shape(node.inputs[0]) or ()) or max((axis + 1 for axis in axes), default=0)
    index = [slice(None)] * rank
    backwards: list[tuple[int, int, int, int]] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            index[axis] = slice(start, end, step)
        else:
            backwards.append((start, end, axis, step))
    forwards = tuple(index)
    if not backwards:
        return Call(lambda x: x[forwards], node.inputs[:1])
    shape = context.shape(node, node.inputs[0])
    picks = [(axis, context.tensor(_backwards(start, end, step, shape[axis]))) for start, end, axis, step in backwards]

    def run(x: Tensor) -> Tensor:  # torch slices cannot run backwards
        for axis, positions in picks:
            x = x.index_select(axis, positions)
        return x[forwards]

    return Call(run, node.inputs[:1])


def _backwards(start: int, end: int, step: int, size: int) -> np.ndarray:
    """Return the positions of a slice with a negative step; ONNX clamps its start where Python gives nothing."""
    first = min(max(start + size if start < 0 else start, 0), size - 1)
    last = min(max(end + size if end < 0 else end, -1), size - 1)
    return np.arange(first, last, step)


def tile(node: Node, context: Context) -> Call:
    repeats = context.ints(node, 1, "the repeats") or ()
    return Call(lambda x: x.repeat(repeats), node.inputs[:1])


def center_crop_pad(node: Node, context: Context) -> Call:
    shape = context.shape(node, node.inputs[0])
    wanted = context.ints(node, 1, "the shape") or ()
    axes = integers(node, "axes") or tuple(range(len(shape)))
    begin, end = [0] * len(shape), [0] * len(shape)
    for axis, goal in zip(axes, wanted, strict=True):
        change = goal - shape[axis]  # cropping rounds towards the left, padding puts the odd one on the right
        begin[axis] = change // 2 if change > 0 else -(-change // 2)
        end[axis] = change - begin[axis]
    pads = to_torch_pads(tuple(begin), tuple(end))
    return Call(lambda x: F.pad(x, pads), node.inputs[:1])


# ---- blocks -------------------------------------------------------------------------------------------------------
def depth_to_space(node: Node, context: Context) -> Call:
    size = integer(node, "blocksize", 1)
    if text(node, "mode", "DCR") == "CRD":
        return Call(lambda x: F.pixel_shuffle(x, size), node.inputs)

    def run(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        depth = channels // (size * size)
        blocks = x.reshape(batch, size, size, depth, height, width).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(batch, depth, height * size, width * size)

    return Call(run, node.inputs)


def space_to_depth(node: Node, context: Context) -> Call:
    size = integer(node, "blocksize", 1)
    if text(node, "mode", "DCR") == "CRD":
        return Call(lambda x: F.pixel_unshuffle(x, size), node.inputs)

    def run(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(batch, channels * size * size, height // size, width // size)

    return Call(run, node.inputs)


def reverse_sequence(node: Node, context: Context) -> Call:
    batch_axis, time_axis = integer(node, "batch_axis", 1), integer(node, "time_axis", 0)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        ordered = x.movedim((batch_axis, time_axis), (0, 1))
        steps = torch.arange(ordered.shape[1], device=x.device)
        limits = lengths[:, None]
        order = torch.where(steps < limits, limits - 1 - steps, steps)
        rows = torch.arange(ordered.shape[0], device=x.device)[:, None]
        return ordered[rows, order].movedim((0, 1), (batch_axis, time_axis))

    return Call(run, node.inputs)


# ---- shapes as values ---------------------------------------------------------------------------------------------
def shape_(node: Node, context: Context) -> Call:
    """Usually folded; the remaining cases are tensors of data-dependent shape."""
    begin, end = integer(node, "start", 0), node.attributes.get("end")
    part = slice(begin, None if end is None else integer(node, "end", 0))
    return Call(lambda x: torch.tensor(x.shape[part], dtype=torch.int64, device=x.device), node.inputs)


def size_(node: Node, context: Context) -> Call:
    return Call(lambda x: torch.tensor(x.numel(), dtype=torch.int64, device=x.device), node.inputs)
