"""The number of operators with weights, as the simplest baseline."""

from __future__ import annotations

import onnx

from aznas_onnx.operators import OPERATORS, InputRole

__all__ = ["count_weighted_operators"]

_MULTIPLIES = (InputRole.WEIGHT, InputRole.FACTOR)
_WEIGHTED = frozenset(OPERATORS.where(lambda operator: any(role in _MULTIPLIES for role in operator.inputs)))


def count_weighted_operators(model: onnx.ModelProto) -> int:
    """Return the number of convolutions, linear layers and recurrences with weights.

    A product of two activations (attention) has none. Dead branches count, as they do in MACs.
    """
    fed = {value.name for value in model.graph.input} - {value.name for value in model.graph.initializer}
    total = 0
    for node in model.graph.node:  # topologically sorted, as ONNX demands
        operands = [name for name in node.input if name]
        from_input = [name in fed for name in operands]
        if any(from_input):
            fed.update(node.output)
            total += node.op_type in _WEIGHTED and not all(from_input)
    return total
