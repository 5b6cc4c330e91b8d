"""Shapes that are computed from the batch size, written as constants where a constant can say the same.

An exporter that leaves the batch open computes the target of every Reshape: Shape, Gather, Unsqueeze, Concat. Two
walks at different batch sizes show which entry of the target follows the batch. If it is one, -1 says so.
"""

from __future__ import annotations

from collections.abc import Callable


from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.rewriting import Rewrite

__all__ = ["rewrites"]


def _varying(editor: Editor, probe: Facts, name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | str:
    """Return a shape at both batch sizes, or why it is of no use."""
    before = editor.shape(name)
    after = probe[name].shape if name in probe else None
    if before is None or after is None or len(before) != len(after):
        return "its shape is not known at another batch size"
    return before, after


def _constant_target(probe: Facts) -> Callable[[Editor, Node], str | None]:
    def attempt(editor: Editor, node: Node) -> str | None:
        if editor.constant(node.inputs[1]) is not None:
            return "its target is a constant"
        shapes = _varying(editor, probe, node.outputs[0])
        if isinstance(shapes, str):
            return shapes
        different = [axis for axis, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
        if len(different) != 1 or 0 in shapes[0]:
            return "more than one of its sizes follows the batch"
        target = [-1 if axis == different[0] else size for axis, size in enumerate(shapes[0])]
        name = editor.add_integers(target, f"{node.name}/target")
        editor.update(node, inputs=(node.inputs[0], name))
        return None

    return attempt


def _expansion_of_batch(probe: Facts) -> Callable[[Editor, Node], str | None]:
    """Expand of something without batch, such as a class token, to the batch of the graph's input."""

    def attempt(editor: Editor, node: Node) -> str | None:
        if editor.constant(node.inputs[1]) is not None:
            return "its target is a constant"
        shapes = _varying(editor, probe, node.outputs[0])
        if isinstance(shapes, str):
            return shapes
        batch = (editor.batch_size, probe.batch_size)
        source = editor.shape(node.inputs[0])
        if shapes[0][1:] != shapes[1][1:] or (shapes[0][0], shapes[1][0]) != batch or source is None:
            return "it is not its first axis that follows the batch"
        return _write_expansion(editor, probe, node, shapes[0])

    return attempt


def _write_expansion(editor: Editor, probe: Facts, node: Node, shape: tuple[int, ...]) -> str | None:
    batch = (editor.batch_size, probe.batch_size)
    like = next((name for name in editor.inputs if (_first(editor.shape(name)), _first(probe[name].shape)) == batch), None)
    made = editor.producer(node.inputs[1])
    if like is None:
        return "no input has the batch on its first axis"
    if made is not None and made.is_op("Concat") and len(made.inputs) == 2 and _is_size_of(editor, made.inputs[0], like):
        return "it is in canonical form"
    patch = editor.patch(node)
    size = patch.add("Shape", like, start=0, end=1)
    target = size if len(shape) == 1 else patch.add("Concat", size, patch.integers(*shape[1:]), axis=0)
    patch.add("Expand", node.inputs[0], target, name=node.name, output=node.outputs[0])
    patch.apply()
    return None


def _first(shape: tuple[int, ...] | None) -> int | None:
    return shape[0] if shape else None


def _is_size_of(editor: Editor, name: str, like: str) -> bool:
    node = editor.producer(name)
    return node is not None and node.is_op("Shape") and node.inputs[0] == like and node.attributes.get("end") == 1


def rewrites(probe: Facts) -> tuple[Rewrite, ...]:
    """Return the rewrites for a graph whose shapes at another batch size are `probe`."""
    return (
        Rewrite(operators=("Reshape",), attempt=_constant_target(probe)),
        Rewrite(operators=("Expand",), attempt=_expansion_of_batch(probe)),
    )


