"""The topology space of NAS-Bench-201 (Dong and Yang, ICLR 2020), at its CIFAR size."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.dense_cell import EDGES, live_edges
from aznas_onnx.spaces.nats_network import (
    KERNELS,
    Operation,
    draw_cell,
    draw_head,
    draw_reduction,
    draw_stem,
)

__all__ = ["Cell", "NasBench201", "Operation"]


_OPERATIONS = tuple(Operation)
_NODE = re.compile(r"\|(?:[a-z0-9_]+~\d+\|)+")
_EDGE = re.compile(r"([a-z0-9_]+)~(\d+)")
_EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"

_CHANNELS = (16, 32, 64)  # of the three stages
_CELLS = 5  # in a stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A genotype: the operations on the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""

    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        if len(self.operations) != len(EDGES) or not all(
            isinstance(operation, Operation) for operation in self.operations
        ):
            raise GenotypeError(f"a cell of nb201 has {len(EDGES)} operations, not {self.operations!r}")


class NasBench201(Space[Cell]):
    """NAS-Bench-201: one cell of four nodes, repeated 15 times; 15,625 genotypes.

    The notation is the benchmark's own, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``. :meth:`sample` samples every operation
    uniformly. A change of :meth:`mutate` gives an edge another operation; several changes affect different edges.
    Layers are the 17 cells and reductions and the stem, for every genotype.

    Primary blocks are the output of the stem and of all 17 cells and reductions.
    """

    name = "nb201"
    default_resolution = 32
    default_num_classes = 10

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if self.resolution % 4:  # a reduction's pooling would round down where its convolution rounds up
            raise SettingsError(f"space 'nb201': resolution is {self.resolution}; a multiple of 4 is needed")

    def sample(self, rng: np.random.Generator) -> Cell:
        return Cell(operations=tuple(choose(_OPERATIONS, rng) for _ in EDGES))

    def mutate(self, genotype: Cell, rng: np.random.Generator, changes: int = 1) -> Cell:
        self.validate(genotype)
        operations = list(genotype.operations)
        for edge in rng.choice(len(EDGES), size=min(changes, len(EDGES)), replace=False):
            operations[edge] = choose([other for other in _OPERATIONS if other is not operations[edge]], rng)
        return Cell(operations=tuple(operations))

    def parse(self, text: str) -> Cell:
        text = text.strip()
        nodes = text.split("+")
        if not all(_NODE.fullmatch(node) for node in nodes):
            raise GenotypeError(f"{quote(text)} is not a NAS-Bench-201 cell such as {_EXAMPLE}")
        edges = [(to, int(source), name) for to, node in enumerate(nodes, 1) for name, source in _EDGE.findall(node)]
        if tuple((to, source) for to, source, _ in edges) != EDGES:
            raise GenotypeError(f"{quote(text)} does not have the edges of a NAS-Bench-201 cell such as {_EXAMPLE}")
        return Cell(operations=tuple(_operation(name) for _, _, name in edges))

    def format(self, genotype: Cell) -> str:
        self.validate(genotype)
        nodes: list[str] = ["|", "|", "|"]
        for (to, source), operation in zip(EDGES, genotype.operations, strict=True):
            nodes[to - 1] += f"{operation.value}~{source}|"
        return "+".join(nodes)

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, Cell):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of nb201 is a Cell, not {found}; parse() reads its notation")

    def macs(self, genotype: Cell) -> int:
        self.validate(genotype)
        weights = sum(KERNELS.get(operation, 0) ** 2 for operation in genotype.operations)
        macs = 27 * _CHANNELS[0] * self.resolution**2 + _CHANNELS[-1] * self.num_classes
        for stage, (channels, size) in enumerate(zip(_CHANNELS, self._sizes(), strict=True)):
            macs += _CELLS * weights * channels**2 * size**2
            if stage:
                before = _CHANNELS[stage - 1]
                macs += (9 * (before + channels) + before) * channels * size**2
        return macs

    def params(self, genotype: Cell) -> int:
        self.validate(genotype)
        kernels = [KERNELS[operation] for operation in genotype.operations if operation in KERNELS]
        params = (27 + 2) * _CHANNELS[0]
        for stage, channels in enumerate(_CHANNELS):
            params += _CELLS * sum(kernel**2 * channels**2 + 2 * channels for kernel in kernels)
            if stage:
                before = _CHANNELS[stage - 1]
                params += (9 * (before + channels) + 4 + before) * channels
        return params + 2 * _CHANNELS[-1] + (_CHANNELS[-1] + 1) * self.num_classes

    def layers(self, genotype: Cell) -> int:
        self.validate(genotype)
        return 1 + len(_CHANNELS) * _CELLS + len(_CHANNELS) - 1

    def paper_flops(self, genotype: Cell) -> int:
        return self.macs(genotype) + self.num_classes  # the authors count the classifier's bias

    def canonical(self, genotype: Cell) -> str:
        """Return the cell with `none` on every edge that is on no path from its input to its output.

        Such an edge has zeros or no reader, so its operation has no effect. This leaves the 9,445 cells that the
        literature counts as unique. It never joins cells of different networks. AutoDL's `to_unique_str`, which leaves
        6,466, does: it replaces a skip by its source node, and so does not distinguish two convolutions of one input
        from one that is used twice. Cells that differ in the names of their nodes stay separate here.
        """
        self.validate(genotype)
        live = live_edges([operation is not Operation.NONE for operation in genotype.operations])
        operations = (
            operation if kept else Operation.NONE for operation, kept in zip(genotype.operations, live, strict=True)
        )
        return self.format(Cell(operations=tuple(operations)))

    def build(self, genotype: Cell) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: Cell) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: Cell) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name)
        x = draw_stem(net, self.resolution, _CHANNELS[0])
        net.declare_block(x)
        zero = net.constant("zero", np.float32(0)) if Operation.NONE in genotype.operations else ""
        index = 0
        for stage, channels in enumerate(_CHANNELS):
            if stage:
                x = draw_reduction(net, x, f"cells.{index}", _CHANNELS[stage - 1], channels)
                net.declare_block(x)
                index += 1
            for _ in range(_CELLS):
                x = draw_cell(net, x, f"cells.{index}", channels, channels, genotype.operations, zero)
                net.declare_block(x)
                index += 1
        output = draw_head(net, x, _CHANNELS[-1], self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    def _sizes(self) -> tuple[int, ...]:
        return tuple(self.resolution // 2**stage for stage in range(len(_CHANNELS)))


def _operation(name: str) -> Operation:
    try:
        return Operation(name)
    except ValueError as error:
        known = ", ".join(operation.value for operation in _OPERATIONS)
        raise GenotypeError(f"{quote(name)} is not an operation of NAS-Bench-201; accepted are {known}") from error
