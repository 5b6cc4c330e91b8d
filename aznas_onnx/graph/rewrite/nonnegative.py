"""Tensors that cannot be negative, as far as their operators show."""

from __future__ import annotations

from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.operators.sets import GLOBAL_POOLS, PASSES_ON, POOLS

__all__ = ["is_nonnegative"]

_DEPTH = 32


def is_nonnegative(editor: Editor, name: str, depth: int = _DEPTH) -> bool:
    """Whether a tensor is nonnegative for all weights; False where that is unknown."""
    node = editor.producer(name)
    if node is None or depth == 0:
        return False
    if node.is_op("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Sqrt"):
        return True
    if node.is_op("Clip"):
        low = editor.scalar(node.input(1)) if node.input(1) else node.attributes.get("min")
        return isinstance(low, float) and low >= 0.0
    keeps_sign = node.op_type in ("Pad", "QuantizeLinear", "DequantizeLinear", "ReduceMean")
    if keeps_sign or node in PASSES_ON or node in POOLS or node in GLOBAL_POOLS:
        return is_nonnegative(editor, node.inputs[0], depth - 1)
    if not node.is_op("Add", "Sum", "Max", "Concat"):
        return False
    return all(is_nonnegative(editor, operand, depth - 1) for operand in node.inputs)
