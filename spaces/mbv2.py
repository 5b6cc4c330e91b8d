"""The MobileNetV2 space of ZenNAS (Lin et al., ICCV 2021), which AZ-NAS searches for ImageNet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx

from aznas_onnx.caches import cached
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.building import quote

__all__ = ["Backbone", "ConvBlock", "InvertedBlock", "MobileNetV2"]

_START = (
    "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperResIDWE6K3(32,48,2,32,1)"
    "SuperResIDWE6K3(48,96,2,48,1)SuperResIDWE6K3(96,128,2,96,1)SuperConvK1BNRELU(128,2048,1,1)"
)
_EXPANSIONS = (1, 2, 4, 6)
_KERNELS = (3, 5, 7)
_STRIDES = (1, 2)
_WIDTH_FACTORS = (1.25, 1.5, 2, 2.5)  # or their inverses
_REPEAT_CHANGES = (-2, -1, 0, 1, 2)
_SPLIT_AT = 6  # pairs
_WIDTH_UNIT = 8
_HEAD_CHANNELS = 2048
_EPSILON = 1e-3
_MAX_WIDTH = 2**15  # above any budget; bounds the graph of an external genotype
_MAX_REPEATS = 64
_SAMPLE_STEPS = 16
_SUPER_BLOCK = re.compile(
    r"SuperConvK(?P<conv_kernel>\d+)BNRELU\((?P<conv>\d+(?:,\d+){3})\)"
    r"|SuperResIDWE(?P<expansion>\d+)K(?P<kernel>\d+)\((?P<inverted>\d+(?:,\d+){4})\)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvBlock:
    """``SuperConvK{kernel}BNRELU(in_channels,out_channels,stride,repeats)``: convolution, BatchNorm, ReLU, repeated."""

    kernel: int
    in_channels: int
    out_channels: int
    stride: int
    repeats: int

    def __str__(self) -> str:
        sizes = f"{self.in_channels},{self.out_channels},{self.stride},{self.repeats}"
        return f"SuperConvK{self.kernel}BNRELU({sizes})"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedBlock:
    """``SuperResIDWE{expansion}K{kernel}(in_channels,out_channels,stride,bottleneck,repeats)``: pairs of residuals."""

    expansion: int
    kernel: int
    in_channels: int
    out_channels: int
    stride: int
    bottleneck: int
    repeats: int

    def __str__(self) -> str:
        sizes = f"{self.in_channels},{self.out_channels},{self.stride},{self.bottleneck},{self.repeats}"
        return f"SuperResIDWE{self.expansion}K{self.kernel}({sizes})"


SuperBlock: TypeAlias = "ConvBlock | InvertedBlock"


@dataclass(frozen=True, slots=True)
class Backbone:
    """A genotype: super-blocks from the stem to the head."""

    blocks: tuple[SuperBlock, ...]

    def __post_init__(self) -> None:
        _check_ends(self.blocks)
        channels = 3
        for block in self.blocks:
            if block.in_channels != channels:
                raise GenotypeError(
                    f"{block} takes {block.in_channels} channels, but what is before it gives {channels}"
                )
            _check_block(block)
            channels = block.out_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Residual:
    """One inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection, and a shortcut."""

    in_channels: int
    hidden: int
    out_channels: int
    kernel: int
    stride: int
    projects: bool  # whether the shortcut is a convolution and BatchNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """Cost of a super-block, and its output resolution in the graph and in the authors' count."""

    macs: int
    params: int
    flops: int
    size: int
    paper_size: int


class MobileNetV2(Space[Backbone]):
    """Inverted residuals with free widths, kernels, expansions and depths, in the notation of ZenNAS.

    :meth:`mutate` follows ZenNAS: each change picks one super-block, and a super-block picked twice changes once. An
    inverted super-block gets any kernel and expansion, new widths and a new number of pairs, each sampled uniformly
    from its distinct values, the present one included; the stem gets a new width; the head does not change, so a
    mutation can return its parent. Super-blocks of six or more pairs are then split into two of three, whatever their
    number was.

    ZenNAS has no distribution to sample from. :meth:`sample` takes a random walk from the start of the search: one
    to 16 mutations of two super-blocks.

    Layers are the repeats of all super-blocks, stem and head included. Primary blocks are the stem, every residual
    after its ReLU, and the head.
    """

    name = "mbv2"

    def sample(self, rng: np.random.Generator) -> Backbone:
        genotype = self.start(rng)
        for _ in range(rng.integers(1, _SAMPLE_STEPS, endpoint=True)):
            genotype = self.mutate(genotype, rng, changes=2)
        return genotype

    def start(self, rng: np.random.Generator) -> Backbone:
        return self.parse(_START)

    def mutate(self, genotype: Backbone, rng: np.random.Generator, changes: int = 1) -> Backbone:
        self.validate(genotype)
        blocks = list(genotype.blocks)
        for index in dict.fromkeys(rng.integers(len(blocks), size=changes).tolist()):
            blocks[index] = _mutate_block(blocks[index], rng)
        chained: list[SuperBlock] = []
        channels = blocks[0].in_channels
        for block in blocks:
            chained.extend(_split(replace(block, in_channels=channels)))
            channels = block.out_channels
        return Backbone(tuple(chained))

    def parse(self, text: str) -> Backbone:
        text = "".join(text.split())
        blocks: list[SuperBlock] = []
        position = 0
        while position < len(text) or not blocks:
            match = _SUPER_BLOCK.match(text, position)
            if match is None:
                found = quote(text[position:])
                raise GenotypeError(
                    f"no super-block of the mbv2 space begins at {found} (after {position} characters); accepted are "
                    "SuperConvK3BNRELU(in,out,stride,n) and SuperResIDWE6K3(in,out,stride,bottleneck,n)"
                )
            blocks.append(_parse_block(match))
            position = match.end()
        return Backbone(tuple(blocks))

    def format(self, genotype: Backbone) -> str:
        self.validate(genotype)
        return "".join(map(str, genotype.blocks))

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, Backbone):
            raise GenotypeError(
                f"a genotype of mbv2 is a Backbone, not {type(genotype).__name__}; parse() reads its notation"
            )

    def macs(self, genotype: Backbone) -> int:
        return sum(cost.macs for cost in self._costs(genotype)) + _HEAD_CHANNELS * self.num_classes

    def params(self, genotype: Backbone) -> int:
        return sum(cost.params for cost in self._costs(genotype)) + (_HEAD_CHANNELS + 1) * self.num_classes

    def layers(self, genotype: Backbone) -> int:
        self.validate(genotype)
        return sum(block.repeats for block in genotype.blocks)

    def paper_flops(self, genotype: Backbone) -> int:
        return sum(cost.flops for cost in self._costs(genotype)) + _HEAD_CHANNELS * self.num_classes

    def build(self, genotype: Backbone) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: Backbone) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: Backbone) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name)
        x = net.image_input(3, self.resolution)
        for index, block in enumerate(genotype.blocks):
            x = _write(net, x, f"blocks.{index}", block)
        output = net.classifier(x, "classifier", _HEAD_CHANNELS, num_classes=self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    def _costs(self, genotype: Backbone) -> Iterator[_Cost]:
        self.validate(genotype)
        size = paper_size = self.resolution
        for block in genotype.blocks:
            cost = _cost(block, size, paper_size)
            yield cost
            size, paper_size = cost.size, cost.paper_size


def _parse_block(match: re.Match[str]) -> SuperBlock:
    if match["conv"]:
        before, after, stride, repeats = map(_small_int, match["conv"].split(","))
        kernel = _small_int(match["conv_kernel"])
        return ConvBlock(kernel=kernel, in_channels=before, out_channels=after, stride=stride, repeats=repeats)
    before, after, stride, bottleneck, repeats = map(_small_int, match["inverted"].split(","))
    return InvertedBlock(
        expansion=_small_int(match["expansion"]),
        kernel=_small_int(match["kernel"]),
        in_channels=before,
        out_channels=after,
        stride=stride,
        bottleneck=bottleneck,
        repeats=repeats,
    )


def _small_int(digits: str) -> int:
    if len(digits) > 9:
        raise GenotypeError(f"{digits[:12]}... is too large for a width, kernel, stride or repeat of the mbv2 space")
    return int(digits)


def _check_ends(blocks: Sequence[SuperBlock]) -> None:
    if len(blocks) < 3 or not isinstance(blocks[0], ConvBlock) or not isinstance(blocks[-1], ConvBlock):
        raise GenotypeError(
            "a genotype of mbv2 has a SuperConv (the stem), one or more SuperResIDW, and a SuperConv (the head), "
            f"unlike {quote(''.join(map(str, blocks)))}"
        )
    wrong = next((block for block in blocks[1:-1] if not isinstance(block, InvertedBlock)), None)
    if wrong is not None:
        raise GenotypeError(f"{wrong} lies between stem and head, where the mbv2 space has SuperResIDW only")
    stem, head = blocks[0], blocks[-1]
    if stem.kernel not in _KERNELS:
        raise GenotypeError(f"{stem} is no stem of the mbv2 space; its kernel is one of {_KERNELS}")
    if (head.kernel, head.out_channels, head.stride, head.repeats) != (1, _HEAD_CHANNELS, 1, 1):
        expected = ConvBlock(kernel=1, in_channels=head.in_channels, out_channels=_HEAD_CHANNELS, stride=1, repeats=1)
        raise GenotypeError(f"{head} is not the head of the mbv2 space, which never changes: {expected}")


def _check_block(block: SuperBlock) -> None:
    if block.stride not in _STRIDES:
        raise GenotypeError(f"{block} has stride {block.stride}; accepted are {_listed(_STRIDES)}")
    if not 1 <= block.repeats <= _MAX_REPEATS:
        raise GenotypeError(f"{block} is repeated {block.repeats} times; accepted are 1 to {_MAX_REPEATS}")
    _check_width(block, block.out_channels)
    if isinstance(block, ConvBlock):
        return
    _check_width(block, block.bottleneck)
    if block.expansion not in _EXPANSIONS:
        raise GenotypeError(f"{block} has expansion {block.expansion}; accepted are {_listed(_EXPANSIONS)}")
    if block.kernel not in _KERNELS:
        raise GenotypeError(f"{block} has kernel {block.kernel}; accepted are {_listed(_KERNELS)}")


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _check_width(block: SuperBlock, width: int) -> None:
    if width % _WIDTH_UNIT or not _WIDTH_UNIT <= width <= _MAX_WIDTH:
        raise GenotypeError(f"{block} has width {width}; accepted are multiples of {_WIDTH_UNIT} up to {_MAX_WIDTH}")


def _mutate_block(block: SuperBlock, rng: np.random.Generator) -> SuperBlock:
    if isinstance(block, ConvBlock):
        return block if block.kernel == 1 else replace(block, out_channels=choose(_widths(block.out_channels), rng))
    repeats = [block.repeats + change for change in _REPEAT_CHANGES if block.repeats + change >= 1]
    return replace(
        block,
        expansion=choose(_EXPANSIONS, rng),
        kernel=choose(_KERNELS, rng),
        out_channels=choose(_widths(block.out_channels), rng),
        bottleneck=choose(_widths(block.bottleneck), rng),
        repeats=choose(repeats, rng),
    )


@cached(4096, "a mutation needs few widths")
def _widths(width: int) -> tuple[int, ...]:
    scaled = [width, *(width * factor for factor in _WIDTH_FACTORS), *(width / factor for factor in _WIDTH_FACTORS)]
    # Halves round to even, as Python's round does in ZenNAS.
    rounded = {max(_WIDTH_UNIT, round(value / _WIDTH_UNIT) * _WIDTH_UNIT) for value in scaled}
    return tuple(sorted(value for value in rounded if value <= _MAX_WIDTH))


def _split(block: SuperBlock) -> tuple[SuperBlock, ...]:
    if isinstance(block, ConvBlock) or block.repeats < _SPLIT_AT:
        return (block,)
    first = _SPLIT_AT // 2
    rest = replace(block, in_channels=block.out_channels, stride=1, repeats=_SPLIT_AT - first)
    return (replace(block, repeats=first), rest)


def _residuals(block: InvertedBlock) -> Iterator[_Residual]:
    """Yield the inverted residuals of a super-block, two a pair."""
    channels, stride = block.in_channels, block.stride
    for pair in range(block.repeats):
        yield _Residual(
            in_channels=channels,
            hidden=block.bottleneck * block.expansion,  # a multiple of 8 already
            out_channels=block.bottleneck,
            kernel=block.kernel,
            stride=stride,
            projects=pair == 0 or stride > 1 or channels != block.bottleneck,
        )
        yield _Residual(
            in_channels=block.bottleneck,
            hidden=block.out_channels * block.expansion,
            out_channels=block.out_channels,
            kernel=block.kernel,
            stride=1,
            projects=block.bottleneck != block.out_channels,
        )
        channels, stride = block.out_channels, 1


def _write(net: GraphBuilder, x: str, name: str, block: SuperBlock) -> str:
    if isinstance(block, ConvBlock):
        return _write_conv(net, x, name, block)
    for index, residual in enumerate(_residuals(block)):
        x = _write_residual(net, x, f"{name}.{index}", residual)
        net.declare_block(x)
    return x


def _write_conv(net: GraphBuilder, x: str, name: str, block: ConvBlock) -> str:
    channels, stride = block.in_channels, block.stride
    for index in range(block.repeats):
        part = f"{name}.{index}"
        x = net.conv_bn(x, part, channels, block.out_channels, kernel=block.kernel, stride=stride, epsilon=_EPSILON)
        x = net.relu(x, f"{part}.relu")
        net.declare_block(x)
        channels, stride = block.out_channels, 1
    return x


def _write_residual(net: GraphBuilder, x: str, name: str, residual: _Residual) -> str:
    before, hidden, after, stride = residual.in_channels, residual.hidden, residual.out_channels, residual.stride
    y = net.conv_bn(x, f"{name}.expand", before, hidden, kernel=1, epsilon=_EPSILON)
    y = net.relu(y, f"{name}.expand.relu")
    y = net.conv_bn(
        y, f"{name}.depthwise", hidden, hidden, kernel=residual.kernel, stride=stride, groups=hidden, epsilon=_EPSILON
    )
    y = net.relu(y, f"{name}.depthwise.relu")
    y = net.conv_bn(y, f"{name}.project", hidden, after, kernel=1, epsilon=_EPSILON)
    if residual.projects:
        x = net.conv_bn(x, f"{name}.shortcut", before, after, kernel=1, stride=stride, bias=True, epsilon=_EPSILON)
    return net.relu(net.add(y, x, f"{name}.add"), f"{name}.relu")


@cached(2**16, "a mutation keeps most super-blocks")
def _cost(block: SuperBlock, size: int, paper_size: int) -> _Cost:
    if isinstance(block, ConvBlock):
        return _conv_cost(block, size, paper_size)
    return _inverted_cost(block, size, paper_size)


def _conv_cost(block: ConvBlock, size: int, paper_size: int) -> _Cost:
    macs = params = flops = 0
    channels, stride = block.in_channels, block.stride
    for _ in range(block.repeats):
        weights = channels * block.out_channels * block.kernel**2
        flops += weights * paper_size**2 // stride**2
        size, paper_size = -(-size // stride), paper_size // stride
        flops += block.out_channels * paper_size**2
        macs += weights * size**2
        params += weights + 2 * block.out_channels
        channels, stride = block.out_channels, 1
    return _Cost(macs=macs, params=params, flops=flops, size=size, paper_size=paper_size)


def _inverted_cost(block: InvertedBlock, size: int, paper_size: int) -> _Cost:
    macs = params = flops = 0
    for residual in _residuals(block):
        cost = _residual_cost(residual, size, paper_size)
        size, paper_size = cost.size, cost.paper_size
        macs, params, flops = macs + cost.macs, params + cost.params, flops + cost.flops
    return _Cost(macs=macs, params=params, flops=flops, size=size, paper_size=paper_size)


def _residual_cost(residual: _Residual, size: int, paper_size: int) -> _Cost:
    """Count a residual.

    The authors count one operation per BatchNorm output element beside the MACs, and divide the resolution, where it
    is not a multiple of the stride, with the remainder dropped (a convolution rounds up). In a projection shortcut of
    stride s they divide the resolution behind the stride by s once more, so that it counts 1/s^2 of its true cost.
    """
    stride, hidden, after = residual.stride, residual.hidden, residual.out_channels
    expand, depthwise, project = residual.in_channels * hidden, hidden * residual.kernel**2, hidden * after
    shortcut = residual.in_channels * after if residual.projects else 0
    size_after, paper_after = -(-size // stride), paper_size // stride

    macs = expand * size**2 + (depthwise + project + shortcut) * size_after**2
    params = expand + depthwise + project + 4 * hidden + 2 * after
    flops = (expand + hidden) * paper_size**2 + depthwise * paper_size**2 // stride**2
    flops += (hidden + project + after) * paper_after**2
    if residual.projects:
        params += shortcut + 3 * after  # its convolution has a bias
        flops += (shortcut + after) * paper_after**2 // stride**2  # exact, since widths are multiples of 8
    return _Cost(macs=macs, params=params, flops=flops, size=size_after, paper_size=paper_after)
