"""Drop and merge operators that only move data.

A no-op must be one at every batch size. Two shapes that are equal at one batch size are equal at all, except where a
batch of one can be any of several axes of size one; there the node stays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.canonical.splitting import permutation, slice_window
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at
from aznas_onnx.operators.sets import ARITHMETIC, RESHAPES

__all__ = ["REWRITES"]


def _is_same(editor: Editor, left: str, right: str) -> bool:
    """Whether two tensors with the same elements in the same order have the same shape at any batch size."""
    before, after = editor.shape(left), editor.shape(right)
    if before is None or before != after:
        return False
    return editor.batch_size > 1 or before[:1] != (1,) or before.count(1) == 1 or _starts_with_batch(editor, right)


def _starts_with_batch(editor: Editor, name: str) -> bool:
    """Whether a reshape leaves open the size of axis 0 and of no other."""
    node = editor.producer(name)
    if node is None or node not in RESHAPES:
        return False
    if not node.is_op("Reshape"):
        return True  # these name the axes that they add, drop or join
    target = editor.integers(node.inputs[1])
    return target is not None and (target[0] in (-1, 0) or -1 not in target)


@ending_at(*RESHAPES)
def _reshape_like(editor: Editor, node: Node) -> Declined:
    """A chain of reshapes that ends in its first shape is dropped; any other becomes one reshape."""
    ancestor: Node | None = node
    while ancestor is not None and ancestor in RESHAPES:
        if _is_same(editor, ancestor.inputs[0], node.outputs[0]):
            return None if editor.substitute(node, ancestor.inputs[0]) else "its output must keep its name"
        if not editor.is_private(ancestor.inputs[0]):
            break
        ancestor = editor.producer(ancestor.inputs[0])
    return _flatten(editor, node)


def _flatten(editor: Editor, node: Node) -> Declined:
    """Write a reshape that joins all axes but the first as Flatten, and let it skip the reshape before it."""
    source = node.inputs[0]
    after = editor.shape(node.outputs[0])
    inner = editor.producer(source)
    while inner is not None and inner in RESHAPES and editor.is_private(source):
        before = editor.shape(inner.inputs[0])
        if before is None or after is None or len(after) != 2 or before[:1] != after[:1]:
            break
        source = inner.inputs[0]
        inner = editor.producer(source)
    before = editor.shape(source)
    if before is None or after is None:
        return "its shapes are not known"
    joins = len(after) == 2 and len(before) > 2 and before[0] == after[0] and math.prod(before[1:]) == after[1]
    if not joins or before[0] != editor.batch_size:
        return _flatten_as_reshape(editor, node, after) if node.is_op("Flatten") else "it joins something else"
    if node.is_op("Flatten") and source == node.inputs[0]:
        return "it is in canonical form"
    return NodeBuilder(editor, node).finish("Flatten", source, axis=1, name=node.name)


def _flatten_as_reshape(editor: Editor, node: Node, after: tuple[int, ...]) -> Declined:
    """A Flatten that joins token axes is written as a Reshape, as most exporters do."""
    if not node.attributes.get("axis", 1):
        return "it joins all axes into one row"
    patch = NodeBuilder(editor, node)
    return patch.finish("Reshape", node.inputs[0], patch.integers(-1, after[1]), name=node.name)


@ending_at("Reshape")
def _reshape_of_reshape(editor: Editor, node: Node) -> Declined:
    """The second of two reshapes decides the shape alone, where it does not copy sizes from the first."""
    target = editor.value(node.inputs[1])
    inner = editor.producer(node.inputs[0])
    if inner is None or inner not in RESHAPES or not editor.is_private(node.inputs[0]):
        return "no other reshape comes before it"
    if target is None or 0 in target:  # a zero copies a size; where it is computed, it is so at any batch size
        return "its target depends on what comes before it"
    editor.update(node, inputs=(inner.inputs[0], node.inputs[1]))
    return None


@ending_at("Transpose")
def _transpose(editor: Editor, node: Node) -> Declined:
    """Two transposes become one; a transpose without effect is dropped."""
    order = permutation(editor, node)
    if order is None:
        return "the rank of its input is not known"
    if order == tuple(range(len(order))):
        return None if editor.substitute(node, node.inputs[0]) else "its output must keep its name"
    inner = editor.producer(node.inputs[0])
    if inner is None or not inner.is_op("Transpose"):
        return "no other transpose comes before it"
    first = permutation(editor, inner)
    assert first is not None  # its output has a rank
    both = tuple(first[axis] for axis in order)
    if both == tuple(range(len(both))):
        return None if editor.substitute(node, inner.inputs[0]) else "its output must keep its name"
    return NodeBuilder(editor, node).finish("Transpose", inner.inputs[0], name=node.name, perm=both)


@ending_at("Transpose")
def _transpose_of_merged(editor: Editor, node: Node) -> Declined:
    """Turn the two last axes around directly, without merging those before them first and dividing them again after.

    (2, 3, 197, 64) -> Reshape (6, 197, 64) -> Transpose (6, 64, 197) -> Reshape (2, 3, 64, 197)
    """
    before, after = editor.producer(node.inputs[0]), editor.sole_reader(node.outputs[0])
    if permutation(editor, node) != (0, 2, 1) or before is None or after is None:
        return "it does not turn around two axes of three"
    shape, result = editor.shape(before.inputs[0]), editor.shape(after.outputs[0])
    if not before.is_op("Reshape") or not after.is_op("Reshape") or shape is None or result is None:
        return "no axes are merged around it"
    if shape[-2:] != (editor.shape(node.inputs[0]) or ())[-2:] or result != (*shape[:-2], shape[-1], shape[-2]):
        return "the axes that come back are not those that were merged"
    axes = tuple(range(len(shape)))
    patch = NodeBuilder(editor, after)
    order = (*axes[:-2], axes[-1], axes[-2])
    return patch.finish("Transpose", before.inputs[0], name=node.name, perm=order)


@ending_at("Gather")
def _gather_of_all(editor: Editor, node: Node) -> Declined:
    """A Gather of all elements in their order from a flattened tensor, as strided views are exported."""
    flat = editor.producer(node.inputs[0])
    index = editor.value(node.inputs[1])
    if flat is None or not flat.is_op("Reshape") or editor.rank(node.inputs[0]) != 1 or index is None:
        return "it does not read a flattened tensor"
    if editor.shape(flat.inputs[0]) != editor.shape(node.outputs[0]) or node.attributes.get("axis", 0) != 0:
        return "it makes another shape"
    if not np.array_equal(index.reshape(-1), np.arange(index.size)):
        return "it changes the order"
    return None if editor.substitute(node, flat.inputs[0]) else "its output must keep its name"


@ending_at("Add", "Mul", "Max", "Min")
def _constant_last(editor: Editor, node: Node) -> Declined:
    """A constant is the second operand where the order does not matter."""
    if len(node.inputs) != 2 or editor.constant(node.inputs[0]) is None or editor.constant(node.inputs[1]) is not None:
        return "its constant is last already"
    editor.update(node, inputs=node.inputs[::-1])
    return None


@ending_at("Einsum")
def _einsum(editor: Editor, node: Node) -> Declined:
    """An Einsum of one operand that only reorders its axes."""
    equation = node.attributes.get("equation")
    rank = editor.rank(node.inputs[0])
    if not isinstance(equation, str) or len(node.inputs) != 1 or rank is None:
        return "it has more than one operand"
    left, _, right = equation.replace(" ", "").partition("->")
    letters = [part.replace("...", "") for part in (left, right)]
    middle = "".join(chr(ord("0") + index) for index in range(rank - len(letters[0])))
    left, right = left.replace("...", middle), right.replace("...", middle)
    if sorted(left) != sorted(right) or len(set(left)) != len(left):
        return "it does more than reorder axes"
    patch = NodeBuilder(editor, node)
    return patch.finish("Transpose", node.inputs[0], perm=tuple(left.index(letter) for letter in right))


@ending_at("Identity", "Cast")
def _identity(editor: Editor, node: Node) -> Declined:
    """An Identity before an output gives its name to its input; so does a Cast to the same type."""
    if node.is_op("Cast") and not (editor.is_float(node.inputs[0]) and editor.is_float(node.outputs[0])):
        return "it changes the type"
    return None if editor.substitute(node, node.inputs[0]) else "both of its tensors must keep their names"


@ending_at("Pad", "Slice", "Expand")
def _nothing_added(editor: Editor, node: Node) -> Declined:
    """A Pad by nothing, a Slice of everything, or an Expand to the shape that there is already."""
    if node.is_op("Pad"):
        given: Any = node.attributes.get("pads", ()) if node.version < 11 else editor.integers(node.inputs[1])
        if given is None or any(given):
            return "it pads"
    elif node.is_op("Slice"):
        window = slice_window(editor, node)
        shape = editor.shape(node.inputs[0])
        if window is None or shape is None or window[0] == 0 or window[1:] != (0, shape[window[0]]):
            return "it leaves something out"
    elif editor.integers(node.inputs[1]) is None or editor.shape(node.inputs[0]) != editor.shape(node.outputs[0]):
        return "it expands"
    return None if editor.substitute(node, node.inputs[0]) else "its output must keep its name"


@ending_at(*ARITHMETIC)
def _broadcast_anyway(editor: Editor, node: Node) -> Declined:
    """An operand that is expanded to the shape of the other one, which the operator does itself."""
    shape = editor.shape(node.outputs[0])
    if len(node.inputs) != 2 or shape is None or editor.batch_size < 2:
        return "its shapes are not known"
    for index, name in enumerate(node.inputs):
        if editor.shape(node.inputs[1 - index]) != shape or editor.constant(node.inputs[1 - index]) is not None:
            continue
        source = _expanded(editor, name)
        if source:
            editor.update(node, inputs=(source, node.inputs[1]) if index == 0 else (node.inputs[0], source))
            return None
    return "nothing was expanded for it"


def _expanded(editor: Editor, name: str) -> str:
    """Return what an Expand made a tensor from, if that is a constant; empty where none did."""
    constant, made = editor.constant(name), editor.producer(name)
    if made is not None and made.is_op("Expand") and editor.constant(made.inputs[0]) is not None:
        return made.inputs[0]
    origin = None if constant is None else constant.origin
    if origin is None or not origin.node.is_op("Expand") or origin.inputs[0] is None:
        return ""
    return editor.add_constant(origin.inputs[0], origin.node.inputs[0])


@ending_at("Mul")
def _factor_of_one(editor: Editor, node: Node) -> Declined:
    """A Mul by the number one; by a one-element vector of one only where PyTorch writes addcmul.

    Elsewhere a vector can be an untrained parameter.
    """
    if editor.scalar(node.inputs[1]) != 1.0 or editor.shape(node.inputs[0]) != editor.shape(node.outputs[0]):
        return "it does not multiply by one"
    inner = editor.producer(node.inputs[0])
    after_product = inner is not None and inner.is_op("Mul") and editor.constant(inner.inputs[1]) is not None
    if editor.rank(node.inputs[1]) != 0 and not after_product:
        return "the one may be a parameter"
    return None if editor.substitute(node, node.inputs[0]) else "its output must keep its name"


@ending_at("Mul")
def _square(editor: Editor, node: Node) -> Declined:
    """A product of a tensor with itself is a power: it joins no two paths."""
    if node.inputs[0] != node.inputs[1] or not editor.is_float(node.inputs[0]):
        return "its operands are different"
    patch = NodeBuilder(editor, node)
    return patch.finish("Pow", node.inputs[0], patch.scalar(2.0))


@ending_at("Sum")
def _sum(editor: Editor, node: Node) -> Declined:
    """A Sum is a chain of Adds; of one operand, nothing."""
    if len(node.inputs) == 1:
        return None if editor.substitute(node, node.inputs[0]) else "both of its tensors must keep their names"
    patch = NodeBuilder(editor, node)
    total = node.inputs[0]
    for operand in node.inputs[1:-1]:
        total = patch.add("Add", total, operand)
    return patch.finish("Add", total, node.inputs[-1], name=node.name)


REWRITES: tuple[Rewrite, ...] = (
    _constant_last,
    _identity,
    _einsum,
    _sum,
    _broadcast_anyway,
    _factor_of_one,
    _square,
    _nothing_added,
    _gather_of_all,
    _transpose_of_merged,
    _transpose,
    _reshape_like,
    _reshape_of_reshape,
)
