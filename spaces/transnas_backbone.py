"""What both spaces of TransNAS-Bench-101 (Duan et al., CVPR 2021) share: the backbone around their blocks."""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import onnx

from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import Space
from aznas_onnx.spaces.dense_cell import relu_conv_bn

__all__ = ["BackboneBlock", "BackboneModule", "BlockConvolution", "TransNasSpace"]

G = TypeVar("G", bound=Hashable)

_STEM_CHANNELS = (32, 64)  # of its two convolutions
_BLOCKS = 2  # in a module


class BackboneModule(enum.IntEnum):
    """What a module does in its first block, by its digit in the notation."""

    PLAIN = 1
    WIDEN = 2  # it doubles the channels
    SHRINK = 3  # it halves the resolution
    WIDEN_AND_SHRINK = 4

    @property
    def widens(self) -> bool:
        """Whether it doubles the channels."""
        return self in (BackboneModule.WIDEN, BackboneModule.WIDEN_AND_SHRINK)

    @property
    def shrinks(self) -> bool:
        """Whether it halves the resolution."""
        return self in (BackboneModule.SHRINK, BackboneModule.WIDEN_AND_SHRINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneBlock:
    """A block of the backbone: its channels, stride, and the height and width of its input and output."""

    name: str
    before: int
    channels: int
    stride: int
    entering: int
    size: int

    @property
    def is_plain(self) -> bool:
        """Whether its output has the shape of its input."""
        return self.stride == 1 and self.before == self.channels


class BlockConvolution(NamedTuple):
    """A convolution of a block, which a BatchNorm follows: its weights, and the elements of the ReLU before it."""

    weights: int
    rectified: int


class TransNasSpace(Space[G]):
    """The backbone with the classifier of the benchmark's tasks `class_object` and `class_scene`.

    A subclass says what the modules of a genotype are, and what is in a block.
    """

    default_resolution = 64
    default_num_classes = 75

    @abstractmethod
    def _modules(self, genotype: G) -> Sequence[BackboneModule]:
        """Return the modules of the backbone."""

    @abstractmethod
    def _convolutions(self, genotype: G, block: BackboneBlock) -> Iterable[BlockConvolution]:
        """Yield the convolutions of a block; the output of each has the shape of the block's output."""

    @abstractmethod
    def _write_block(self, net: GraphBuilder, x: str, genotype: G, block: BackboneBlock) -> str:
        """Write a block, and return its output."""

    def _write_constants(self, net: GraphBuilder, genotype: G) -> None:
        """Write what all blocks share."""

    def macs(self, genotype: G) -> int:
        self.validate(genotype)
        (first, second), sizes = _STEM_CHANNELS, self._stem_sizes()
        macs = 27 * first * sizes[0] ** 2 + 9 * first * second * sizes[1] ** 2
        channels = second
        for block in self._blocks(genotype):
            channels = block.channels
            macs += sum(one.weights for one in self._convolutions(genotype, block)) * block.size**2
        return macs + channels * self.num_classes

    def params(self, genotype: G) -> int:
        self.validate(genotype)
        first, second = _STEM_CHANNELS
        params = (27 + 2) * first + (9 * first + 2) * second
        channels = second
        for block in self._blocks(genotype):
            channels = block.channels
            params += sum(one.weights + 2 * channels for one in self._convolutions(genotype, block))
        return params + (channels + 1) * self.num_classes

    def paper_flops(self, genotype: G) -> int:
        """Return the count of NAS-Bench-Suite-Zero, which has normalisation, ReLU and pooling besides the MACs."""
        (first, channels), (half, size) = _STEM_CHANNELS, self._stem_sizes()
        flops = self.macs(genotype) + 3 * first * half**2 + 2 * channels * size**2
        for block in self._blocks(genotype):
            channels, size = block.channels, block.size
            flops += sum(2 * channels * size**2 + one.rectified for one in self._convolutions(genotype, block))
        return flops + channels * (size + 1) ** 2

    def layers(self, genotype: G) -> int:
        self.validate(genotype)
        return 1 + _BLOCKS * len(self._modules(genotype))

    def build(self, genotype: G) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: G) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: G) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name)
        (first, channels), image = _STEM_CHANNELS, net.image_input(3, self.resolution)
        x = net.conv_bn(image, "stem.0", 3, first, kernel=3, stride=2)
        x = relu_conv_bn(net, x, "stem.1", first, channels, kernel=3, stride=2)
        net.declare_block(x)
        self._write_constants(net, genotype)
        for block in self._blocks(genotype):
            x, channels = self._write_block(net, x, genotype, block), block.channels
            net.declare_block(x)
        output = net.classifier(x, "classifier", channels, num_classes=self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    def _stem_sizes(self) -> tuple[int, int]:
        half = _halved(self.resolution)
        return half, _halved(half)

    def _blocks(self, genotype: G) -> Iterator[BackboneBlock]:
        channels, size = _STEM_CHANNELS[-1], self._stem_sizes()[-1]
        for index, module in enumerate(self._modules(genotype)):
            before, channels = channels, channels * (2 if module.widens else 1)
            entering, size = size, _halved(size) if module.shrinks else size
            stride = 2 if module.shrinks else 1
            for position in range(_BLOCKS):
                yield BackboneBlock(
                    name=f"layer{index}.{position}",
                    before=before,
                    channels=channels,
                    stride=stride,
                    entering=entering,
                    size=size,
                )
                before, stride, entering = channels, 1, size


def _halved(size: int) -> int:
    """Return the size behind a convolution with stride 2: half, rounded up."""
    return (size + 1) // 2
