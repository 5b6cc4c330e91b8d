"""Products of matrices and tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, number, text
from aznas_onnx.convert.context import Call, Context
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def gemm(node: Node, context: Context) -> Call:
    """`alpha A' B' + beta C`; the usual form is one call of ``F.linear``."""
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    trans_a, trans_b = bool(integer(node, "transA", 0)), bool(integer(node, "transB", 0))
    bias_shape = context.known_shape(node.input(2)) if node.input(2) else None
    plain = alpha == 1.0 and not trans_a and context.is_float(node.inputs[0])
    if plain and (not node.input(2) or (beta == 1.0 and bias_shape is not None and len(bias_shape) == 1)):
        # F.linear fuses a bias of one row only; (1,) would broadcast in ONNX and in addmm alike, so it goes below.
        width = context.known_shape(node.outputs[0])
        if bias_shape is None or (width is not None and bias_shape == width[-1:]):
            if trans_b:
                return Call(F.linear, node.inputs)
            return Call(lambda a, b, c=None: F.linear(a, b.t(), c), node.inputs)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = torch.matmul(a.t() if trans_a else a, b.t() if trans_b else b)
        product = product if alpha == 1.0 else (alpha * product).to(a.dtype)
        if c is None:
            return product
        return product + (c if beta == 1.0 else (beta * c).to(a.dtype))

    return Call(run, node.inputs)


def einsum(node: Node, context: Context) -> Call:
    equation = text(node, "equation", "").replace(" ", "")
    return Call(lambda *tensors: torch.einsum(equation, *tensors), node.inputs)
