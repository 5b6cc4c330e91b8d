"""Tensors that cannot be negative, as far as their operators show."""

from __future__ import annotations

from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.operators import OPERATORS, InputRole, Movement

__all__ = ["is_nonnegative"]

_DEPTH = 32


def is_nonnegative(editor: Editor, name: str, depth: int = _DEPTH) -> bool:
    """Whether a tensor is nonnegative for all weights; False where that is unknown."""
    node = editor.producer(name)
    operator = None if node is None or depth == 0 else OPERATORS.record_of(node)
    if node is None or operator is None:
        return False
    if operator.bounds[0] >= 0.0:
        return True
    if node.is_op("Clip"):
        low = editor.scalar(node.input(1)) if node.input(1) else node.attributes.get("min")
        return isinstance(low, float) and low >= 0.0
    has_several = operator.movement in (Movement.NONE, Movement.JOINS, Movement.WRITES)
    operands = [
        operand
        for index, operand in enumerate(node.inputs if has_several else node.inputs[:1])
        if operator.role(index) in (InputRole.DATA, InputRole.TABLE)
    ]
    return (
        operator.keeps_sign
        and bool(operands)
        and all(is_nonnegative(editor, operand, depth - 1) for operand in operands)
    )
