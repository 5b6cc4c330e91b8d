"""Blocks of learned queries that attend to the samples (DETR, Perceiver, Q-Former).

The sum behind the first attention has one operand that depends on the samples. The other is the queries: constants,
another input, or results of layers on these. No path of the samples leads to the queries, so this module finds where
the attention that ends at this sum begins.

    samples - ... -+- keys ---- product - softmax - product - (+) - the stream
                   |               |                  |        |
                   +--- values ----|------------------+        |
                                queries -----------------------+
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aznas_onnx.blocks.dataflow import DataGraph
from aznas_onnx.blocks.operator_roles import OperatorRole, is_linear, role_of
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.operators.sets import MATRIX_PRODUCTS, SELECTS

__all__ = ["entered_streams"]

Span = tuple[int, int]


def entered_streams(data: DataGraph, path: Sequence[int], stop: int, found: Mapping[Span, int]) -> dict[Span, int]:
    """Find the attention by which the samples enter a stream that began without them.

    - `data`, `path`, `stop`: A data graph, its main path, and the place on it where positions end.
    - `found`: Where paths beside the main path leave and join it, each with the set of its nodes.

    Returns: As `found`: from the split of keys and values to the sum of their result with the stream.
    """
    roots = _Roots(data.graph)
    sums = [(place, roots.of(name)) for place in range(1, stop) for name in _added(data, path[place])]
    if not sums:
        return {}
    places = {index: place for place, index in enumerate(path)}
    asking = [(at, roots.of(name)) for at in range(len(data.nodes)) for name in _queries(data, at)]
    entered: dict[Span, int] = {}
    for place, stream in sums:
        spans = [
            (end, start)
            for (start, end), beside in found.items()
            if end < place
            and any(stream & queries and _holds(at, start, end, beside, places) for at, queries in asking)
        ]
        if spans:
            end, start = max(spans)
            entered[_unpacked(data, path, start), place] = found[start, end]
    return entered


def _unpacked(data: DataGraph, path: Sequence[int], start: int) -> int:
    """Return the place before the layer that makes keys and values at once, if one does."""
    readers = {at for at, parents in enumerate(data.parents) if path[start] in parents}
    parted = data.nodes[path[start]].is_op("Split") if start else False
    if not parted and not all(data.nodes[at] in SELECTS for at in readers):
        return start
    for place in range(start, 0, -1):
        role = role_of(data.nodes[path[place]], data.graph)
        if role is OperatorRole.WEIGHT:
            return place - 1 if is_linear(data.nodes[path[place]]) else start
        if role not in (OperatorRole.SHAPE, OperatorRole.AFFINE) or len(data.parents[path[place]]) > 1:
            return start
    return start


def _holds(at: int, start: int, end: int, beside: int, places: Mapping[int, int]) -> bool:
    return bool(beside >> at & 1) or start < places.get(at, -1) <= end


def _added(data: DataGraph, at: int) -> Iterator[str]:
    """Yield the operand of a sum that does not depend on the samples, if it is a map and not a bias."""
    if data.nodes[at].is_op("Add") and len(data.parents[at]) == 1:
        for name in _others(data, at):
            if sum(size > 1 for size in data.infos[name].shape or ()) > 1:
                yield name


def _queries(data: DataGraph, at: int) -> Iterator[str]:
    """Yield the operand of a matrix product that does not depend on the samples."""
    node = data.nodes[at]
    if node.is_op("Attention", "MultiHeadAttention") or (node in MATRIX_PRODUCTS and len(data.parents[at]) == 1):
        yield from _others(data, at)


def _others(data: DataGraph, at: int) -> Iterator[str]:
    for name in data.nodes[at].inputs:
        if name and name not in data.carried and data.infos[name].dtype.kind == "f":
            yield name


class _Roots:
    """From tensors to the constants and inputs that they are made of."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[str, frozenset[str]] = {}

    def of(self, name: str) -> frozenset[str]:
        """Return the names of those with more than one element."""
        found: set[str] = set()
        waiting, seen = [name], {name}
        while waiting:
            one = waiting.pop()
            constant, node = self._graph.constants.get(one), self._graph.producers.get(one)
            if constant is not None:
                found.update((constant.sources or {one}) if constant.is_float and constant.elements > 1 else ())
            elif node is None:
                found.add(one)
            else:
                fresh = {above for above in node.inputs if above} - seen
                seen |= fresh
                waiting += fresh
        return frozenset(found)
