"""The cells of NAS-Bench-101 (Ying et al., ICML 2019)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from aznas_onnx.caches import cached
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.wired_cell import INPUT, KERNELS_OF_VERTICES, MAX_VERTICES, OUTPUT, VertexOperation, WiredCell

__all__ = ["NasBench101", "VertexOperation", "WiredCell"]

_OPERATIONS = tuple(VertexOperation)
_NOTATION = re.compile(r"\(\s*\d\s*(?:,\s*\d\s*)*\)")
_EXAMPLE = "(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 4, 1)"  # a residual block of one 3x3 convolution
_EDGES = tuple(itertools.combinations(range(MAX_VERTICES), 2))  # that a cell of all vertices can have

_CHANNELS = (128, 256, 512)  # of the three stacks; the stem has those of the first
_CELLS = 3  # in a stack


class NasBench101(Space[WiredCell]):
    """NAS-Bench-101: one cell of up to five operations and nine edges, nine times; 423,624 different ones.

    The notation is a list of numbers, ``(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 4, 1)``: the rows of the adjacency matrix, 49
    numbers for seven vertices, then the operations, 0 input, 1 output, 2 3x3 max pooling, 3 1x1 and 4 3x3 convolution.
    Vertices and edges on no path from input to output are accepted, and are not in the network.

    :meth:`sample` samples all edges and operations of seven vertices uniformly, as often as it takes to get a cell of
    the space, as the authors do. A change of :meth:`mutate` adds or removes an edge, or gives a vertex another
    operation, and is made anew where it would leave the space. If the network is still the same, because what changed
    is not in it, further changes follow. Layers are the stem and the nine cells, for every genotype.

    Primary blocks are the output of the stem and of the nine cells.
    """

    name = "nb101"
    default_resolution = 32
    default_num_classes = 10

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if self.resolution % 4:  # the authors pad an odd size before they halve it
            raise SettingsError(f"space 'nb101': resolution is {self.resolution}; a multiple of 4 is needed")

    def sample(self, rng: np.random.Generator) -> WiredCell:
        while True:
            matrix = np.triu(rng.integers(2, size=(MAX_VERTICES, MAX_VERTICES)), 1).tolist()
            cell = _cell_if_any(matrix, [choose(_OPERATIONS, rng) for _ in range(MAX_VERTICES - 2)])
            if cell is not None:
                return cell

    def mutate(self, genotype: WiredCell, rng: np.random.Generator, changes: int = 1) -> WiredCell:
        self.validate(genotype)
        cell = _with_all_vertices(genotype, rng)
        before = cell.pruned()
        made = 0
        while made < changes or cell.pruned() == before:
            changed = _change(cell, rng)
            if changed is not None:
                cell, made = changed, made + 1
        return cell

    def parse(self, text: str) -> WiredCell:
        text = text.strip()
        numbers = [int(number) for number in re.findall(r"\d", text)] if _NOTATION.fullmatch(text) else []
        vertices = next((size for size in range(2, MAX_VERTICES + 1) if size * size + size == len(numbers)), 0)
        if not vertices:
            raise GenotypeError(
                f"{quote(text)} is not a NAS-Bench-101 cell: 49 numbers of its matrix and 7 operations (fewer for "
                f"fewer vertices), such as {_EXAMPLE}"
            )
        first, *inner, last = numbers[vertices**2 :]
        if (first, last) != (INPUT, OUTPUT) or not set(inner) <= set(map(int, _OPERATIONS)):
            raise GenotypeError(
                f"the operations of a NAS-Bench-101 cell are {INPUT} (input), then 2 (3x3 max pooling), 3 (1x1 "
                f"convolution) or 4 (3x3 convolution), and {OUTPUT} (output), not {numbers[vertices**2 :]}"
            )
        rows = (numbers[row * vertices : (row + 1) * vertices] for row in range(vertices))
        return WiredCell(matrix=tuple(map(tuple, rows)), operations=tuple(map(VertexOperation, inner)))

    def format(self, genotype: WiredCell) -> str:
        self.validate(genotype)
        return _text(genotype)

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, WiredCell):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of nb101 is a WiredCell, not {found}; parse() reads its notation")

    def macs(self, genotype: WiredCell) -> int:
        self.validate(genotype)
        macs = 27 * _CHANNELS[0] * self.resolution**2 + _CHANNELS[-1] * self.num_classes
        cell = genotype.pruned()
        for stack, before, channels in _cells():
            macs += _cost(cell, before, channels).weights * self._size(stack) ** 2
        return macs

    def params(self, genotype: WiredCell) -> int:
        self.validate(genotype)
        params = (27 + 2) * _CHANNELS[0] + (_CHANNELS[-1] + 1) * self.num_classes
        cell = genotype.pruned()
        for _, before, channels in _cells():
            cost = _cost(cell, before, channels)
            params += cost.weights + 2 * cost.normalised
        return params

    def layers(self, genotype: WiredCell) -> int:
        self.validate(genotype)
        return 1 + len(_CHANNELS) * _CELLS

    def paper_flops(self, genotype: WiredCell) -> int:
        """Return the FLOPs of published tables; the paper itself has none.

        Beside the multiply-adds they have three operations for each output element of a BatchNorm and its ReLU, and
        those of the window (9 or 4) for each output element of a max pooling.
        """
        flops = self.macs(genotype) + 3 * _CHANNELS[0] * self.resolution**2
        cell = genotype.pruned()
        for stack, before, channels in _cells():
            cost = _cost(cell, before, channels)
            flops += (3 * cost.normalised + 9 * cost.pooled) * self._size(stack) ** 2
        return flops + sum(4 * before * self._size(stack) ** 2 for stack, before in enumerate(_CHANNELS[:-1], 1))

    def canonical(self, genotype: WiredCell) -> str:
        """Return the pruned cell with its vertices in the order whose text comes first.

        Cells have one text if they have one hash in the authors' code. The networks of such cells can differ by a
        channel in some vertices, because of three that share 128 channels the first gets 43 and the last 42; the
        benchmark trained one of them.
        """
        self.validate(genotype)
        return min(map(_text, genotype.pruned().orders()))

    def build(self, genotype: WiredCell) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: WiredCell) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: WiredCell) -> BuiltNetwork:
        self.validate(genotype)
        cell = genotype.pruned()
        net = GraphBuilder(self.name)
        x = _conv_bn_relu(net, net.image_input(3, self.resolution), "stem", 3, _CHANNELS[0], kernel=3)
        net.declare_block(x)
        for index, (stack, before, channels) in enumerate(_cells()):
            if index == stack * _CELLS > 0:
                x = net.node("MaxPool", x, name=f"pools.{stack}", kernel_shape=(2, 2), strides=(2, 2))
            x = _draw_cell(net, x, f"cells.{index}", before, channels, cell)
            net.declare_block(x)
        output = net.classifier(x, "classifier", _CHANNELS[-1], num_classes=self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    def _size(self, stack: int) -> int:
        return self.resolution >> stack


@dataclass(frozen=True, slots=True, kw_only=True)
class _CellCost:
    """Weights of a cell's convolutions, each used once for each position, and the channels of its layers."""

    weights: int
    normalised: int
    pooled: int


def _text(cell: WiredCell) -> str:
    return f"({', '.join(map(str, cell.numbers()))})"


def _cell_if_any(matrix: Sequence[Sequence[int]], operations: Sequence[VertexOperation]) -> WiredCell | None:
    """Return the cell if it belongs to the space."""
    try:
        return WiredCell(matrix=tuple(map(tuple, matrix)), operations=tuple(operations))
    except GenotypeError:
        return None


def _with_all_vertices(cell: WiredCell, rng: np.random.Generator) -> WiredCell:
    """Return the cell with seven vertices; the new ones have an operation but no edge."""
    missing = MAX_VERTICES - len(cell.matrix)
    rows = [(*row[:-1], *[0] * missing, row[-1]) for row in cell.matrix]
    empty = (0,) * MAX_VERTICES
    return WiredCell(
        matrix=(*rows[:-1], *[empty] * missing, rows[-1]),
        operations=(*cell.operations, *(choose(_OPERATIONS, rng) for _ in range(missing))),
    )


def _change(cell: WiredCell, rng: np.random.Generator) -> WiredCell | None:
    """Change an edge or an operation of a cell of seven vertices; return None if the space does not have the result."""
    matrix, operations = [list(row) for row in cell.matrix], list(cell.operations)
    place = int(rng.integers(len(_EDGES) + len(operations)))
    if place < len(_EDGES):
        source, target = _EDGES[place]
        matrix[source][target] ^= 1
    else:
        vertex = place - len(_EDGES)
        operations[vertex] = choose([other for other in _OPERATIONS if other is not operations[vertex]], rng)
    return _cell_if_any(matrix, operations)


def _cells() -> Iterator[tuple[int, int, int]]:
    """Yield the stack of each cell, and the channels of its input and output."""
    before = _CHANNELS[0]
    for stack, channels in enumerate(_CHANNELS):
        for _ in range(_CELLS):
            yield stack, before, channels
            before = channels


@cached(4096, "most cells of a network are equal, and a candidate is counted twice")
def _cost(cell: WiredCell, before: int, channels: int) -> _CellCost:
    """Count a pruned cell."""
    widths = cell.channels(channels)
    projected = sum(width for vertex, width in enumerate(widths) if vertex and cell.takes_input(vertex))
    weights, convolved, pooled = before * projected, 0, 0
    for width, operation in zip(widths[1:-1], cell.operations, strict=True):
        if operation in KERNELS_OF_VERTICES:
            weights += width**2 * KERNELS_OF_VERTICES[operation] ** 2
            convolved += width
        else:
            pooled += width
    return _CellCost(weights=weights, normalised=projected + convolved, pooled=pooled)


def _draw_cell(net: GraphBuilder, x: str, name: str, before: int, channels: int, cell: WiredCell) -> str:
    """Write a pruned cell.

    A vertex works on a sum: of the first channels, as many as it has itself, of the inner vertices that feed it, and of
    a projection of the cell's input. The output is the concatenation of the inner vertices that feed it, plus a
    projection of the input if there is such an edge.
    """
    widths = cell.channels(channels)
    last = len(widths) - 1
    tensors = [x]
    for vertex, operation in enumerate(cell.operations, 1):
        own, width = f"{name}.{vertex}", widths[vertex]
        terms = [
            tensors[source]
            if widths[source] == width
            else net.slice(tensors[source], f"{own}.from.{source}", 0, width, axis=1)
            for source in cell.sources(vertex)
        ]
        if cell.takes_input(vertex):
            terms.append(_conv_bn_relu(net, x, f"{own}.projection", before, width, kernel=1))
        y = _sum(net, terms, own)
        if operation in KERNELS_OF_VERTICES:
            y = _conv_bn_relu(net, y, own, width, width, kernel=KERNELS_OF_VERTICES[operation])
        else:
            y = net.node("MaxPool", y, name=f"{own}.pool", kernel_shape=(3, 3), pads=(1,) * 4)
        tensors.append(y)
    terms = [tensors[source] for source in cell.sources(last)]
    if len(terms) > 1:
        terms = [net.node("Concat", *terms, name=f"{name}.concat", axis=1)]
    if cell.takes_input(last):
        terms.append(_conv_bn_relu(net, x, f"{name}.projection", before, channels, kernel=1))
    return _sum(net, terms, name)


def _sum(net: GraphBuilder, terms: Sequence[str], name: str) -> str:
    total, *others = terms
    for place, term in enumerate(others):
        total = net.add(total, term, f"{name}.add.{place}")
    return total


def _conv_bn_relu(net: GraphBuilder, x: str, name: str, before: int, channels: int, *, kernel: int) -> str:
    return net.relu(net.conv_bn(x, name, before, channels, kernel=kernel), f"{name}.relu")
