"""Sampling grids, and columns to images."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, integers, text
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
_GRID_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}


def grid_sample(node: Node, context: Context) -> Call:
    name = text(node, "mode", "bilinear" if node.version < 20 else "linear")
    mode, padding = _GRID_MODES.get(name), text(node, "padding_mode", "zeros")
    spatial = context.rank(node, node.inputs[0]) - 2
    if mode is None or spatial not in (2, 3) or (spatial == 3 and mode == "bicubic"):
        raise unsupported(
            node,
            f"samples {spatial} spatial axes in mode {name!r}",
            "two axes in modes linear, nearest and cubic and three in modes linear and nearest are supported",
        )
    corners = bool(integer(node, "align_corners", 0))
    return Call(lambda x, grid: F.grid_sample(x, grid, mode, padding, corners), node.inputs)


def affine_grid(node: Node, context: Context) -> Call:
    size = list(context.ints(node, 1, "the size") or ())
    corners = bool(integer(node, "align_corners", 0))
    return Call(lambda theta: F.affine_grid(theta, size, corners), node.inputs[:1])


def col2im(node: Node, context: Context) -> Call:
    """Add up overlapping blocks over any number of spatial axes."""
    image = context.ints(node, 1, "the image shape") or ()
    block = context.ints(node, 2, "the block shape") or ()
    rank = len(image)
    strides, dilations = integers(node, "strides") or (1,) * rank, integers(node, "dilations") or (1,) * rank
    pads = integers(node, "pads") or (0,) * (2 * rank)
    # target[taps, windows]: which element of the flat image each element of a column belongs to.
    target, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), np.bool_)
    for axis in range(rank):
        room = image[axis] + pads[axis] + pads[rank + axis] - dilations[axis] * (block[axis] - 1) - 1
        starts = np.arange(room // strides[axis] + 1) * strides[axis] - pads[axis]
        positions = np.arange(block[axis])[:, None] * dilations[axis] + starts
        valid = (positions >= 0) & (positions < image[axis])
        shape = (target.shape[0] * positions.shape[0], target.shape[1] * positions.shape[1])
        target = (target[:, None, :, None] * image[axis] + positions[None, :, None, :]).reshape(shape)
        inside = (inside[:, None, :, None] & valid[None, :, None, :]).reshape(shape)
    elements = math.prod(image)
    index = context.tensor(np.where(inside, target, elements).reshape(-1))  # padding goes to a slot that is cut off

    def run(x: Tensor) -> Tensor:
        batch, rows, windows = x.shape
        columns = x.reshape(-1, math.prod(block) * windows)
        flat = columns.new_zeros(columns.shape[0], elements + 1).index_add(1, index, columns)
        return flat[:, :elements].reshape(batch, rows // math.prod(block), *image)

    return Call(run, node.inputs[:1])
