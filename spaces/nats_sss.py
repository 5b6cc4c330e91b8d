"""The size space of NATS-Bench (Dong et al., TPAMI 2021): the widths of a network whose wiring is fixed."""

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
from aznas_onnx.spaces.nats_network import Operation, draw_cell, draw_head, draw_reduction, draw_stem

__all__ = ["LayerWidths", "NatsBenchSize"]

_WIDTHS = tuple(range(8, 65, 8))
_LAYERS = 5
_REDUCTIONS = (1, 3)  # the other layers are cells
_OPERATIONS = (
    Operation.CONV_3X3,  # 0-1
    Operation.CONV_3X3,  # 0-2
    Operation.CONV_3X3,  # 1-2
    Operation.SKIP,  # 0-3
    Operation.CONV_3X3,  # 1-3
    Operation.CONV_3X3,  # 2-3
)
_NOTATION = re.compile(r"[1-9]\d?(?::[1-9]\d?){4}")


@dataclass(frozen=True, slots=True)
class LayerWidths:
    """A genotype: the output channels of the five layers, 8 to 64 by 8; the stem has those of the first."""

    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.channels) != _LAYERS or any(width not in _WIDTHS for width in self.channels):
            raise GenotypeError(
                f"a genotype of nats-sss has {_LAYERS} widths of {_WIDTHS[0]} to {_WIDTHS[-1]} by 8, "
                f"such as 8:16:32:48:64, not {quote(':'.join(map(str, self.channels)))}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _SizedLayer:
    """A cell or a reduction; `size` is the height and width of its output."""

    reduces: bool
    before: int
    channels: int
    size: int

    @property
    def weights(self) -> int:
        """Weights of its convolutions; each is used once for each output position."""
        before, channels = self.before, self.channels
        if self.reduces:
            return (9 * before + 9 * channels + before) * channels
        return (18 * before + 27 * channels + (before if self._projects else 0)) * channels

    @property
    def norms(self) -> int:
        """Number of BatchNorms, each with two parameters for each channel."""
        return 2 if self.reduces else 5 + self._projects

    @property
    def _projects(self) -> bool:
        return self.before != self.channels


class NatsBenchSize(Space[LayerWidths]):
    """NATS-Bench's size space: five layers with widths of 8 to 64; 32,768 genotypes.

    The notation is the benchmark's own, ``8:16:32:48:64``. The layers are cell, reduction, cell, reduction, cell. The
    cell is always that of NAS-Bench-201 which is most accurate on CIFAR-100; where its input has another width, its
    skip is a 1x1 convolution with BatchNorm and without ReLU. :meth:`sample` samples every width uniformly. A change of
    :meth:`mutate` gives a layer another width; several changes affect different layers. Layers are the five and the
    stem, for every genotype.

    Primary blocks are the output of the stem and of the five layers.
    """

    name = "nats-sss"
    default_resolution = 32
    default_num_classes = 10

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if self.resolution % 4:  # a reduction's pooling would round down where its convolution rounds up
            raise SettingsError(f"space 'nats-sss': resolution is {self.resolution}; a multiple of 4 is needed")

    def sample(self, rng: np.random.Generator) -> LayerWidths:
        return LayerWidths(tuple(choose(_WIDTHS, rng) for _ in range(_LAYERS)))

    def mutate(self, genotype: LayerWidths, rng: np.random.Generator, changes: int = 1) -> LayerWidths:
        self.validate(genotype)
        channels = list(genotype.channels)
        for layer in rng.choice(_LAYERS, size=min(changes, _LAYERS), replace=False):
            channels[layer] = choose([other for other in _WIDTHS if other != channels[layer]], rng)
        return LayerWidths(tuple(channels))

    def parse(self, text: str) -> LayerWidths:
        text = text.strip()
        if not _NOTATION.fullmatch(text):
            raise GenotypeError(f"{quote(text)} is not five widths such as 8:16:32:48:64")
        return LayerWidths(tuple(map(int, text.split(":"))))

    def format(self, genotype: LayerWidths) -> str:
        self.validate(genotype)
        return ":".join(map(str, genotype.channels))

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, LayerWidths):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of nats-sss is LayerWidths, not {found}; parse() reads its notation")

    def macs(self, genotype: LayerWidths) -> int:
        layers = self._layers(genotype)
        ends = 27 * genotype.channels[0] * self.resolution**2 + genotype.channels[-1] * self.num_classes
        return ends + sum(layer.weights * layer.size**2 for layer in layers)

    def params(self, genotype: LayerWidths) -> int:
        layers = self._layers(genotype)
        first, last = genotype.channels[0], genotype.channels[-1]
        ends = (27 + 2) * first + 2 * last + (last + 1) * self.num_classes
        return ends + sum(layer.weights + 2 * layer.norms * layer.channels for layer in layers)

    def layers(self, genotype: LayerWidths) -> int:
        self.validate(genotype)
        return 1 + _LAYERS

    def paper_flops(self, genotype: LayerWidths) -> int:
        return self.macs(genotype) + self.num_classes  # the authors count the classifier's bias

    def build(self, genotype: LayerWidths) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: LayerWidths) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: LayerWidths) -> BuiltNetwork:
        layers = self._layers(genotype)
        net = GraphBuilder(self.name)
        x = draw_stem(net, self.resolution, genotype.channels[0])
        net.declare_block(x)
        for index, layer in enumerate(layers):
            name = f"cells.{index}"
            if layer.reduces:
                x = draw_reduction(net, x, name, layer.before, layer.channels)
            else:
                x = draw_cell(net, x, name, layer.before, layer.channels, _OPERATIONS)
            net.declare_block(x)
        output = draw_head(net, x, genotype.channels[-1], self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    def _layers(self, genotype: LayerWidths) -> tuple[_SizedLayer, ...]:
        self.validate(genotype)
        layers = []
        before, size = genotype.channels[0], self.resolution
        for index, channels in enumerate(genotype.channels):
            reduces = index in _REDUCTIONS
            size //= 2 if reduces else 1
            layers.append(_SizedLayer(reduces=reduces, before=before, channels=channels, size=size))
            before = channels
        return tuple(layers)
