"""The parts of networks that the two spaces of NATS-Bench share: operations, cells, reductions, stem and head."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from aznas_onnx.graph.building.builder import GraphBuilder

__all__ = ["EDGES", "KERNELS", "Operation", "draw_cell", "draw_head", "draw_reduction", "draw_stem"]


class Operation(str, enum.Enum):
    """Operation on an edge of the cell, by its name in the notation."""

    NONE = "none"
    SKIP = "skip_connect"
    CONV_1X1 = "nor_conv_1x1"
    CONV_3X3 = "nor_conv_3x3"
    AVERAGE_POOL = "avg_pool_3x3"


EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""The edges of a cell as (to, from), in the order of the notation."""

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
    """Write a cell: node i is the sum over j < i of an operation on node j.

    The last node is a sum of three, so its tensor is new even where every edge is a skip. A `none` is a product with
    zero, as in the benchmark's code: the graph has the same paths for every genotype.

    - `before`, `channels`: Of the cell's input, and of its other nodes; they differ in the size space only.
    - `operations`: On the edges, in the order of `EDGES`.
    - `zero`: The constant of that value, if `none` is one of the operations.
    """
    nodes = [x]
    for node in (1, 2, 3):
        total = ""
        for (to, source), operation in zip(EDGES, operations, strict=True):
            if to == node:
                edge = f"{name}.edges.{to}_{source}"
                term = _edge(net, nodes[source], edge, channels if source else before, channels, operation, zero)
                total = net.add(total, term, f"{name}.nodes.{to}.add.{source}") if total else term
        nodes.append(total)
    return nodes[-1]


def draw_reduction(net: GraphBuilder, x: str, name: str, before: int, channels: int) -> str:
    """Write a residual block that halves the resolution."""
    main = _relu_conv_bn(net, x, f"{name}.conv_a", before, channels, kernel=3, stride=2)
    main = _relu_conv_bn(net, main, f"{name}.conv_b", channels, channels, kernel=3)
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
    return _relu_conv_bn(net, x, name, before, channels, kernel=KERNELS[operation])


def _relu_conv_bn(
    net: GraphBuilder, x: str, name: str, before: int, channels: int, *, kernel: int, stride: int = 1
) -> str:
    x = net.relu(x, f"{name}.relu")
    return net.conv_bn(x, name, before, channels, kernel=kernel, stride=stride)
