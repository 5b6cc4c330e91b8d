"""Tensors that cannot be negative, as far as their operators show."""

from __future__ import annotations

from aznas_onnx.graph.rewrite.editor import Editor

__all__ = ["is_nonnegative"]

_NONNEGATIVE = frozenset("Relu Sigmoid HardSigmoid Softmax Abs Exp Sqrt".split())
_KEEPS_SIGN = frozenset(
    "Add Sum Max MaxPool AveragePool GlobalAveragePool GlobalMaxPool Concat Transpose Flatten Identity".split()
)
_KEEPS_SIGN_OF_FIRST = frozenset(
    "Reshape Squeeze Unsqueeze Slice Pad QuantizeLinear DequantizeLinear ReduceMean Dropout".split()
)
_DEPTH = 32


def is_nonnegative(editor: Editor, name: str, depth: int = _DEPTH) -> bool:
    """Whether a tensor is nonnegative for all weights; False where that is unknown."""
    node = editor.producer(name)
    if node is None or depth == 0:
        return False
    if node.op_type in _NONNEGATIVE:
        return True
    if node.is_op("Clip"):
        low = editor.scalar(node.input(1)) if node.input(1) else node.attributes.get("min")
        return isinstance(low, float) and low >= 0.0
    if node.op_type in _KEEPS_SIGN_OF_FIRST:
        return is_nonnegative(editor, node.inputs[0], depth - 1)
    return node.op_type in _KEEPS_SIGN and all(is_nonnegative(editor, operand, depth - 1) for operand in node.inputs)
