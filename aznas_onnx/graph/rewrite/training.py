"""Traces of training mode: outputs that only a training step reads.

The attribute ``training_mode`` stays: it is part of what the file computes, and scoring does not look at it.
"""

from __future__ import annotations

from types import MappingProxyType

from aznas_onnx.graph.ir import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.rewriting import Rewrite

__all__ = ["REWRITES"]


def _drop_unread_outputs(editor: Editor, node: Node) -> str | None:
    """Cut trailing outputs that nobody reads: running statistics, dropout masks, pooling indices."""
    kept = len(node.outputs)
    while kept > 1 and not (node.outputs[kept - 1] and _is_read(editor, node.outputs[kept - 1])):
        kept -= 1
    if kept == len(node.outputs):
        return "every output is read"
    if node.is_op("BatchNormalization") and node.version < 14:
        # Until version 14 it was the outputs that asked for batch statistics.
        attributes = {key: value for key, value in node.attributes.items() if key in ("epsilon", "momentum")}
        node = editor.update(node, version=15, attributes=MappingProxyType({**attributes, "training_mode": 1}))
    editor.update(node, outputs=node.outputs[:kept])
    return None


def _is_read(editor: Editor, name: str) -> bool:
    return bool(editor.readers(name)) or editor.is_protected(name)


REWRITES: tuple[Rewrite, ...] = (
    Rewrite(
        operators=("BatchNormalization", "Dropout", "LayerNormalization", "MaxPool"), attempt=_drop_unread_outputs
    ),
)
