"""The space of NAS-Bench-Macro (Su et al., CVPR 2021), at its CIFAR size."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.inverted_bottleneck import InvertedBottleneck

__all__ = ["MacroLayer", "MacroLayers", "NasBenchMacro"]


class MacroLayer(str, enum.Enum):
    """Choice of a layer, by its digit in the notation."""

    IDENTITY = "0"
    MB3_K3 = "1"
    MB6_K5 = "2"


_CHOICES = tuple(MacroLayer)
_EXPANSION_KERNEL = {MacroLayer.MB3_K3: (3, 3), MacroLayer.MB6_K5: (6, 5)}
_STAGES = (2, 3, 3)  # layers of each; the first one halves the resolution and doubles the width
_STRIDES = tuple(2 if layer == 0 else 1 for layers in _STAGES for layer in range(layers))
_STEM_CHANNELS = 32
_LAST_CHANNELS: int = _STEM_CHANNELS * 2 ** len(_STAGES)
_HEAD_CHANNELS = 1280
_NOTATION = re.compile(f"[{''.join(_CHOICES)}]{{{len(_STRIDES)}}}")
_EXAMPLE = "01120212"


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroLayers:
    """A genotype: the choices of the eight layers, from the input to the output."""

    layers: tuple[MacroLayer, ...]

    def __post_init__(self) -> None:
        if len(self.layers) != len(_STRIDES) or not all(isinstance(layer, MacroLayer) for layer in self.layers):
            raise GenotypeError(f"a genotype of nb-macro has {len(_STRIDES)} layers, not {quote(repr(self.layers))}")


class NasBenchMacro(Space[MacroLayers]):
    """NAS-Bench-Macro: eight layers, each an identity or one of two inverted bottlenecks; 6,561 genotypes.

    The notation is the benchmark's own, a digit a layer: 0 identity, 1 expansion 3 and kernel 3, 2 expansion 6 and
    kernel 5. Layers 1, 3 and 6 halve the resolution and double the width; there an identity is a 1x1 convolution and
    BatchNorm. :meth:`sample` samples every digit uniformly. A change of :meth:`mutate` gives a layer another digit;
    several changes affect different layers.

    Layers, for a budget, are the stem, the layers that are more than their input, and the head. Primary blocks are the
    outputs of the same. The benchmark's FLOPs are :meth:`macs`.
    """

    name = "nb-macro"
    default_resolution = 32
    default_num_classes = 10

    def sample(self, rng: np.random.Generator) -> MacroLayers:
        return MacroLayers(layers=tuple(choose(_CHOICES, rng) for _ in _STRIDES))

    def mutate(self, genotype: MacroLayers, rng: np.random.Generator, changes: int = 1) -> MacroLayers:
        self.validate(genotype)
        layers = list(genotype.layers)
        for index in rng.choice(len(layers), size=min(changes, len(layers)), replace=False):
            layers[index] = choose([other for other in _CHOICES if other is not layers[index]], rng)
        return MacroLayers(layers=tuple(layers))

    def parse(self, text: str) -> MacroLayers:
        text = text.strip()
        if not _NOTATION.fullmatch(text):
            raise GenotypeError(
                f"{quote(text)} is not a NAS-Bench-Macro network: eight digits 0, 1, 2 as in {_EXAMPLE}"
            )
        return MacroLayers(layers=tuple(map(MacroLayer, text)))

    def format(self, genotype: MacroLayers) -> str:
        self.validate(genotype)
        return "".join(layer.value for layer in genotype.layers)

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, MacroLayers):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of nb-macro is a MacroLayers, not {found}; parse() reads its notation")

    def macs(self, genotype: MacroLayers) -> int:
        self.validate(genotype)
        size = self.resolution
        macs = 27 * _STEM_CHANNELS * size**2
        for _, block in _blocks(genotype):
            macs += block.macs(size)
            size = block.size_after(size)
        return macs + _LAST_CHANNELS * _HEAD_CHANNELS * size**2 + _HEAD_CHANNELS * self.num_classes

    def params(self, genotype: MacroLayers) -> int:
        self.validate(genotype)
        stem, head = (27 + 2) * _STEM_CHANNELS, (_LAST_CHANNELS + 2) * _HEAD_CHANNELS
        blocks = sum(block.params for _, block in _blocks(genotype))
        return stem + blocks + head + (_HEAD_CHANNELS + 1) * self.num_classes

    def layers(self, genotype: MacroLayers) -> int:
        self.validate(genotype)
        return 2 + sum(1 for _ in _blocks(genotype))

    def paper_flops(self, genotype: MacroLayers) -> int:
        return self.macs(genotype)

    def canonical(self, genotype: MacroLayers) -> str:
        """Return the genotype with the identities of each stage after its other layers; a first layer stays in place.

        An identity that is not the first layer of its stage is its input, so its place has no effect. This leaves the
        3,969 networks that the authors trained; the others have the values of these.
        """
        text, start = self.format(genotype), 0
        parts = []
        for layers in _STAGES:
            first, rest = text[start], text[start + 1 : start + layers]
            parts.append(first + rest.replace(MacroLayer.IDENTITY, "").ljust(len(rest), MacroLayer.IDENTITY))
            start += layers
        return "".join(parts)

    def build(self, genotype: MacroLayers) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: MacroLayers) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: MacroLayers) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name)
        x = net.image_input(3, self.resolution)
        x = net.relu(net.conv_bn(x, "stem", 3, _STEM_CHANNELS, kernel=3), "stem.relu")
        net.declare_block(x)
        for index, block in _blocks(genotype):
            x = block.write(net, x, f"features.{index}")
            net.declare_block(x)
        x = net.relu(net.conv_bn(x, "head", _LAST_CHANNELS, _HEAD_CHANNELS, kernel=1), "head.relu")
        net.declare_block(x)
        output = net.classifier(x, "classifier", _HEAD_CHANNELS, num_classes=self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Downsampling:
    """The identity of a layer that changes the shape: a 1x1 convolution of stride 2 and a BatchNorm."""

    in_channels: int

    @property
    def params(self) -> int:
        return (self.in_channels + 2) * 2 * self.in_channels

    def size_after(self, size: int) -> int:
        return -(-size // 2)

    def macs(self, size: int) -> int:
        return 2 * self.in_channels**2 * self.size_after(size) ** 2

    def write(self, net: GraphBuilder, x: str, name: str) -> str:
        return net.conv_bn(x, f"{name}.downsample", self.in_channels, 2 * self.in_channels, kernel=1, stride=2)


def _blocks(genotype: MacroLayers) -> Iterator[tuple[int, InvertedBottleneck | _Downsampling]]:
    """Yield the layers that are more than their input, with their index."""
    channels = _STEM_CHANNELS
    for index, (layer, stride) in enumerate(zip(genotype.layers, _STRIDES, strict=True)):
        if layer in _EXPANSION_KERNEL:
            expansion, kernel = _EXPANSION_KERNEL[layer]
            yield (
                index,
                InvertedBottleneck(
                    in_channels=channels,
                    out_channels=channels * stride,
                    expansion=expansion,
                    kernel=kernel,
                    stride=stride,
                ),
            )
        elif stride > 1:
            yield index, _Downsampling(in_channels=channels)
        channels *= stride
