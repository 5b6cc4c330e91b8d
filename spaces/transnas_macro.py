"""The macro-level space of TransNAS-Bench-101 (Duan et al., CVPR 2021)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from aznas_onnx.caches import cached
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces.base import GenotypeError, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.dense_cell import relu_conv_bn
from aznas_onnx.spaces.transnas_backbone import BackboneBlock, BackboneModule, BlockConvolution, TransNasSpace

__all__ = ["MacroSkeleton", "TransNasMacro"]

_MODULES = tuple(BackboneModule)
_LENGTHS = range(4, 7)
_WIDENINGS = range(1, 4)
_SHRINKINGS = range(1, 5)
_RULES = "4 to 6 modules, of which 1 to 3 double the channels (2 and 4) and 1 to 4 halve the resolution (3 and 4)"
_OFFICIAL = re.compile(r"64-[1-4]+-basic")
_TUPLE = re.compile(r"\([1-4](, ?[1-4])*(, ?0){0,2}\)")  # NAS-Bench-Suite-Zero pads with zeros to six modules
_EXAMPLES = "64-431241-basic or (4, 3, 1, 2, 4, 1)"

_SHORTCUT_EPSILON = 1.0
"""Of the shortcuts' normalisation. The authors pass `affine` in the place of the epsilon, and True is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroSkeleton:
    """A genotype: the modules of the backbone."""

    modules: tuple[BackboneModule, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(module, BackboneModule) for module in self.modules) or not _belongs(self.modules):
            raise GenotypeError(f"a network of transnas-macro has {_RULES}, unlike {quote(str(self.modules))}")


class TransNasMacro(TransNasSpace[MacroSkeleton]):
    """TransNAS-Bench-101, macro: four to six modules of two residual blocks; 3,256 genotypes.

    The notation is the benchmark's own, ``64-431241-basic``; a tuple of the same digits, ``(4, 3, 1, 2, 4, 1)``, is
    read as well. A digit is a module: 1 changes no shape, 2 doubles the channels, 3 halves the resolution, 4 does both.
    One to three modules double the channels, and one to four halve the resolution. :meth:`sample` samples all networks
    with equal probability. A change of :meth:`mutate` replaces a module, inserts one or removes one; all such networks
    of the space have equal probability. Layers are the stem and the residual blocks.

    Primary blocks are the output of the stem and of all residual blocks.
    """

    name = "transnas-macro"

    def sample(self, rng: np.random.Generator) -> MacroSkeleton:
        return choose(_skeletons(), rng)

    def mutate(self, genotype: MacroSkeleton, rng: np.random.Generator, changes: int = 1) -> MacroSkeleton:
        self.validate(genotype)
        for _ in range(changes):
            genotype = MacroSkeleton(modules=choose(_neighbours(genotype.modules), rng))
        return genotype

    def parse(self, text: str) -> MacroSkeleton:
        text = text.strip()
        if not _OFFICIAL.fullmatch(text) and not _TUPLE.fullmatch(text):
            raise GenotypeError(f"{quote(text)} is not a network of TransNAS-Bench-101 such as {_EXAMPLES}")
        digits = re.findall("[1-4]", text.removeprefix("64-"))
        if not _belongs(modules := tuple(BackboneModule(int(digit)) for digit in digits)):
            raise GenotypeError(f"a network of transnas-macro has {_RULES}, unlike {quote(text)}; one is {_EXAMPLES}")
        return MacroSkeleton(modules=modules)

    def format(self, genotype: MacroSkeleton) -> str:
        self.validate(genotype)
        return f"64-{''.join(str(int(module)) for module in genotype.modules)}-basic"

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, MacroSkeleton):
            found = type(genotype).__name__
            raise GenotypeError(
                f"a genotype of transnas-macro is a MacroSkeleton, not {found}; parse() reads its notation"
            )

    def _modules(self, genotype: MacroSkeleton) -> Sequence[BackboneModule]:
        return genotype.modules

    def _convolutions(self, genotype: MacroSkeleton, block: BackboneBlock) -> Iterator[BlockConvolution]:
        before, channels = block.before, block.channels
        yield BlockConvolution(9 * before * channels, before * block.entering**2)
        yield BlockConvolution(9 * channels**2, channels * block.size**2)
        if not block.is_plain:
            yield BlockConvolution(before * channels, 0)

    def _write_block(self, net: GraphBuilder, x: str, genotype: MacroSkeleton, block: BackboneBlock) -> str:
        """Write a residual block whose ReLUs stand in front of its convolutions, the one in front of it included."""
        name, before, channels = block.name, block.before, block.channels
        main = relu_conv_bn(net, x, f"{name}.conv_a", before, channels, kernel=3, stride=block.stride)
        main = relu_conv_bn(net, main, f"{name}.conv_b", channels, channels, kernel=3)
        if not block.is_plain:
            x = net.conv_bn(
                x,
                f"{name}.downsample",
                before,
                channels,
                kernel=1,
                stride=block.stride,
                epsilon=_SHORTCUT_EPSILON,
            )
        return net.add(x, main, f"{name}.add")


def _belongs(modules: Sequence[BackboneModule]) -> bool:
    """Whether modules are a network of the space."""
    return (
        len(modules) in _LENGTHS
        and sum(module.widens for module in modules) in _WIDENINGS
        and sum(module.shrinks for module in modules) in _SHRINKINGS
    )


@cached(1, "one list of all networks, for every sample")
def _skeletons() -> tuple[MacroSkeleton, ...]:
    every = (modules for length in _LENGTHS for modules in product(_MODULES, repeat=length))
    return tuple(MacroSkeleton(modules=modules) for modules in every if _belongs(modules))


def _neighbours(modules: tuple[BackboneModule, ...]) -> list[tuple[BackboneModule, ...]]:
    """Return the networks of the space that have one module less, more, or another one in its place."""
    places = [(modules[:place], modules[place:]) for place in range(len(modules) + 1)]
    edited = [head + tail[1:] for head, tail in places]
    for (head, tail), module in product(places, _MODULES):
        edited += [(*head, module, *tail), (*head, module, *tail[1:])]
    return [other for other in dict.fromkeys(edited) if other != modules and _belongs(other)]
