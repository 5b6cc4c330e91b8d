"""The cell-level space of TransNAS-Bench-101 (Duan et al., CVPR 2021)."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces.base import GenotypeError, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.dense_cell import EDGES, live_edges, relu_conv_bn, write_nodes
from aznas_onnx.spaces.transnas_backbone import BackboneBlock, BackboneModule, BlockConvolution, TransNasSpace

__all__ = ["CellOperation", "MicroCell", "TransNasMicro"]


class CellOperation(enum.IntEnum):
    """Operation on an edge of the cell, by its digit in the notation."""

    NONE = 0
    SKIP = 1
    CONV_1X1 = 2
    CONV_3X3 = 3


_OPERATIONS = tuple(CellOperation)
_KERNELS = {CellOperation.CONV_1X1: 1, CellOperation.CONV_3X3: 3}
_MODULES = tuple(map(BackboneModule, (4, 1, 4, 1, 4)))
_SMALLEST = 32  # the stem and three modules halve the resolution five times
_OFFICIAL = re.compile(r"64-41414-([0-3])_([0-3])([0-3])_([0-3])([0-3])([0-3])")
_TUPLE = re.compile(rf"\({', ?'.join(['([0-3])'] * len(EDGES))}\)")
_EXAMPLES = "64-41414-1_02_333 or (1, 0, 2, 3, 3, 3)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroCell:
    """A genotype: the operations on the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""

    operations: tuple[CellOperation, ...]

    def __post_init__(self) -> None:
        if len(self.operations) != len(EDGES) or not all(
            isinstance(operation, CellOperation) for operation in self.operations
        ):
            raise GenotypeError(f"a cell of transnas-micro has {len(EDGES)} operations, not {self.operations!r}")


class TransNasMicro(TransNasSpace[MicroCell]):
    """TransNAS-Bench-101, micro: one cell of four nodes, repeated ten times; 4,096 genotypes.

    The notation is the benchmark's own, ``64-41414-1_02_333``; a tuple of the same digits, ``(1, 0, 2, 3, 3, 3)``, is
    read as well. A digit is an operation on one of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3: 0 none, 1 skip, 2
    convolution 1x1, 3 convolution 3x3. :meth:`sample` samples every operation uniformly. A change of :meth:`mutate`
    gives an edge another operation; several changes affect different edges. Layers are the stem and the ten cells, for
    every genotype.

    Primary blocks are the output of the stem and of all cells.
    """

    name = "transnas-micro"

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if self.resolution % _SMALLEST:  # the pieces of a skip that halves an odd size would need padding
            raise SettingsError(
                f"space {self.name!r}: resolution is {self.resolution}; a multiple of {_SMALLEST} is needed"
            )

    def sample(self, rng: np.random.Generator) -> MicroCell:
        return MicroCell(operations=tuple(choose(_OPERATIONS, rng) for _ in EDGES))

    def mutate(self, genotype: MicroCell, rng: np.random.Generator, changes: int = 1) -> MicroCell:
        self.validate(genotype)
        operations = list(genotype.operations)
        for edge in rng.choice(len(EDGES), size=min(changes, len(EDGES)), replace=False):
            operations[edge] = choose([other for other in _OPERATIONS if other is not operations[edge]], rng)
        return MicroCell(operations=tuple(operations))

    def parse(self, text: str) -> MicroCell:
        text = text.strip()
        found = _OFFICIAL.fullmatch(text) or _TUPLE.fullmatch(text)
        if found is None:
            raise GenotypeError(f"{quote(text)} is not a cell of TransNAS-Bench-101 such as {_EXAMPLES}")
        return MicroCell(operations=tuple(CellOperation(int(digit)) for digit in found.groups()))

    def format(self, genotype: MicroCell) -> str:
        self.validate(genotype)
        a, b, c, d, e, f = map(int, genotype.operations)
        return f"64-41414-{a}_{b}{c}_{d}{e}{f}"

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, MicroCell):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of transnas-micro is a MicroCell, not {found}; parse() reads its notation")

    def canonical(self, genotype: MicroCell) -> str:
        """Return the cell with `none` on every edge that is on no path from its input to its output.

        As in `nb201`, this never joins cells of different networks, and cells that differ in the names of their nodes
        stay separate.
        """
        self.validate(genotype)
        live = live_edges([operation is not CellOperation.NONE for operation in genotype.operations])
        kept = (
            operation if on else CellOperation.NONE for operation, on in zip(genotype.operations, live, strict=True)
        )
        return self.format(MicroCell(operations=tuple(kept)))

    def _modules(self, genotype: MicroCell) -> Sequence[BackboneModule]:
        return _MODULES

    def _convolutions(self, genotype: MicroCell, block: BackboneBlock) -> Iterator[BlockConvolution]:
        for (_, source), operation in zip(EDGES, genotype.operations, strict=True):
            before, size = (block.channels, block.size) if source else (block.before, block.entering)
            halves = operation is CellOperation.SKIP and not source and not block.is_plain
            kernel = 1 if halves else _KERNELS.get(operation, 0)
            if kernel:
                yield BlockConvolution(kernel**2 * before * block.channels, before * size**2)

    def _write_constants(self, net: GraphBuilder, genotype: MicroCell) -> None:
        if CellOperation.NONE in genotype.operations:
            net.constant("zero", np.float32(0))
        first = (operation for (_, source), operation in zip(EDGES, genotype.operations, strict=True) if not source)
        if CellOperation.SKIP in first:
            for name, values in (("starts", [1, 1]), ("ends", [self.resolution] * 2), ("axes", [2, 3])):
                net.constant(f"shift.{name}", values)

    def _write_block(self, net: GraphBuilder, x: str, genotype: MicroCell, block: BackboneBlock) -> str:
        def write_edge(x: str, name: str, source: int, operation: CellOperation) -> str:
            before, stride = (block.channels, 1) if source else (block.before, block.stride)
            if operation in _KERNELS:
                kernel = _KERNELS[operation]
                return relu_conv_bn(net, x, name, before, block.channels, kernel=kernel, stride=stride)
            if source or block.is_plain:
                return x if operation is CellOperation.SKIP else net.node("Mul", x, "zero", name=name)
            return (_halving_skip if operation is CellOperation.SKIP else _halving_none)(net, x, name, block)

        return write_nodes(net, x, block.name, genotype.operations, write_edge)


def _halving_skip(net: GraphBuilder, x: str, name: str, block: BackboneBlock) -> str:
    """Write DARTS's factorised reduction: half the channels see even positions, the others odd ones."""
    x = net.relu(x, f"{name}.relu")
    odd = net.node("Slice", x, "shift.starts", "shift.ends", "shift.axes", name=f"{name}.shift")
    halves = (
        net.conv(part, f"{name}.convs.{index}", block.before, block.channels // 2, kernel=1, stride=block.stride)
        for index, part in enumerate((x, odd))
    )
    return net.batch_norm(net.node("Concat", *halves, name=f"{name}.joined", axis=1), f"{name}.bn", block.channels)


def _halving_none(net: GraphBuilder, x: str, name: str, block: BackboneBlock) -> str:
    """Write zeros of the block's output shape as a product of its input with zero.

    The benchmark's code makes them from nothing. So a cell without a path from input to output stays a graph with one.
    """
    thinned = net.node("AveragePool", x, name=f"{name}.thinned", kernel_shape=(1, 1), strides=(block.stride,) * 2)
    zeros = net.node("Mul", thinned, "zero", name=f"{name}.zeros")
    return net.node("Concat", *[zeros] * (block.channels // block.before), name=name, axis=1)
