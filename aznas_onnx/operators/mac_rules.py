"""How multiply-adds are counted: each rule gives those of one node for the whole batch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from aznas_onnx.operators.einsum_macs import einsum_macs
from aznas_onnx.operators.operator_record import MacRule, OperatorNode, Shapes

__all__ = [
    "GATES",
    "affine_grid",
    "attention",
    "conv_transpose",
    "convolution",
    "einsum",
    "gemm",
    "matmul",
    "recurrent",
    "zero",
]


def zero(node: OperatorNode, shapes: Shapes) -> int:
    """Declare that an operator has no multiply-adds by the convention of the literature (fvcore, thop)."""
    return 0


def _elements(shapes: Shapes, name: str) -> int:
    return math.prod(shapes.shape(name))


def convolution(weight: int) -> MacRule:
    """Each output element is a product of one filter, padding included; `weight` is the filters' input position."""

    def macs(node: OperatorNode, shapes: Shapes) -> int:
        return _elements(shapes, node.outputs[0]) * math.prod(shapes.shape(node.inputs[weight])[1:])

    return macs


def conv_transpose(node: OperatorNode, shapes: Shapes) -> int:
    """Each input element is spread over one kernel for each output channel of its group."""
    return _elements(shapes, node.inputs[0]) * math.prod(shapes.shape(node.inputs[1])[1:])


def gemm(node: OperatorNode, shapes: Shapes) -> int:
    """Each output element is a product over the inner axis."""
    rows = shapes.shape(node.inputs[0])
    return _elements(shapes, node.outputs[0]) * rows[0 if node.attributes.get("transA", 0) else 1]


def matmul(node: OperatorNode, shapes: Shapes) -> int:
    """Each output element is a product over the last axis of the left operand."""
    return _elements(shapes, node.outputs[0]) * shapes.shape(node.inputs[0])[-1]


def einsum(node: OperatorNode, shapes: Shapes) -> int:
    """Each pair of operands is a product, from the left."""
    return einsum_macs(node.attributes["equation"], [shapes.shape(name) for name in node.inputs])


GATES: Mapping[str, int] = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Blocks of rows in the weights of a recurrent layer."""


def recurrent(gates: int) -> MacRule:
    """Each step multiplies the input and the last state by one matrix a gate; the rest is elementwise.

    The counts are the same in both layouts and whether the gates' order is sequence- or batch-major: steps times
    samples is the product of the first two axes of the input.
    """

    def macs(node: OperatorNode, shapes: Shapes) -> int:
        steps, samples, features = shapes.shape(node.inputs[0])
        directions, rows, _ = shapes.shape(node.inputs[1])
        hidden = rows // gates
        return steps * samples * directions * rows * (features + hidden)

    return macs


def attention(node: OperatorNode, shapes: Shapes) -> int:
    """Scores and their product with the values, for all keys: masked positions are counted."""
    keys = shapes.shape(node.inputs[1])[-2]
    if node.input(4):
        keys += shapes.shape(node.input(4))[-2]
    return keys * (_elements(shapes, node.inputs[0]) + _elements(shapes, node.outputs[0]))


def affine_grid(node: OperatorNode, shapes: Shapes) -> int:
    """Each coordinate of the grid is a row of the affine matrix times a position."""
    return _elements(shapes, node.outputs[0]) * shapes.shape(node.inputs[0])[-1]
