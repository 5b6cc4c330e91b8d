"""The cell of NAS-Bench-201 and of TransNAS-Bench-101: four nodes, each of them joined to all that precede it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from aznas_onnx.graph.building.builder import GraphBuilder

__all__ = ["EDGES", "live_edges", "relu_conv_bn", "write_nodes"]

T = TypeVar("T")

EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""The nodes that an edge goes to and comes from, in the order of both notations; 0 is the input and 3 the output."""


def live_edges(present: Sequence[bool]) -> tuple[bool, ...]:
    """Return whether each edge is on a path from the input to the output; `present` are those with an operation."""
    fed, used = {0}, {EDGES[-1][0]}
    joined = [edge for edge, there in zip(EDGES, present, strict=True) if there]
    for to, source in joined:  # in topological order
        if source in fed:
            fed.add(to)
    for to, source in reversed(joined):
        if to in used:
            used.add(source)
    return tuple(there and source in fed and to in used for (to, source), there in zip(EDGES, present, strict=True))


def write_nodes(
    net: GraphBuilder, x: str, name: str, operations: Sequence[T], write_edge: Callable[[str, str, int, T], str]
) -> str:
    """Write a cell: node i is the sum over j < i of an operation on node j.

    The last node is a sum of three, so its tensor is new even where every edge is a skip.

    - `write_edge`: Writes the operation on an edge; takes the tensor of the edge's source, a name, the number of the
      source and the operation.
    """
    nodes = [x]
    for node in (1, 2, 3):
        total = ""
        for (to, source), operation in zip(EDGES, operations, strict=True):
            if to == node:
                term = write_edge(nodes[source], f"{name}.edges.{to}_{source}", source, operation)
                total = net.add(total, term, f"{name}.nodes.{to}.add.{source}") if total else term
        nodes.append(total)
    return nodes[-1]


def relu_conv_bn(
    net: GraphBuilder, x: str, name: str, before: int, channels: int, *, kernel: int, stride: int = 1
) -> str:
    """Write a ReLU, a convolution and its normalisation."""
    x = net.relu(x, f"{name}.relu")
    return net.conv_bn(x, name, before, channels, kernel=kernel, stride=stride)
