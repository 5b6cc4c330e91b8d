"""The space of DARTS (Liu, Simonyan and Yang, ICLR 2019), for CIFAR and for ImageNet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.darts_genotype import (
    NODES,
    CellPair,
    DartsCell,
    DartsOperation,
    canonical_cell,
    read_genotype,
    write_genotype,
)
from aznas_onnx.spaces.darts_layout import DEPTHWISE, DartsStem, Depthwise, PlacedCell, PlacedEdge, place_cells

__all__ = ["Darts"]

_SAMPLED = tuple(DartsOperation)[1:]  # a network that a search derives has no `none`
_CIFAR, _IMAGENET = "cifar", "imagenet"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Defaults of a shape; `divisor` is what the resolution must be a multiple of."""

    resolution: int
    num_classes: int
    cells: int
    channels: int
    divisor: int


_SHAPES = {
    _CIFAR: _Shape(resolution=32, num_classes=10, cells=8, channels=32, divisor=4),
    _IMAGENET: _Shape(resolution=224, num_classes=1000, cells=14, channels=48, divisor=32),
}
_IMAGENET_RESOLUTION = 128  # from this on, a network has the ImageNet shape unless another is given


class Darts(Space[CellPair]):
    """DARTS: a normal cell, and a reduction cell at one and two thirds of the depth, each of four nodes.

    The notation is DARTS' own, ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=...)``;
    ``[normal, reduce]`` of NAS-Bench-301 is read too. A sampled node has two different inputs and operations other than
    `none`, all with equal probability. A change of :meth:`mutate` gives an edge another operation or another input.
    Layers are the cells that the output depends on, and the stem.

    Primary blocks are the output of the stem and of those cells.

    Parameters
    ----------
    resolution, num_classes
        32 and 10 for the CIFAR shape, 224 and 1000 for the ImageNet shape where None.
    shape
        ``"cifar"``, with a stem of one convolution, or ``"imagenet"``, with three of stride 2. Where None, ``"cifar"``
        below a resolution of 128.
    cells
        Number of cells: 8 for CIFAR, as in NAS-Bench-301, and 14 for ImageNet where None. The paper's CIFAR networks
        have 20.
    channels
        Channels of a node in the first cell: 32 and 48 where None. The paper's CIFAR networks have 36.
    """

    name = "darts"
    default_resolution = 32
    default_num_classes = 10

    def __init__(
        self,
        *,
        resolution: int | None = None,
        num_classes: int | None = None,
        shape: str | None = None,
        cells: int | None = None,
        channels: int | None = None,
    ) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        self.shape = (_CIFAR if self.resolution < _IMAGENET_RESOLUTION else _IMAGENET) if shape is None else shape
        if self.shape not in tuple(_SHAPES):
            raise SettingsError(f"space 'darts': shape is {shape!r}; accepted are {', '.join(_SHAPES)}")
        defaults = _SHAPES[self.shape]
        self.resolution = defaults.resolution if resolution is None else resolution
        self.num_classes = defaults.num_classes if num_classes is None else num_classes
        self.cells = defaults.cells if cells is None else cells
        self.channels = defaults.channels if channels is None else channels
        self.require_positive("cells", "channels")
        if self.resolution % defaults.divisor:  # half of a FactorizedReduce would have another size
            raise SettingsError(
                f"space 'darts': resolution is {self.resolution}; a multiple of {defaults.divisor} is needed"
            )
        if self.channels % 2:
            raise SettingsError(f"space 'darts': channels is {self.channels}; an even number is needed")

    def sample(self, rng: np.random.Generator) -> CellPair:
        return CellPair(normal=_sample_cell(rng), reduce=_sample_cell(rng))

    def mutate(self, genotype: CellPair, rng: np.random.Generator, changes: int = 1) -> CellPair:
        self.validate(genotype)
        for _ in range(changes):
            if rng.random() < 0.5:
                genotype = replace(genotype, normal=_mutate_cell(genotype.normal, rng))
            else:
                genotype = replace(genotype, reduce=_mutate_cell(genotype.reduce, rng))
        return genotype

    def parse(self, text: str) -> CellPair:
        return read_genotype(text)

    def format(self, genotype: CellPair) -> str:
        self.validate(genotype)
        return write_genotype(genotype)

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, CellPair):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of darts is a CellPair, not {found}; parse() reads its notation")

    def macs(self, genotype: CellPair) -> int:
        places = self._places(genotype)
        macs = sum(9 * before * after * size**2 for before, after, size in self._stem_convs(places))
        for place in places:
            channels, costs = place.channels, place.costs
            macs += channels * place.size**2 * sum(place.channels_before[state] for state in place.inputs())
            macs += (costs.linear + costs.quadratic * channels) * channels * place.size_out**2
        return macs + places[-1].channels_out * self.num_classes

    def params(self, genotype: CellPair) -> int:
        places = self._places(genotype)
        params = sum((9 * before + 2) * after for before, after, _ in self._stem_convs(places))
        for place in places:
            channels, costs = place.channels, place.costs
            params += channels * sum(place.channels_before[state] + 2 for state in place.inputs())
            params += (costs.linear + costs.quadratic * channels + 2 * costs.norms) * channels
        return params + (places[-1].channels_out + 1) * self.num_classes

    def paper_params(self, genotype: CellPair) -> int:
        """Return the parameters in the convention of NAS-Bench-Suite-Zero.

        It counts NASLib's network of the genotype, where the BatchNorms of a cell's operations have no weights.
        """
        norms = sum(place.costs.norms * place.channels for place in self._places(genotype))
        return self.params(genotype) - 2 * norms

    def layers(self, genotype: CellPair) -> int:
        return 1 + len(self._places(genotype))

    def paper_flops(self, genotype: CellPair) -> int:
        """Return the FLOPs in the convention of NAS-Bench-Suite-Zero.

        It counts NASLib's network, where a BatchNorm follows every pooling and those of a cell's operations have no
        weights. Beside multiply-adds, an element costs 1 in a ReLU or in such a BatchNorm, 2 in another BatchNorm, and
        9 in a pooling of 3x3. A channel of the global pooling costs (height + 1)².
        """
        places = self._places(genotype)
        flops, entering = self.macs(genotype), 0
        for _, after, size in self._stem_convs(places):
            flops += entering + 2 * after * size**2
            entering = after * size**2
        for place in places:
            for state in place.inputs():
                size = 2 * place.size if place.older_is_larger and state == 0 else place.size
                flops += place.channels_before[state] * size**2 + 2 * place.channels * place.size**2
            flops += place.costs.passes * place.channels * place.size_out**2
        return flops + places[-1].channels_out * (places[-1].size_out + 1) ** 2

    def canonical(self, genotype: CellPair) -> str:
        """Return the genotype with each cell in the form that its isomorphic cells share.

        Edges and nodes are in one order. An edge that nothing but `none` feeds, or that does not reach the output, is a
        `none` that reads input 0.
        """
        self.validate(genotype)
        pair = CellPair(normal=canonical_cell(genotype.normal), reduce=canonical_cell(genotype.reduce))
        return write_genotype(pair)

    def build(self, genotype: CellPair) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: CellPair) -> Graph:
        return self._draw(genotype).graph()

    @property
    def _stem(self) -> DartsStem:
        if self.shape == _CIFAR:
            return DartsStem(channels=(3 * self.channels,), stride=1)
        return DartsStem(channels=(self.channels // 2, self.channels, self.channels), stride=2)

    def _places(self, genotype: CellPair) -> tuple[PlacedCell, ...]:
        self.validate(genotype)
        return place_cells(genotype, self.cells, self.channels, self._stem, self.resolution)

    def _stem_convs(self, places: Sequence[PlacedCell]) -> Iterator[tuple[int, int, int]]:
        """Yield channels before and after, and the output's height and width, of the stem's convolutions.

        The last one is left out where no cell reads it: the first two cells can read their older input alone.
        """
        stem, before, size = self._stem, 3, self.resolution
        read = {place.index - 2 + state for place in places for state in place.inputs()}
        count = len(stem.channels) if -1 in read or len(stem.channels) == 1 else len(stem.channels) - 1
        for after in stem.channels[:count]:
            size //= stem.stride
            yield before, after, size
            before = after

    def _draw(self, genotype: CellPair) -> BuiltNetwork:
        places = self._places(genotype)
        net = GraphBuilder(self.name)
        x, outputs = net.image_input(3, self.resolution), {}
        for index, (before, after, _) in enumerate(self._stem_convs(places)):
            x = net.relu(x, f"stem.{index}.relu") if index else x
            x = net.conv_bn(x, f"stem.{index}", before, after, kernel=3, stride=self._stem.stride)
            outputs[index - len(self._stem.channels)] = x
        net.declare_block(x)
        outputs.setdefault(-2, x)  # a stem of one convolution is both inputs of the first cell
        has_none = any(place.has_none() for place in places)
        zero = net.constant("zero", np.float32(0)) if has_none else ""
        for place in places:
            x = outputs[place.index] = _cell(net, place, outputs, zero)
            net.declare_block(x)
        output = net.classifier(x, "classifier", places[-1].channels_out, num_classes=self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)


def _sample_cell(rng: np.random.Generator) -> DartsCell:
    edges = [(choose(_SAMPLED, rng), int(source)) for node in NODES for source in rng.choice(node, 2, replace=False)]
    return DartsCell(edges=tuple(edges))


def _mutate_cell(cell: DartsCell, rng: np.random.Generator) -> DartsCell:
    """Give an edge another operation or another input, each with probability 1/2.

    An input is none that the node's other edge reads. The first node has two inputs to choose from, so that its edges
    change their operation.
    """
    edges = list(cell.edges)
    index = int(rng.integers(len(edges)))
    operation, source = edges[index]
    inputs = [other for other in range(NODES[index // 2]) if other not in (source, edges[index ^ 1][1])]
    if inputs and rng.random() < 0.5:
        edges[index] = operation, choose(inputs, rng)
    else:
        edges[index] = choose([other for other in _SAMPLED if other is not operation], rng), source
    return replace(cell, edges=tuple(edges))


def _cell(net: GraphBuilder, place: PlacedCell, outputs: Mapping[int, str], zero: str) -> str:
    """Write a cell: its inputs at one size and width, the sum of two edges for each node, their channels joined."""
    name, channels = f"cells.{place.index}", place.channels
    states: dict[int, str] = {}
    for state in place.inputs():
        x, before = outputs[place.index - 2 + state], place.channels_before[state]
        if place.older_is_larger and state == 0:
            states[state] = _factorized_reduce(net, x, f"{name}.preprocess{state}", before, channels)
        else:
            x = net.relu(x, f"{name}.preprocess{state}.relu")
            states[state] = net.conv_bn(x, f"{name}.preprocess{state}", before, channels, kernel=1)
    for node, edges in place.nodes():
        left, right = (
            _edge(net, states[edge[1]], f"{name}.edges.{node}.{index}", channels, edge, zero)
            for index, edge in enumerate(edges)
        )
        states[node] = net.add(left, right, f"{name}.nodes.{node}")
    parts = [states[node] for node in place.cell.concat]
    return net.node("Concat", *parts, name=name, axis=1) if len(parts) > 1 else parts[0]


def _edge(net: GraphBuilder, x: str, name: str, channels: int, edge: PlacedEdge, zero: str) -> str:
    """Write an operation. A `none` is a product with zero, as in the authors' code, and so keeps its path."""
    operation, _, stride = edge
    if operation in DEPTHWISE:
        return _depthwise_pairs(net, x, name, channels, DEPTHWISE[operation], stride)
    if operation is DartsOperation.SKIP:
        return x if stride == 1 else _factorized_reduce(net, x, name, channels, channels)
    if operation is DartsOperation.NONE:
        x = x if stride == 1 else net.pixels(x, f"{name}.pixels", step=stride)
        return net.node("Mul", x, zero, name=name)
    window = {"kernel_shape": (3, 3), "strides": (stride, stride), "pads": (1,) * 4}
    if operation is DartsOperation.MAX_POOL:
        return net.node("MaxPool", x, name=name, **window)
    return net.node("AveragePool", x, name=name, count_include_pad=0, **window)


def _depthwise_pairs(net: GraphBuilder, x: str, name: str, channels: int, form: Depthwise, stride: int) -> str:
    """Write a separable or a dilated convolution: ReLU, depthwise, pointwise, BatchNorm; the former has two of them."""
    for pair in range(form.times):
        part = f"{name}.{pair}"
        x = net.relu(x, f"{part}.relu")
        x = net.node(
            "Conv",
            x,
            net.weight(f"{part}.depthwise.weight", (channels, 1, form.kernel, form.kernel)),
            name=f"{part}.depthwise",
            kernel_shape=(form.kernel, form.kernel),
            strides=(stride, stride) if pair == 0 else (1, 1),
            dilations=(form.dilation, form.dilation),
            pads=(form.kernel // 2 * form.dilation,) * 4,
            group=channels,
        )
        x = net.conv_bn(x, part, channels, channels, kernel=1)
    return x


def _factorized_reduce(net: GraphBuilder, x: str, name: str, before: int, channels: int) -> str:
    """Write the join of two pointwise convolutions of stride 2: on the even pixels, and on the odd ones."""
    x = net.relu(x, f"{name}.relu")
    even = net.conv(x, f"{name}.even", before, channels // 2, kernel=1, stride=2)
    shifted = net.pixels(x, f"{name}.pixels", start=1)
    odd = net.conv(shifted, f"{name}.odd", before, channels // 2, kernel=1, stride=2)
    return net.batch_norm(net.node("Concat", even, odd, name=f"{name}.concat", axis=1), f"{name}.bn", channels)
