"""Gather, Scatter and other operators that address elements by index.

ONNX indices can be negative; constant ones are made nonnegative here, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from aznas_onnx.convert.attributes import integer, text
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
_REDUCTIONS = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _from_front(index: Tensor, size: int) -> Tensor:
    """Count negative indices from the end."""
    index = index.long()
    return torch.where(index < 0, index + size, index)


def gather(node: Node, context: Context) -> Call:
    axis = integer(node, "axis", 0)
    known = context.known(node.inputs[1])
    if known is not None:
        return _gather_known(node, context, axis, known)

    def run(x: Tensor, index: Tensor) -> Tensor:
        picked = x.index_select(axis, _from_front(index, x.shape[axis]).reshape(-1))
        return picked if index.dim() == 1 else _unflatten(picked, axis, tuple(index.shape))

    def run_scalar(x: Tensor, index: Tensor) -> Tensor:
        return x.index_select(axis, _from_front(index, x.shape[axis]).reshape(1)).squeeze(axis)

    index_shape = context.known_shape(node.inputs[1])
    return Call(run_scalar if index_shape == () else run, node.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisPart:
    """The part of a tensor at one position of an axis, as a view."""

    axis: int
    position: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return the part."""
        return x.select(self.axis, self.position)


def _unflatten(x: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
    axis %= x.dim()
    return x.reshape(*x.shape[:axis], *shape, *x.shape[axis + 1 :])


def _gather_known(node: Node, context: Context, axis: int, index: np.ndarray) -> Call:
    size = context.shape(node, node.inputs[0])[axis]
    index = np.where(index < 0, index + size, index).astype(np.int64)
    if index.ndim == 0:
        return Call(AxisPart(axis=axis % context.rank(node, node.inputs[0]), position=int(index)), node.inputs[:1])
    positions, shape = context.tensor(index.reshape(-1)), index.shape
    if index.ndim == 1:
        return Call(lambda x: x.index_select(axis, positions), node.inputs[:1])
    return Call(lambda x: _unflatten(x.index_select(axis, positions), axis, shape), node.inputs[:1])


def gather_elements(node: Node, context: Context) -> Call:
    axis = integer(node, "axis", 0)
    return Call(lambda x, index: torch.gather(x, axis, _from_front(index, x.shape[axis])), node.inputs)


def _flat_index(index: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Turn index tuples, on the last axis, into positions in an array of these sizes."""
    flat = torch.zeros_like(index[..., 0], dtype=torch.int64)
    for axis, size in enumerate(sizes):
        flat = flat * size + _from_front(index[..., axis], size)
    return flat


def gather_nd(node: Node, context: Context) -> Call:
    batch_dims = integer(node, "batch_dims", 0)

    def run(x: Tensor, index: Tensor) -> Tensor:
        batch, indexed = x.shape[:batch_dims], x.shape[batch_dims : batch_dims + index.shape[-1]]
        rest = x.shape[batch_dims + index.shape[-1] :]
        flat = _flat_index(index, tuple(indexed)).reshape(math.prod(batch), -1)
        rows = torch.arange(flat.shape[0], device=x.device)[:, None] * math.prod(indexed)
        picked = x.reshape(math.prod(batch) * math.prod(indexed), *rest).index_select(0, (rows + flat).reshape(-1))
        return picked.reshape(*index.shape[:-1], *rest)

    return Call(run, node.inputs)


def _reduce_of(node: Node) -> str | None:
    name = text(node, "reduction", "none")
    if name not in _REDUCTIONS:
        raise unsupported(node, f"has reduction {name!r}", f"{', '.join(_REDUCTIONS)} are supported")
    return _REDUCTIONS[name]


def _scatter(axis: int, how: str | None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if how is None:
        return lambda x, index, updates: x.scatter(axis, index, updates)
    return lambda x, index, updates: x.scatter_reduce(axis, index, updates, how)


def scatter_elements(node: Node, context: Context) -> Call:
    axis = integer(node, "axis", 0)
    scatter = _scatter(axis, _reduce_of(node))
    return Call(lambda x, index, updates: scatter(x, _from_front(index, x.shape[axis]), updates), node.inputs)


def scatter_nd(node: Node, context: Context) -> Call:
    scatter = _scatter(0, _reduce_of(node))

    def run(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        depth = index.shape[-1]
        indexed, rest = tuple(x.shape[:depth]), x.shape[depth:]
        flat = _flat_index(index, indexed).reshape(-1, 1).expand(-1, math.prod(rest))
        rows = x.reshape(math.prod(indexed), math.prod(rest))
        return scatter(rows, flat, updates.reshape(-1, math.prod(rest))).reshape(x.shape)

    return Call(run, node.inputs)


def tensor_scatter(node: Node, context: Context) -> Call:
    """Write a block of positions into a cache, from a start that can differ by sample."""
    axis = integer(node, "axis", -2)
    circular = text(node, "mode", "linear") == "circular"

    def run(cache: Tensor, update: Tensor, start: Tensor | None = None) -> Tensor:
        steps = torch.arange(update.shape[axis], device=cache.device)
        positions = steps[None] if start is None else start[:, None] + steps
        if circular:
            positions = positions % cache.shape[axis]
        shape = [1] * update.dim()
        shape[0], shape[axis] = positions.shape
        return cache.scatter(axis, positions.reshape(shape).expand(update.shape), update)

    return Call(run, node.inputs)


def top_k(node: Node, context: Context) -> Call:
    """`k` is an attribute before version 10 and an input from it on. Of equal values the first comes first."""
    axis, largest = integer(node, "axis", -1), bool(integer(node, "largest", 1))
    count = (context.ints(node, 1, "k") or (0,))[0] if node.version >= 10 else integer(node, "k", 0)

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        values, index = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), index.narrow(axis, 0, count)

    return Call(run, node.inputs[:1])


def compress(node: Node, context: Context) -> Call:
    known = context.known(node.inputs[1])
    if known is None:
        raise unsupported(node, "selects by a condition that depends on data", "the condition must be a constant")
    positions = context.tensor(np.flatnonzero(known))
    if "axis" not in node.attributes:
        return Call(lambda x: x.reshape(-1).index_select(0, positions), node.inputs[:1])
    axis = integer(node, "axis", 0)
    return Call(lambda x: x.index_select(axis, positions), node.inputs[:1])


def non_zero(node: Node, context: Context) -> Call:
    # The size of the result depends on data, so this waits for the device.
    return Call(lambda x: torch.nonzero(x).t(), node.inputs)


def trilu(node: Node, context: Context) -> Call:
    diagonal = (context.ints(node, 1, "k") or (0,))[0]
    function = torch.triu if integer(node, "upper", 1) else torch.tril
    return Call(lambda x: function(x, diagonal), node.inputs[:1])
