"""The role of a node in a block, from its operator and shapes alone."""

from __future__ import annotations

import enum
from math import prod

from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.operators import OPERATORS, Movement
from aznas_onnx.operators.sets import (
    ACTIVATIONS,
    ARITHMETIC,
    CONVOLUTIONS,
    MATRIX_PRODUCTS,
    NORMALIZATIONS,
    POINTWISE,
    POOLS,
    RECURRENT,
    TENSOR_PRODUCTS,
)

__all__ = [
    "OperatorRole",
    "is_depthwise",
    "is_linear",
    "is_pointwise",
    "is_product",
    "is_recurrent",
    "is_weighted",
    "role_of",
]


class OperatorRole(enum.Enum):
    """The role of a node on the main path."""

    WEIGHT = enum.auto()  # convolution, linear layer, recurrent layer
    NORM = enum.auto()
    ACTIVATION = enum.auto()
    POOL = enum.auto()
    AFFINE = enum.auto()  # scale or shift by a constant: bias, layer scale, position embedding, folded normalisation
    SHAPE = enum.auto()  # moves elements, computes nothing
    OTHER = enum.auto()


def is_weighted(node: Node, graph: Graph) -> bool:
    """Whether a node multiplies by weights: convolution, linear layer, recurrent layer."""
    if node in CONVOLUTIONS or node in RECURRENT:
        return True
    if node.is_op("Gemm"):
        return node.input(1) in graph.constants
    if node in TENSOR_PRODUCTS:
        return any(name in graph.constants and len(graph.constants[name].shape) > 1 for name in node.inputs)
    return False


def is_recurrent(node: Node) -> bool:
    """Whether a node is a recurrent layer over all its steps."""
    return node in RECURRENT


def is_product(node: Node, graph: Graph) -> bool:
    """Whether a node multiplies two activations as matrices, as attention does."""
    if node.is_op("Attention", "MultiHeadAttention"):
        return True
    if node not in MATRIX_PRODUCTS or is_weighted(node, graph):
        return False
    return len(list(graph.activations(node))) > 1


def is_depthwise(node: Node, infos: TensorInfos) -> bool:
    """Whether a node is a convolution that takes each channel by itself."""
    groups = node.attributes.get("group", 1)
    if node not in CONVOLUTIONS or not isinstance(groups, int) or groups < 2:
        return False
    shape = infos[node.inputs[1]].shape
    if shape is None:
        return False
    return shape[0] == groups if node.op_type == "ConvTranspose" else shape[1] == 1


def is_linear(node: Node) -> bool:
    """Whether a weighted node is a matrix product: a layer on tokens or vectors."""
    return node in MATRIX_PRODUCTS


def is_pointwise(node: Node, infos: TensorInfos) -> bool:
    """Whether a weighted node takes each position by itself: a 1x1 convolution or a linear layer."""
    if is_linear(node):
        return True
    shape = infos[node.inputs[1]].shape if node in CONVOLUTIONS else None
    return shape is not None and prod(shape[2:]) == 1 and not is_depthwise(node, infos)


def role_of(node: Node, graph: Graph) -> OperatorRole:
    """Return the role of a node with one activation input."""
    if is_weighted(node, graph):
        return OperatorRole.WEIGHT
    if node in ARITHMETIC:
        return OperatorRole.AFFINE if len(list(graph.activations(node))) == 1 else OperatorRole.OTHER
    return next((role for role, operators in _ROLES if node in operators), OperatorRole.OTHER)


_ROLES = (
    (OperatorRole.NORM, NORMALIZATIONS),
    (OperatorRole.ACTIVATION, POINTWISE),
    (OperatorRole.ACTIVATION, ACTIVATIONS),
    (OperatorRole.POOL, POOLS),
    (OperatorRole.SHAPE, OPERATORS.where(lambda operator: operator.movement not in (Movement.NONE, Movement.WRITES))),
)
