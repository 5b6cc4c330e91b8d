"""The genotype of NAS-Bench-101: a cell as a graph whose vertices are operations."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aznas_onnx.caches import cached
from aznas_onnx.spaces.base import GenotypeError

__all__ = ["INPUT", "KERNELS_OF_VERTICES", "MAX_VERTICES", "OUTPUT", "Matrix", "VertexOperation", "WiredCell"]

Matrix: TypeAlias = tuple[tuple[int, ...], ...]
"""An adjacency matrix: ``matrix[source][target]`` is 1 where there is an edge."""


class VertexOperation(enum.IntEnum):
    """Operation of an inner vertex, by its number in the notation."""

    MAX_POOL_3X3 = 2
    CONV_1X1 = 3
    CONV_3X3 = 4


INPUT, OUTPUT = 0, 1
"""Numbers of the first and of the last vertex in the notation."""

KERNELS_OF_VERTICES = {VertexOperation.CONV_1X1: 1, VertexOperation.CONV_3X3: 3}
"""Kernels of the operations that are convolutions."""

MAX_VERTICES = 7
_MAX_EDGES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class WiredCell:
    """A genotype: the upper triangular adjacency matrix of 2 to 7 vertices, and the operations of the inner ones.

    The first vertex is the input, the last the output. What no path from input to output meets is not in the network;
    the rest has at most nine edges.
    """

    matrix: Matrix
    operations: tuple[VertexOperation, ...]

    def __post_init__(self) -> None:
        vertices = len(self.matrix)
        if not 2 <= vertices <= MAX_VERTICES or any(len(row) != vertices for row in self.matrix):
            raise GenotypeError(f"a cell of nb101 has a square matrix of 2 to {MAX_VERTICES} vertices")
        if any(value not in (0, 1) for row in self.matrix for value in row) or any(
            target <= source for source, target in _edges(self.matrix)
        ):
            raise GenotypeError(
                "the matrix of a cell of nb101 has ones and zeros above its diagonal and zeros elsewhere"
            )
        if len(self.operations) != vertices - 2 or not all(
            isinstance(operation, VertexOperation) for operation in self.operations
        ):
            raise GenotypeError(
                f"a cell of nb101 with {vertices} vertices has {vertices - 2} operations, not {self.operations!r}"
            )
        live = _live_vertices(self.matrix)
        if not live:
            raise GenotypeError("a cell of nb101 has a path from its first vertex to its last; this one has none")
        edges = sum(self.matrix[source][target] for source, target in itertools.combinations(live, 2))
        if edges > _MAX_EDGES:
            raise GenotypeError(f"a cell of nb101 has at most {_MAX_EDGES} edges on its paths; this one has {edges}")

    def pruned(self) -> WiredCell:
        """Return the cell without the vertices that no path from input to output meets."""
        live = _live_vertices(self.matrix)
        return self if len(live) == len(self.matrix) else self._arranged(live)

    def orders(self) -> Iterator[WiredCell]:
        """Yield the cell with its vertices in each order in which all edges lead forward."""
        for order in _topological_orders(self.matrix):
            yield self._arranged(order)

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the notation: the rows of the matrix, then the operations of all vertices."""
        return (*itertools.chain(*self.matrix), INPUT, *map(int, self.operations), OUTPUT)

    def channels(self, outputs: int) -> tuple[int, ...]:
        """Return the channels of the vertices of a pruned cell with `outputs` channels; 0 stands for the input.

        The vertices that feed the output share its channels; where these do not divide, the first ones have one more.
        Any other has as many as the widest that it feeds.
        """
        last = len(self.matrix) - 1
        feeding = self.sources(last)
        channels = [0] * last + [outputs]
        for place, vertex in enumerate(feeding):
            share, rest = divmod(outputs, len(feeding))
            channels[vertex] = share + (place < rest)
        for vertex in range(last - 1, 0, -1):
            if not self.matrix[vertex][last]:
                channels[vertex] = max(channels[target] for target in range(last) if self.matrix[vertex][target])
        return tuple(channels)

    def sources(self, vertex: int) -> tuple[int, ...]:
        """Return the inner vertices that feed a vertex."""
        return tuple(source for source in range(1, vertex) if self.matrix[source][vertex])

    def takes_input(self, vertex: int) -> bool:
        """Whether the cell's input feeds a vertex."""
        return bool(self.matrix[0][vertex])

    def _arranged(self, vertices: Sequence[int]) -> WiredCell:
        """Return the cell of the given vertices in the given order."""
        return WiredCell(
            matrix=tuple(tuple(self.matrix[source][target] for target in vertices) for source in vertices),
            operations=tuple(self.operations[vertex - 1] for vertex in vertices[1:-1]),
        )


def _edges(matrix: Matrix) -> list[tuple[int, int]]:
    """Return the edges, sorted: sources in topological order."""
    return [(source, target) for source, row in enumerate(matrix) for target, value in enumerate(row) if value]


@cached(4096, "a candidate is checked, counted and built")
def _live_vertices(matrix: Matrix) -> tuple[int, ...]:
    """Return the vertices on paths from the first to the last; none where there is no path."""
    last = len(matrix) - 1
    edges = _edges(matrix)
    fed, used = {0}, {last}
    for source, target in edges:
        if source in fed:
            fed.add(target)
    for source, target in reversed(edges):
        if target in used:
            used.add(source)
    return tuple(sorted(fed & used)) if last in fed else ()


def _topological_orders(matrix: Matrix) -> Iterator[tuple[int, ...]]:
    last = len(matrix) - 1
    for inner in itertools.permutations(range(1, last)):
        order = (0, *inner, last)
        if not any(matrix[after][before] for before, after in itertools.combinations(order, 2)):
            yield order
