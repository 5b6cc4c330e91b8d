"""Remove training-mode outputs and randomly dropped branches.

The attribute ``training_mode`` stays: it is part of the file's computation, and scoring ignores it.
"""

from __future__ import annotations

from types import MappingProxyType

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.rule import Rewrite, ending_at
from aznas_onnx.operators.sets import RECURRENT

__all__ = ["REWRITES"]


@ending_at("BatchNormalization", "Dropout", "LayerNormalization", "MaxPool", *RECURRENT)
def _drop_unread_outputs(editor: Editor, node: Node) -> str | None:
    """Cut unread trailing outputs: running statistics, dropout masks, pooling indices, final states."""
    kept = len(node.outputs)
    while kept > 1 and not (node.outputs[kept - 1] and _is_read(editor, node.outputs[kept - 1])):
        kept -= 1
    if not any(node.outputs[kept:]):
        return "every output is read"
    if node.is_op("BatchNormalization"):
        _drop_statistics(editor, node, kept)
    else:
        editor.update(node, outputs=node.outputs[:kept])
    return None


def _drop_statistics(editor: Editor, node: Node, kept: int) -> None:
    """Remove the names of the statistics: in training mode their outputs must stay."""
    attributes = node.attributes
    if node.version < 14:  # where these outputs mean training mode
        known = {key: value for key, value in attributes.items() if key in ("epsilon", "momentum")}
        attributes = MappingProxyType({**known, "training_mode": 1})
        if kept > 1:
            return
    outputs = (*node.outputs[:kept], "", "")[:3] if attributes.get("training_mode") else node.outputs[:kept]
    editor.update(node, version=max(node.version, 15), attributes=attributes, outputs=outputs)


def _is_read(editor: Editor, name: str) -> bool:
    return bool(editor.readers(name)) or editor.is_protected(name)


@ending_at("Mul")
def _keep_branch(editor: Editor, node: Node) -> str | None:
    """Stochastic depth, and Dropout written out: x * (random < p) / p is x on average, and x when it is deployed."""
    for x, mask in (node.inputs, node.inputs[::-1]):
        if _is_random_mask(editor, mask):
            return None if editor.substitute(node, x) else "the graph's output cannot be another name"
    return "it is not multiplied by a random mask"


def _is_random_mask(editor: Editor, name: str) -> bool:
    quotient = editor.producer(name)
    if quotient is None or not quotient.is_op("Div"):
        return False
    kept, cast = editor.scalar(quotient.inputs[1]), editor.producer(quotient.inputs[0])
    below = editor.producer(cast.inputs[0]) if cast is not None and cast.is_op("Cast") else None
    if below is None or not below.is_op("Less") or kept is None or not 0.0 < kept <= 1.0:
        return False
    sampled = editor.producer(below.inputs[0])
    if sampled is None or not sampled.is_op("RandomUniform", "RandomUniformLike"):
        return False
    is_standard = (sampled.attributes.get("low", 0.0), sampled.attributes.get("high", 1.0)) == (0.0, 1.0)
    return is_standard and editor.scalar(below.inputs[1]) == kept


REWRITES: tuple[Rewrite, ...] = (_keep_branch, _drop_unread_outputs)
