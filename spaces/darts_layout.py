"""Where the cells of a DARTS network stand, and what their operations cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from aznas_onnx.caches import cached
from aznas_onnx.spaces.darts_genotype import NODES, CellPair, DartsCell, DartsOperation

__all__ = ["DEPTHWISE", "DartsStem", "Depthwise", "PlacedCell", "PlacedEdge", "place_cells"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depthwise:
    """The depthwise convolutions of an operation, each with a pointwise one and a BatchNorm behind it."""

    kernel: int
    dilation: int
    times: int


DEPTHWISE: Mapping[DartsOperation, Depthwise] = MappingProxyType(
    {
        DartsOperation.SEPARABLE_3X3: Depthwise(kernel=3, dilation=1, times=2),
        DartsOperation.SEPARABLE_5X5: Depthwise(kernel=5, dilation=1, times=2),
        DartsOperation.DILATED_3X3: Depthwise(kernel=3, dilation=2, times=1),
        DartsOperation.DILATED_5X5: Depthwise(kernel=5, dilation=2, times=1),
    }
)


@dataclass(frozen=True, slots=True)
class OperationCosts:
    """Costs of operations on C channels.

    - `linear`, `quadratic`: Weights of convolutions, in units of C and of C²; each is used once for an output pixel.
    - `norms`: BatchNorms.
    - `passes`: What ReLUs, BatchNorms and pooling count in :meth:`~aznas_onnx.spaces.darts.Darts.paper_flops`, in units
      of the output's elements.
    """

    linear: int = 0
    quadratic: int = 0
    norms: int = 0
    passes: int = 0


def _costs(operation: DartsOperation, stride: int) -> OperationCosts:
    relu = stride**2  # it runs before the convolution that has the stride
    if operation in DEPTHWISE:
        form = DEPTHWISE[operation]
        passes = relu + 2 * form.times - 1  # a BatchNorm behind each pair, a ReLU before each
        return OperationCosts(form.times * form.kernel**2, form.times, form.times, passes)
    if operation is DartsOperation.SKIP and stride == 2:
        return OperationCosts(quadratic=1, norms=1, passes=relu + 1)
    if operation in (DartsOperation.MAX_POOL, DartsOperation.AVERAGE_POOL):
        return OperationCosts(passes=9 + 1)  # NASLib has a BatchNorm there
    return OperationCosts()


_COSTS = {(operation, stride): _costs(operation, stride) for operation in DartsOperation for stride in (1, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class DartsStem:
    """The convolutions of 3x3 before the first cell, each with a BatchNorm; a ReLU stands between two of them.

    - `channels`: Those of the outputs.
    - `stride`: Of every convolution. The last output is the newer input of the first cell, the one before it the older
      input; where there is one convolution, it is both.
    """

    channels: tuple[int, ...]
    stride: int


PlacedEdge: TypeAlias = tuple[DartsOperation, int, int]
"""An operation, the state that it reads, and its stride."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCell:
    """A cell at its place in a network.

    - `index`: 0 for the first cell. Its inputs are the outputs of cells ``index - 2`` and ``index - 1``; -1 is the last
      output of the stem, and -2 the one before it.
    - `channels_before`: Of these two.
    - `channels`: Of each node.
    - `size`: Height and width of the inputs after their preprocessing.
    - `halves`: Whether the cell is a reduction.
    - `older_is_larger`: Whether the older input has twice the height and width, which its preprocessing halves.
    - `reached`: The states on which the cell's output depends.
    - `costs`: Those of its operations together.
    """

    index: int
    cell: DartsCell
    channels_before: tuple[int, int]
    channels: int
    size: int
    halves: bool
    older_is_larger: bool
    reached: frozenset[int]
    costs: OperationCosts

    @property
    def size_out(self) -> int:
        """Height and width of the output."""
        return self.size // 2 if self.halves else self.size

    @property
    def channels_out(self) -> int:
        """Channels of the output."""
        return len(self.cell.concat) * self.channels

    def inputs(self) -> tuple[int, ...]:
        """Return which of the inputs, 0 (the older) and 1, the cell reads."""
        return tuple(state for state in (0, 1) if state in self.reached)

    def nodes(self) -> Iterator[tuple[int, list[PlacedEdge]]]:
        """Yield the nodes on which the output depends, each with its two edges."""
        return _nodes(self.cell, self.reached, self.halves)

    def has_none(self) -> bool:
        """Return whether one of these edges is a `none`."""
        return any(operation is DartsOperation.NONE for _, edges in self.nodes() for operation, _, _ in edges)


def _nodes(cell: DartsCell, reached: frozenset[int], halves: bool) -> Iterator[tuple[int, list[PlacedEdge]]]:
    edges = [(operation, source, 2 if halves and source < NODES[0] else 1) for operation, source in cell.edges]
    for index, node in enumerate(NODES):
        if node in reached:
            yield node, edges[2 * index : 2 * index + 2]


def _sum_of_costs(cell: DartsCell, reached: frozenset[int], halves: bool) -> OperationCosts:
    every = [_COSTS[operation, stride] for _, edges in _nodes(cell, reached, halves) for operation, _, stride in edges]
    return OperationCosts(
        linear=sum(one.linear for one in every),
        quadratic=sum(one.quadratic for one in every),
        norms=sum(one.norms for one in every),
        passes=sum(one.passes for one in every),
    )


@cached(64, "the counts and the drawing of a candidate need the same places")
def place_cells(
    genotype: CellPair, cells: int, channels: int, stem: DartsStem, resolution: int
) -> tuple[PlacedCell, ...]:
    """Return the cells on which the output of the network depends, in dataflow order."""
    kinds = {False: genotype.normal, True: genotype.reduce}
    reached = {halves: cell.reached() for halves, cell in kinds.items()}
    costs = {halves: _sum_of_costs(cell, reached[halves], halves) for halves, cell in kinds.items()}
    reductions = [index in (cells // 3, 2 * cells // 3) for index in range(cells)]
    read = _read_cells([reached[halves] for halves in reductions])
    before = (stem.channels[-2] if len(stem.channels) > 1 else stem.channels[-1], stem.channels[-1])
    size, older_is_larger = resolution // stem.stride ** len(stem.channels), stem.stride > 1
    placed = []
    for index, halves in enumerate(reductions):
        channels *= 2 if halves else 1
        place = PlacedCell(
            index=index,
            cell=kinds[halves],
            channels_before=before,
            channels=channels,
            size=size,
            halves=halves,
            older_is_larger=older_is_larger,
            reached=reached[halves],
            costs=costs[halves],
        )
        if index in read:
            placed.append(place)
        before, size, older_is_larger = (before[1], place.channels_out), place.size_out, halves
    return tuple(placed)


def _read_cells(reached: Sequence[frozenset[int]]) -> set[int]:
    """Return the indices of the cells on which the last one depends; a cell need not read both of its inputs."""
    found = {len(reached) - 1}
    for index in reversed(range(len(reached))):
        if index in found:
            found |= {index - 2 + state for state in (0, 1) if state in reached[index]}
    return found
