"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.graph.ir import Node

__all__ = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_swish",
    "hardmax",
    "leaky_relu",
    "log_softmax",
    "log_softmax_flattened",
    "mish",
    "prelu",
    "relu",
    "selu",
    "shrink",
    "sigmoid",
    "softmax",
    "softmax_flattened",
    "softplus",
    "softsign",
    "swiglu",
    "swish",
    "tanh",
    "thresholded_relu",
]

Tensor = torch.Tensor


def relu(node: Node, context: Context) -> Call:
    return Call(torch.relu, node.inputs)


def sigmoid(node: Node, context: Context) -> Call:
    return Call(torch.sigmoid, node.inputs)


def tanh(node: Node, context: Context) -> Call:
    return Call(torch.tanh, node.inputs)


def softplus(node: Node, context: Context) -> Call:
    return Call(F.softplus, node.inputs)


def softsign(node: Node, context: Context) -> Call:
    return Call(F.softsign, node.inputs)


def mish(node: Node, context: Context) -> Call:
    return Call(F.mish, node.inputs)


def hard_swish(node: Node, context: Context) -> Call:
    return Call(F.hardswish, node.inputs)


def leaky_relu(node: Node, context: Context) -> Call:
    alpha = float(node.attributes.get("alpha", 0.01))  # type: ignore[arg-type]
    return Call(lambda x: F.leaky_relu(x, alpha), node.inputs)
