"""Write shapes that are computed from the batch size as constants.

An exporter with an open batch computes the target of every Reshape: Shape, Gather, Unsqueeze, Concat. Constants are
folded, so at least one entry follows the batch. The shapes are for a batch size that no other axis has: if exactly one
size is a multiple of it, that entry becomes -1.
"""

from __future__ import annotations

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at

__all__ = ["REWRITES"]


def _batch_axis(editor: Editor, node: Node) -> int | str:
    """Return the one axis of a node's output that follows the batch, or why it is not known."""
    shape = editor.shape(node.outputs[0])
    if editor.constant(node.inputs[1]) is not None:
        return "its target is a constant"
    if shape is None or 0 in shape:
        return "its shape is not known"
    multiples = [axis for axis, size in enumerate(shape) if size % editor.batch_size == 0]
    return multiples[0] if len(multiples) == 1 else "more than one of its sizes may follow the batch"


@ending_at("Reshape")
def _constant_target(editor: Editor, node: Node) -> Declined:
    """Write the computed target of a Reshape as a constant."""
    axis = _batch_axis(editor, node)
    shape = editor.shape(node.outputs[0])
    if isinstance(axis, str) or shape is None:
        return str(axis)
    target = [-1 if index == axis else size for index, size in enumerate(shape)]
    editor.update(node, inputs=(node.inputs[0], editor.add_integers(target, f"{node.name}/target")))
    return None


@ending_at("Expand")
def _expansion_of_batch(editor: Editor, node: Node) -> Declined:
    """Expand something without batch, such as a class token, to the batch of the graph's input in one way only."""
    axis = _batch_axis(editor, node)
    shape = editor.shape(node.outputs[0])
    if isinstance(axis, str) or shape is None:
        return str(axis)
    like = next((name for name in editor.inputs if _starts_with(editor, name, editor.batch_size)), None)
    if axis != 0 or shape[0] != editor.batch_size or like is None:
        return "it is not its first axis that has the size of the batch"
    made = editor.producer(node.inputs[1])
    if made is not None and made.is_op("Concat") and _is_batch_of(editor, made.inputs[0], like):
        return "it is in canonical form"
    patch = NodeBuilder(editor, node)
    target = patch.add("Shape", like, start=0, end=1)
    if len(shape) > 1:
        target = patch.add("Concat", target, patch.integers(*shape[1:]), axis=0)
    return patch.finish("Expand", node.inputs[0], target, name=node.name)


def _starts_with(editor: Editor, name: str, size: int) -> bool:
    return (editor.shape(name) or ())[:1] == (size,)


def _is_batch_of(editor: Editor, name: str, like: str) -> bool:
    node = editor.producer(name)
    return node is not None and node.is_op("Shape") and node.inputs[0] == like and node.attributes.get("end") == 1


REWRITES: tuple[Rewrite, ...] = (_constant_target, _expansion_of_batch)
