"""The parts of networks that the two spaces of NATS-Bench share: operations, cells, reductions, stem and head."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces.dense_cell import relu_conv_bn, write_nodes

__all__ = ["KERNELS", "Operation", "draw_cell", "draw_head", "draw_reduction", "draw_stem"]


class Operation(str, enum.Enum):
    """Operation on an edge of the cell, by its name in the notation."""

    NONE = "none"
    SKIP = "skip_connect"
    CONV_1X1 = "nor_conv_1x1"
    CONV_3X3 = "nor_conv_3x3"
    AVERAGE_POOL = "avg_pool_3x3"


KERNELS = {Operation.CONV_1X1: 1, Operation.CONV_3X3: 3}
"""Kernels of the operations that are convolutions."""


def draw_stem(net: GraphBuilder, resolution: int, channels: int) -> str:
    """Write the image and the first convolution, which has no ReLU."""
    return net.conv_bn(net.image_input(3, resolution), "stem", 3, channels, kernel=3)


def draw_head(net: GraphBuilder, x: str, channels: int, num_classes: int) -> str:
    """Write the last activation, pooling and classifier."""
    x = net.relu(net.batch_norm(x, "lastact.bn", channels), "lastact.relu")
    return net.classifier(x, "classifier", channels, num_classes=num_classes)


def draw_cell(
    net: GraphBuilder, x: str, name: str, before: int, channels: int, operations: Sequence[Operation], zero: str = ""
) -> str:
    """Write a cell.

    A `none` is a product with zero, as in the benchmark's code: the graph has the same paths for every genotype.

    - `before`, `channels`: Of the cell's input, and of its other nodes; they differ in the size space only.
    - `operations`: On the edges, in the order of both notations.
    - `zero`: The constant of that value, if `none` is one of the operations.
    """

    def write_edge(x: str, name: str, source: int, operation: Operation) -> str:
        return _edge(net, x, name, channels if source else before, channels, operation, zero)

    return write_nodes(net, x, name, operations, write_edge)


def draw_reduction(net: GraphBuilder, x: str, name: str, before: int, channels: int) -> str:
    """Write a residual block that halves the resolution."""
    main = relu_conv_bn(net, x, f"{name}.conv_a", before, channels, kernel=3, stride=2)
    main = relu_conv_bn(net, main, f"{name}.conv_b", channels, channels, kernel=3)
    pooled = net.node("AveragePool", x, name=f"{name}.downsample.pool", kernel_shape=(2, 2), strides=(2, 2))
    shortcut = net.conv(pooled, f"{name}.downsample.conv", before, channels, kernel=1)
    return net.add(shortcut, main, f"{name}.add")


def _edge(net: GraphBuilder, x: str, name: str, before: int, channels: int, operation: Operation, zero: str) -> str:
    if operation is Operation.NONE:
        return net.node("Mul", x, zero, name=name)
    if operation is Operation.SKIP:
        return x if before == channels else net.conv_bn(x, name, before, channels, kernel=1)
    if operation is Operation.AVERAGE_POOL:
        return net.node("AveragePool", x, name=name, kernel_shape=(3, 3), pads=(1,) * 4, count_include_pad=0)
    return relu_conv_bn(net, x, name, before, channels, kernel=KERNELS[operation])
