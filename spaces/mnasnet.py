"""The MnasNet (EfficientNet) space of Accel-NASBench (Ahmad et al., DAC 2024), at its ImageNet size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from aznas_onnx.caches import cached
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.inverted_bottleneck import InvertedBottleneck

__all__ = ["MnasNet", "MobileStage", "MobileStages"]

_CHANNELS = (32, 16, 24, 40, 80, 112, 192, 320)  # of the stem and the seven stages
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_STEM_STRIDE = 2
_HEAD_CHANNELS = 4 * _CHANNELS[-1]
_SQUEEZE_DIVISOR = 4  # of the width of a block's input
_BATCHNORM_OPERATIONS = 4  # for each element, as the authors count

_THREE_LAYERS: dict[str, tuple[int, ...]] = {
    "expansion": (1, 4, 6),
    "kernel": (3, 5),
    "layers": (1, 2, 3),
    "squeeze_excitation": (False, True),
}
_FOUR_LAYERS = {**_THREE_LAYERS, "layers": (1, 2, 3, 4)}
_CHOICES = (*[_THREE_LAYERS] * 5, _FOUR_LAYERS, _THREE_LAYERS)
_GENES = tuple((stage, gene) for stage, choices in enumerate(_CHOICES) for gene in choices)

_STAGE = re.compile(r"e([0-9])k([0-9])l([0-9])s([01])")
_START = "e1k3l1s0_e6k3l2s0_e4k5l3s1_e6k3l3s0_e6k3l2s1_e6k5l3s1_e6k3l1s0"


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileStage:
    """``e{expansion}k{kernel}l{layers}s{squeeze_excitation}``: equal inverted bottlenecks."""

    expansion: int
    kernel: int
    layers: int
    squeeze_excitation: bool

    def __str__(self) -> str:
        return f"e{self.expansion}k{self.kernel}l{self.layers}s{int(self.squeeze_excitation)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileStages:
    """A genotype: the seven stages, from the input to the output."""

    stages: tuple[MobileStage, ...]

    def __post_init__(self) -> None:
        if len(self.stages) != len(_CHOICES) or not all(isinstance(stage, MobileStage) for stage in self.stages):
            raise GenotypeError(f"a genotype of mnasnet has {len(_CHOICES)} stages, not {quote(repr(self.stages))}")
        for number, (stage, choices) in enumerate(zip(self.stages, _CHOICES, strict=True), 1):
            for gene, accepted in choices.items():
                value = getattr(stage, gene)
                if value not in accepted or type(value) is not type(accepted[0]):
                    known = ", ".join(map(str, accepted))
                    raise GenotypeError(f"stage {number} of mnasnet has {gene} {value!r}; accepted are {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageCost:
    """Cost of a stage, and how many operations the authors count beside the multiply-adds."""

    macs: int
    params: int
    further_operations: int


class MnasNet(Space[MobileStages]):
    """MnasNet's seven stages of inverted bottlenecks with the widths and strides of EfficientNet-B0; 1e11 networks.

    The notation is a stage after the other, ``e6k3l2s0_...``: expansion 1, 4, 6; kernel 3, 5; 1 to 3 layers (4 in
    the sixth stage); squeeze-and-excitation 0, 1. :meth:`sample` samples all of them uniformly, as the authors do. A
    change of :meth:`mutate` gives one of these 28 values of a network another value; several changes affect different
    ones. :meth:`start` is the network of this space nearest to MnasNet-A1.

    As in the benchmark, activations are ReLU, and squeeze-and-excitation, a quarter as wide as the block's input, ends
    with a hard sigmoid. Stochastic depth and dropout are left out.

    Layers, for a budget, are the stem, all bottlenecks, and the head. Primary blocks are the outputs of the same.
    """

    name = "mnasnet"

    def sample(self, rng: np.random.Generator) -> MobileStages:
        return MobileStages(
            stages=tuple(
                MobileStage(**{gene: choose(values, rng) for gene, values in choices.items()})  # type: ignore[arg-type]
                for choices in _CHOICES
            )
        )

    def start(self, rng: np.random.Generator) -> MobileStages:
        return self.parse(_START)

    def mutate(self, genotype: MobileStages, rng: np.random.Generator, changes: int = 1) -> MobileStages:
        self.validate(genotype)
        stages = list(genotype.stages)
        for index in rng.choice(len(_GENES), size=min(changes, len(_GENES)), replace=False):
            stage, gene = _GENES[index]
            present = getattr(stages[stage], gene)
            change: dict[str, Any] = {gene: choose([other for other in _CHOICES[stage][gene] if other != present], rng)}
            stages[stage] = replace(stages[stage], **change)
        return MobileStages(stages=tuple(stages))

    def parse(self, text: str) -> MobileStages:
        matches = [_STAGE.fullmatch(part) for part in text.strip().split("_")]
        found = [match for match in matches if match is not None]
        if len(found) != len(matches) or len(found) != len(_CHOICES):
            raise GenotypeError(f"{quote(text)} is not seven stages of mnasnet such as {_START}")
        return MobileStages(
            stages=tuple(
                MobileStage(
                    expansion=int(match[1]),
                    kernel=int(match[2]),
                    layers=int(match[3]),
                    squeeze_excitation=match[4] == "1",
                )
                for match in found
            )
        )

    def format(self, genotype: MobileStages) -> str:
        self.validate(genotype)
        return "_".join(map(str, genotype.stages))

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, MobileStages):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of mnasnet is a MobileStages, not {found}; parse() reads its notation")

    def macs(self, genotype: MobileStages) -> int:
        stem, head = self._end_sizes
        macs = 27 * _CHANNELS[0] * stem**2 + _CHANNELS[-1] * _HEAD_CHANNELS * head**2
        return macs + sum(cost.macs for cost in self._costs(genotype)) + _HEAD_CHANNELS * self.num_classes

    def params(self, genotype: MobileStages) -> int:
        params = (27 + 2) * _CHANNELS[0] + (_CHANNELS[-1] + 2) * _HEAD_CHANNELS
        return params + sum(cost.params for cost in self._costs(genotype)) + (_HEAD_CHANNELS + 1) * self.num_classes

    def layers(self, genotype: MobileStages) -> int:
        self.validate(genotype)
        return 2 + sum(stage.layers for stage in genotype.stages)

    def paper_flops(self, genotype: MobileStages) -> int:
        """Return the authors' count, which is that of the package thop.

        To the multiply-adds it adds four operations for each output element of a BatchNorm, and for average pooling
        one for each element of its input and of its output.
        """
        stem, head = self._end_sizes
        further = _BATCHNORM_OPERATIONS * (_CHANNELS[0] * stem**2 + _HEAD_CHANNELS * head**2)
        further += _HEAD_CHANNELS * (head**2 + 1)
        return self.macs(genotype) + further + sum(cost.further_operations for cost in self._costs(genotype))

    def build(self, genotype: MobileStages) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: MobileStages) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: MobileStages) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name)
        x = net.image_input(3, self.resolution)
        x = net.relu(net.conv_bn(x, "stem", 3, _CHANNELS[0], kernel=3, stride=_STEM_STRIDE), "stem.relu")
        net.declare_block(x)
        for index, stage in enumerate(genotype.stages):
            for layer, block in enumerate(_bottlenecks(index, stage)):
                x = block.write(net, x, f"stages.{index}.{layer}")
                net.declare_block(x)
        x = net.relu(net.conv_bn(x, "head", _CHANNELS[-1], _HEAD_CHANNELS, kernel=1), "head.relu")
        net.declare_block(x)
        output = net.classifier(x, "classifier", _HEAD_CHANNELS, num_classes=self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    @property
    def _end_sizes(self) -> tuple[int, int]:
        """Resolution of the outputs of stem and head."""
        size = stem = -(-self.resolution // _STEM_STRIDE)
        for stride in _STRIDES:
            size = -(-size // stride)
        return stem, size

    def _costs(self, genotype: MobileStages) -> Iterator[_StageCost]:
        self.validate(genotype)
        size, _ = self._end_sizes
        for index, stage in enumerate(genotype.stages):
            yield _cost(index, stage, size)
            size = -(-size // _STRIDES[index])


def _bottlenecks(index: int, stage: MobileStage) -> Iterator[InvertedBottleneck]:
    channels, stride = _CHANNELS[index], _STRIDES[index]
    for _ in range(stage.layers):
        yield InvertedBottleneck(
            in_channels=channels,
            out_channels=_CHANNELS[index + 1],
            expansion=stage.expansion,
            kernel=stage.kernel,
            stride=stride,
            squeeze_channels=channels // _SQUEEZE_DIVISOR if stage.squeeze_excitation else 0,
        )
        channels, stride = _CHANNELS[index + 1], 1


@cached(4096, "at one resolution 264 different stages make all networks")
def _cost(index: int, stage: MobileStage, size: int) -> _StageCost:
    macs = params = further = 0
    for block in _bottlenecks(index, stage):
        macs += block.macs(size)
        params += block.params
        further += _BATCHNORM_OPERATIONS * block.normalised(size)
        size = block.size_after(size)
        if block.squeeze_channels:
            further += block.hidden * (size**2 + 1)
    return _StageCost(macs=macs, params=params, further_operations=further)
