"""One form for selecting, splitting and dense concatenation.

a number or a piece taken after a Transpose                     taken before it
one slice and a squeeze, one piece of a split and a squeeze     Gather by a number
slices that divide an axis between them                         Split
slices of several axes, one after another                       Slice
Concat (Concat (a, b), c), the inner one without other readers  Concat (a, b, c)
Concat (f0, f1, f2) after Concat (f0, f1)                       Concat (Concat (f0, f1), f2)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at

__all__ = ["REWRITES", "inverse", "permutation", "slice_window"]

_MOST_OPERANDS = 4096  # a tensor joined with itself, and that again with itself, is two to some power of them


def permutation(editor: Editor, node: Node) -> tuple[int, ...] | None:
    """Return the order of axes that a Transpose makes; None where the rank is not known."""
    given: Any = node.attributes.get("perm")
    if given is not None:
        return tuple(given)
    rank = editor.rank(node.inputs[0])
    return None if rank is None else tuple(reversed(range(rank)))


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the permutation that undoes another."""
    return tuple(map(order.index, range(len(order))))


def _slice_operands(editor: Editor, node: Node) -> tuple[tuple[int, ...], ...] | None:
    """Return starts, ends, axes and steps of a Slice; None where they are not known."""
    rank = editor.rank(node.inputs[0])
    attributes: Any = node.attributes
    if rank is None:
        return None
    if "starts" in attributes:
        starts, ends, axes, steps = attributes["starts"], attributes["ends"], attributes.get("axes"), None
    else:
        starts, ends = editor.integers(node.inputs[1]), editor.integers(node.inputs[2])
        axes, steps = (editor.integers(name) if (name := node.input(index)) else None for index in (3, 4))
        if (node.input(3) and axes is None) or (node.input(4) and steps is None):
            return None
    if starts is None or ends is None:
        return None
    axes = tuple(axis % rank for axis in axes) if axes is not None else tuple(range(len(starts)))
    return tuple(starts), tuple(ends), axes, tuple(steps) if steps is not None else (1,) * len(starts)


def slice_window(editor: Editor, node: Node) -> tuple[int, int, int] | None:
    """Return axis, start and end of a Slice along one axis in steps of one; None for any other."""
    shape = editor.shape(node.inputs[0])
    operands = _slice_operands(editor, node)
    if shape is None or operands is None or len(operands[0]) != 1 or operands[3] != (1,):
        return None
    (start,), (end,), (axis,), _ = operands
    if axis == 0 and not 0 <= start < end <= shape[0]:
        return None  # the current batch size can cut it off
    start, end, _ = slice(start, end).indices(shape[axis])
    return axis, start, end


def _squeezed_axes(editor: Editor, node: Node) -> tuple[int, ...] | None:
    rank = editor.rank(node.inputs[0])
    given: Any = editor.integers(node.inputs[1]) if node.input(1) else node.attributes.get("axes")
    return None if given is None or rank is None else tuple(axis % rank for axis in given)


@ending_at("Squeeze")
def _select(editor: Editor, node: Node) -> Declined:
    """A Squeeze of the one element that a Slice or Split took along an axis."""
    before = editor.producer(node.inputs[0])
    axes = _squeezed_axes(editor, node)
    if axes is None or len(axes) != 1:
        return "it does not drop one axis"
    if before is None:
        return "nothing was taken apart before it"
    if before.is_op("Slice"):
        window = slice_window(editor, before)
        if window is None or window[0] != axes[0] or window[2] - window[1] != 1:
            return "the slice does not take one element along the axis"
        index = window[1]
    elif before.is_op("Split"):
        axis: Any = before.attributes.get("axis", 0)
        rank = editor.rank(before.inputs[0])
        if rank is None or axis % rank != axes[0]:
            return "the split is along another axis"
        sizes = [editor.shape(name) for name in before.outputs]
        if any(size is None or size[axes[0]] != 1 for size in sizes):
            return "the pieces have more than one element"
        index = before.outputs.index(node.inputs[0])
    else:
        return "nothing was taken apart before it"
    patch = NodeBuilder(editor, node)
    place = editor.add_array(np.array(index, dtype=np.int64), f"{node.name}/index")
    return patch.finish("Gather", before.inputs[0], place, axis=axes[0])


@ending_at("Gather", "Squeeze")
def _before_transpose(editor: Editor, node: Node) -> Declined:
    """Drop an axis before a Transpose of the others, not after, where the Transpose has no other reader.

    Exporters split queries, keys and values of one projection in either order.
    """
    inner = editor.producer(node.inputs[0])
    order = None if inner is None or not inner.is_op("Transpose") else permutation(editor, inner)
    if inner is None or order is None or editor.is_protected(node.inputs[0]):
        return "no transpose comes before it"
    if not all(_drops_axis(editor, reader) for reader in editor.readers(node.inputs[0])):
        return "the transpose is read in other ways too"
    dropped = _drops_axis(editor, node)
    kept = [axis for index, axis in enumerate(order) if index not in dropped]
    patch = NodeBuilder(editor, node)
    outside = tuple(order[index] for index in dropped)
    if node.is_op("Gather"):
        smaller = patch.add("Gather", inner.inputs[0], node.inputs[1], name=node.name, axis=outside[0])
    else:
        smaller = patch.add("Squeeze", inner.inputs[0], patch.integers(*outside), name=node.name)
    places = tuple(sorted(kept).index(axis) for axis in kept)
    return patch.finish("Transpose", smaller, perm=places)


def _drops_axis(editor: Editor, node: Node) -> tuple[int, ...]:
    """Return the axes that a Squeeze, or a Gather by a number, takes away from its input; none for other nodes."""
    rank = editor.rank(node.inputs[0])
    if node.is_op("Squeeze"):
        return _squeezed_axes(editor, node) or ()
    if not node.is_op("Gather") or editor.rank(node.inputs[1]) != 0 or rank is None:
        return ()
    axis: Any = node.attributes.get("axis", 0)
    return (axis % rank,)


@ending_at("Slice")
def _partition(editor: Editor, node: Node) -> Declined:
    """Slices of one tensor that partition an axis; the last of them in the graph is replaced."""
    window = slice_window(editor, node)
    shape = editor.shape(node.inputs[0])
    if window is None or shape is None:
        return "it does not slice along one axis"
    axis = window[0]
    if axis == 0 and shape[0] == editor.batch_size:
        return "it may be the batch that is sliced"
    pieces: dict[int, tuple[int, Node]] = {}
    for reader in editor.readers(node.inputs[0]):
        other = slice_window(editor, reader) if reader.is_op("Slice") else None
        if other is not None and other[0] == axis:
            if other[1] in pieces:
                return "slices overlap"
            pieces[other[1]] = (other[2], reader)
    bounds = sorted(pieces)
    ends = [pieces[start][0] for start in bounds]
    if len(bounds) < 2 or bounds != [0, *ends[:-1]] or ends[-1] != shape[axis]:
        return "the slices do not divide the axis"
    slices = [pieces[start][1] for start in bounds]
    first = min(slices, key=editor.position)
    sizes = editor.add_integers([end - start for start, end in zip(bounds, ends, strict=True)], f"{first.name}/sizes")
    outputs = tuple(piece.outputs[0] for piece in slices)
    patch = NodeBuilder(editor, first)
    patch.add("Split", node.inputs[0], sizes, name=first.name, outputs=outputs, axis=axis)
    editor.remove(*(piece for piece in slices if piece is not first))
    return patch.apply()


@ending_at("Slice")
def _merge_slices(editor: Editor, node: Node) -> Declined:
    """Slices of several axes, one after another, as one."""
    inner = editor.producer(node.inputs[0])
    if inner is None or not inner.is_op("Slice") or not editor.is_private(node.inputs[0]):
        return "no other slice comes before it"
    parts = [_slice_operands(editor, inner), _slice_operands(editor, node)]
    if parts[0] is None or parts[1] is None or set(parts[0][2]) & set(parts[1][2]):
        return "both slice the same axis, or at places that are not known"
    patch = NodeBuilder(editor, node)
    operands = [patch.integers(*first, *second) for first, second in zip(*parts, strict=True)]
    return patch.finish("Slice", inner.inputs[0], *operands, name=node.name)


@ending_at("Concat")
def _flat(editor: Editor, node: Node) -> Declined:
    """A concatenation of another concatenation without other readers."""
    axis = node.attributes.get("axis")
    operands: list[str] = []
    for name in node.inputs:
        inner = editor.producer(name)
        nested = inner is not None and inner.is_op("Concat") and inner.attributes.get("axis") == axis
        operands.extend(inner.inputs if inner is not None and nested and editor.is_private(name) else (name,))
        if len(operands) > _MOST_OPERANDS:
            return "it would join too many tensors"
    if len(operands) == len(node.inputs):
        return "it joins nothing that was joined for it alone"
    editor.update(node, inputs=tuple(operands))
    return None


@ending_at("Concat")
def _dense(editor: Editor, node: Node) -> Declined:
    """A concatenation that adds one tensor to what an earlier one joined, as in dense blocks."""
    if len(node.inputs) == 1:
        return None if editor.substitute(node, node.inputs[0]) else "its output must keep its name"
    wanted = node.inputs[:-1]
    if len(wanted) < 2:
        return "it joins two tensors only"
    joined, count = wanted[0], 1
    while count < len(wanted):
        candidates = editor.readers(joined)
        further = next((other for other in candidates if _extends(editor, other, node, joined, count)), None)
        if further is None:
            return "no earlier concatenation joins all but its last tensor"
        joined, count = further.outputs[0], count + len(further.inputs) - 1
    editor.update(node, inputs=(joined, node.inputs[-1]))
    return None


def _extends(editor: Editor, other: Node, node: Node, joined: str, count: int) -> bool:
    """Whether `other` joins the next inputs of `node` to `joined`, which has the first `count` of them."""
    if not other.is_op("Concat") or other.attributes.get("axis") != node.attributes.get("axis") or other is node:
        return False
    end = count + len(other.inputs) - 1
    return (
        end < len(node.inputs)
        and other.inputs == (joined, *node.inputs[count:end])
        and editor.position(other) < editor.position(node)
    )


REWRITES: tuple[Rewrite, ...] = (_before_transpose, _select, _partition, _merge_slices, _flat, _dense)
