"""Activation functions, and the Softmax family."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from aznas_onnx.convert import inplace_activations
from aznas_onnx.convert.attributes import integer, number, text
from aznas_onnx.convert.context import Call, Context, Converter
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def leaky_relu(node: Node, context: Context) -> Call:
    alpha = number(node, "alpha", 0.01)
    return Call(lambda x: F.leaky_relu(x, alpha), node.inputs)


def prelu(node: Node, context: Context) -> Call:
    if node.version < 7 and context.known_shape(node.inputs[1]) != (1,):  # one slope a channel
        return Call(F.prelu, node.inputs)
    # F.prelu wants one slope a channel; ONNX broadcasts slopes of any shape.
    return Call(lambda x, slope: torch.where(x < 0, x * slope, x), node.inputs)


def elu(node: Node, context: Context) -> Call:
    alpha = number(node, "alpha", 1.0)
    return Call(lambda x: F.elu(x, alpha), node.inputs)


def selu(node: Node, context: Context) -> Call:
    alpha = number(node, "alpha", 1.67326319217681884765625)
    gamma = number(node, "gamma", 1.05070102214813232421875)
    return Call(lambda x: gamma * F.elu(x, alpha), node.inputs)


def celu(node: Node, context: Context) -> Call:
    alpha = number(node, "alpha", 1.0)
    return Call(lambda x: F.celu(x, alpha), node.inputs)


def thresholded_relu(node: Node, context: Context) -> Call:
    alpha = number(node, "alpha", 1.0)
    return Call(lambda x: torch.where(x > alpha, x, 0.0), node.inputs)


def shrink(node: Node, context: Context) -> Call:
    bias, lambd = number(node, "bias", 0.0), number(node, "lambd", 0.5)

    def run(x: Tensor) -> Tensor:
        shrunk = torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0.0))
        return shrunk.to(x.dtype)

    return Call(run, node.inputs)


def hard_sigmoid(node: Node, context: Context) -> Call:
    alpha, beta = number(node, "alpha", 0.2), number(node, "beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return Call(F.hardsigmoid, node.inputs)
    return Call(lambda x: F.hardtanh(alpha * x + beta, 0.0, 1.0), node.inputs)


def gelu(node: Node, context: Context) -> Call:
    return Call(inplace_activations.gelu(text(node, "approximate", "none")), node.inputs)


def swish(node: Node, context: Context) -> Call:
    return Call(_swish(number(node, "alpha", 1.0)), node.inputs)


def swiglu(node: Node, context: Context) -> Call:
    activate = _swish(number(node, "alpha", 1.0))
    return Call(lambda gate, value: activate(gate) * value, node.inputs)


def _swish(alpha: float) -> Callable[[Tensor], Tensor]:
    return inplace_activations.SWISH if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


def hardmax(x: Tensor, axis: int) -> Tensor:
    first = torch.argmax(x, dim=axis, keepdim=True)  # the first of equal maxima, as ONNX requires
    return torch.zeros_like(x).scatter_(axis, first, 1.0)


def softmax_along(function: Callable[[Tensor, int], Tensor]) -> Converter:
    """Return the converter, from version 13 on, of a function along one axis."""

    def convert(node: Node, context: Context) -> Call:
        axis = integer(node, "axis", -1)
        return Call(lambda x: function(x, axis), node.inputs)

    return convert


def softmax_flattened(function: Callable[[Tensor, int], Tensor]) -> Converter:
    """Return the converter, before version 13, of a function over all axes from `axis` on, taken as one."""

    def convert(node: Node, context: Context) -> Call:
        axis = integer(node, "axis", 1)
        shape = context.known_shape(node.inputs[0])
        if axis == -1 or (shape is not None and axis == len(shape) - 1):
            return Call(lambda x: function(x, -1), node.inputs)

        def run(x: Tensor) -> Tensor:
            return function(x.flatten(axis) if axis < x.dim() else x.unsqueeze(-1), -1).reshape(x.shape)

        return Call(run, node.inputs)

    return convert
