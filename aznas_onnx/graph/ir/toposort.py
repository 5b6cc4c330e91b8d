"""Topological sort of the nodes of a file.

ONNX demands that order; ONNX Runtime does not, and its own fp16 converter writes files that break it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence

import onnx

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.node_cache import CachedNode

__all__ = ["toposort", "read_by", "subgraphs"]


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the branches or the body of a node."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def toposort(model: onnx.ModelProto, plain: Sequence[CachedNode | None]) -> onnx.ModelProto:
    """Sort the nodes of a model's main graph.

    - `model`: Stays as it is.
    - `plain`: Its decoded nodes, where they are plain.

    Returns: The given one where its nodes are sorted already, or cannot be (a cycle, a name defined twice). Nodes keep
    their order where none of them waits for a later one.
    """
    nodes = list(zip(model.graph.node, plain, strict=True))
    reads = [tuple(read_by(node)) if known is None else known.inputs for node, known in nodes]
    makes = [tuple(node.output) if known is None else known.outputs for node, known in nodes]
    made = {name: index for index, names in enumerate(makes) for name in names if name}
    if all(made.get(name, -1) < index for index, names in enumerate(reads) for name in names):
        return model
    needs = [{made[name] for name in names if name in made} for names in reads]
    order = _order(needs)
    if len(order) < len(nodes):
        return model
    ordered = onnx.ModelProto()
    ordered.CopyFrom(model)
    del ordered.graph.node[:]
    ordered.graph.node.extend(nodes[index][0] for index in order)
    return ordered


def _order(needs: list[set[int]]) -> list[int]:
    """Return the indices in an order in which each comes after all that it needs, without those in a cycle."""
    waiting = [len(needed) for needed in needs]
    readers: list[list[int]] = [[] for _ in needs]
    for index, needed in enumerate(needs):
        for source in needed:
            readers[source].append(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    return order


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, those captured by its branches or body included."""
    yield from node.input
    for graph in subgraphs(node):
        own = {value.name for value in graph.input}
        for inner in graph.node:
            yield from (name for name in read_by(inner) if name not in own)
            own.update(inner.output)
        yield from (value.name for value in graph.output if value.name not in own)


def live_nodes(nodes: Sequence[Node], wanted: Collection[str]) -> list[Node]:
    """Return those of `nodes` (in topological order) that `wanted` tensors depend on."""
    needed = set(wanted)
    live = []
    for node in reversed(nodes):
        needed.discard("")  # an omitted operand has no maker
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            live.append(node)
    return live[::-1]
