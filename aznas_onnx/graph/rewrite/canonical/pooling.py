"""Global average pooling written as a mean or as an average over full windows."""

from __future__ import annotations

import math
from typing import Any

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at

__all__ = ["REWRITES", "reduced_axes"]


def reduced_axes(editor: Editor, node: Node) -> tuple[int, ...] | None:
    """Return the axes of a reduction, counted from the front and sorted; None where unknown."""
    rank = editor.rank(node.inputs[0])
    if rank is None:
        return None
    given: Any = node.attributes.get("axes")
    if node.input(1):
        given = editor.integers(node.inputs[1])
        if given is None:
            return None
    if not given:
        return () if node.attributes.get("noop_with_empty_axes") else tuple(range(rank))
    return tuple(sorted(axis % rank for axis in given))


@ending_at("ReduceMean")
def _mean(editor: Editor, node: Node) -> Declined:
    """A mean over all axes but the first two of a map."""
    rank = editor.rank(node.inputs[0])
    if rank is None or rank < 4 or reduced_axes(editor, node) != tuple(range(2, rank)):
        return "it does not average a map over its positions"
    patch = NodeBuilder(editor, node)
    pooled = patch.add("GlobalAveragePool", node.inputs[0])
    return patch.apply() if node.attributes.get("keepdims", 1) else patch.finish("Flatten", pooled, axis=1)


@ending_at("AveragePool")
def _full_window(editor: Editor, node: Node) -> Declined:
    """An average over one window that covers the map."""
    before, after = editor.shape(node.inputs[0]), editor.shape(node.outputs[0])
    attributes: Any = node.attributes
    if before is None or after is None or tuple(attributes.get("kernel_shape", ())) != before[2:]:
        return "its window does not cover the map"
    if any(size != 1 for size in after[2:]) or any(attributes.get("pads", ())):
        return "it pads, or moves its window"
    return NodeBuilder(editor, node).finish("GlobalAveragePool", node.inputs[0])


@ending_at("Div", "Mul")
def _sum_over_count(editor: Editor, node: Node) -> Declined:
    """A sum, or a sum of squares, divided by the number of its terms."""
    total = editor.producer(node.inputs[0])
    divisor = editor.scalar(node.inputs[1])
    if node.is_op("Mul") and divisor:
        divisor = 1.0 / divisor
    if (
        total is None
        or not total.is_op("ReduceSum", "ReduceSumSquare")
        or not divisor
        or not editor.is_private(node.inputs[0])
    ):
        return "it does not divide a sum by a number"
    shape, axes = editor.shape(total.inputs[0]), reduced_axes(editor, total)
    if shape is None or not axes or 0 in axes:
        return "what is summed is not known"
    if editor.rank(node.outputs[0]) != editor.rank(total.outputs[0]):
        return "it broadcasts"
    count = math.prod(shape[axis] for axis in axes)
    if not math.isclose(count, divisor, rel_tol=1e-4):
        reason = f"it divides a sum of {count} terms by {divisor:.6g}"
        summed = editor.producer(total.inputs[0])
        is_variance = total.is_op("ReduceSum") and summed is not None and summed.inputs[0] == summed.input(1)
        return reason if is_variance else NearMiss(reason, "ReduceMean")  # the normalisation around it gives the reason
    patch = NodeBuilder(editor, node)
    keepdims = total.attributes.get("keepdims", 1)
    is_squared = total.is_op("ReduceSumSquare")
    terms = patch.add("Pow", total.inputs[0], patch.scalar(2.0)) if is_squared else total.inputs[0]
    return patch.finish("ReduceMean", terms, patch.integers(*axes), keepdims=keepdims)


REWRITES: tuple[Rewrite, ...] = (_sum_over_count, _mean, _full_window)
