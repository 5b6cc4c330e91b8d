"""The Pooling-based Vision Transformers of ViT-Bench-101 (Wei et al., AAAI 2024; PiT: Heo et al., ICCV 2021)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, pairwise, product
from typing import Any

import numpy as np
import onnx

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.json_rows import number, numbers, read_row, write_row
from aznas_onnx.spaces.vision_encoder import EPSILON, EncoderLayer, project_patches, with_class_token

__all__ = ["PiT", "PoolingTransformer"]

_PATCH, _STRIDE = 16, 8
_STAGE_DEPTHS = ((1, 2, 3), (4, 6, 8), (2, 4, 6))
_DEPTHS: tuple[tuple[int, ...], ...] = tuple(product(*_STAGE_DEPTHS))
_CHOICES: dict[str, tuple[Any, ...]] = {
    "base_dim": (16, 24, 32, 40),
    "mlp_ratio": (2, 4, 6, 8),
    "depth": tuple(depth for depth in _DEPTHS if 12 <= sum(depth) <= 14),
    # A pooling's output has a whole number of channels for each of its input, so heads never become fewer.
    "num_heads": tuple(combinations_with_replacement((2, 4, 8), 3)),
}
_EXAMPLE = '{"base_dim":32,"mlp_ratio":4,"depth":[2,6,4],"num_heads":[2,4,8]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingTransformer:
    """A genotype: width of a head and MLP ratio of all layers; number of layers and heads of the three stages."""

    base_dim: int
    mlp_ratio: int
    depth: tuple[int, ...]
    num_heads: tuple[int, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the tokens in each stage."""
        return tuple(self.base_dim * heads for heads in self.num_heads)

    def layer(self, stage: int) -> EncoderLayer:
        """Return the layers of a stage, which are all alike."""
        width = self.widths[stage]
        return EncoderLayer(width=width, heads=self.num_heads[stage], hidden=self.mlp_ratio * width)


class PiT(Space[PoolingTransformer]):
    """The PiTs of ViT-Bench-101: three stages of encoder layers on 27x27, 14x14 and 7x7 patches and a class token.

    The notation is JSON: ``{"base_dim":32,"mlp_ratio":4,"depth":[2,6,4],"num_heads":[2,4,8]}``, which is the published
    PiT-Ti. Heads are `base_dim` wide. From stage to stage a 3x3 convolution of stride 2, with the channels as groups,
    pools the patches, and a linear layer widens the class token. :meth:`sample` samples each of the four uniformly as
    the benchmark does: of 4 widths, 4 ratios, 10 depths of 12 to 14 layers in all, and 10 triples of heads. Depths of
    another sum are accepted where each stage has one of its choices. A change of :meth:`mutate` gives one of the four
    another value; several changes affect different ones.

    Layers are the encoder layers of all stages. Primary blocks are the sums after every attention and every MLP, and
    the pooled tokens.
    """

    name = "pit"
    default_num_classes = 100
    columns = ("base_dim", "mlp_ratio", "depth", "num_heads")

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if self.resolution < _PATCH:
            raise SettingsError(f"space 'pit': resolution is {self.resolution}; {_PATCH} or more is needed")

    def sample(self, rng: np.random.Generator) -> PoolingTransformer:
        return PoolingTransformer(**{column: choose(values, rng) for column, values in _CHOICES.items()})

    def mutate(self, genotype: PoolingTransformer, rng: np.random.Generator, changes: int = 1) -> PoolingTransformer:
        self.validate(genotype)
        for index in rng.choice(len(self.columns), size=min(changes, len(self.columns)), replace=False):
            column = self.columns[index]
            others = [value for value in _CHOICES[column] if value != getattr(genotype, column)]
            genotype = replace(genotype, **{column: choose(others, rng)})
        return genotype

    def parse(self, text: str) -> PoolingTransformer:
        row = read_row(self.name, text, self.columns, _EXAMPLE)
        genotype = PoolingTransformer(
            base_dim=number(self.name, row, "base_dim"),
            mlp_ratio=number(self.name, row, "mlp_ratio"),
            depth=numbers(self.name, row, "depth"),
            num_heads=numbers(self.name, row, "num_heads"),
        )
        self.validate(genotype)
        return genotype

    def format(self, genotype: PoolingTransformer) -> str:
        self.validate(genotype)
        return write_row({column: getattr(genotype, column) for column in self.columns})

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, PoolingTransformer):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of pit is a PoolingTransformer, not {found}; parse() reads its notation")
        for column in ("base_dim", "mlp_ratio"):
            value = getattr(genotype, column)
            if not isinstance(value, int) or value not in _CHOICES[column]:
                raise GenotypeError(f"pit: {column} is {value!r}; accepted are {_listed(_CHOICES[column])}")
        depth, heads = genotype.depth, genotype.num_heads
        if not _are_whole(depth) or depth not in _DEPTHS:
            accepted = "; ".join(map(_listed, _STAGE_DEPTHS))
            raise GenotypeError(f"pit: depth is {list(depth)}; accepted for the three stages are {accepted}")
        if not _are_whole(heads) or heads not in _CHOICES["num_heads"]:
            raise GenotypeError(f"pit: num_heads is {list(heads)}; accepted are three of 2, 4, 8 that never decrease")

    def macs(self, genotype: PoolingTransformer) -> int:
        self.validate(genotype)
        widths, grids = genotype.widths, self._grids
        macs = grids[0] ** 2 * 3 * _PATCH**2 * widths[0]
        for stage, depth in enumerate(genotype.depth):
            macs += depth * genotype.layer(stage).macs(grids[stage] ** 2 + 1)
        for stage, (before, after) in enumerate(pairwise(widths)):
            macs += 9 * after * grids[stage + 1] ** 2 + before * after
        return macs + widths[-1] * self.num_classes

    def params(self, genotype: PoolingTransformer) -> int:
        self.validate(genotype)
        widths = genotype.widths
        params = (3 * _PATCH**2 + 1 + self._grids[0] ** 2 + 1) * widths[0]  # patches, positions, class token
        params += sum(depth * genotype.layer(stage).params for stage, depth in enumerate(genotype.depth))
        params += sum((9 + 1 + before + 1) * after for before, after in pairwise(widths))
        return params + 2 * widths[-1] + (widths[-1] + 1) * self.num_classes

    def layers(self, genotype: PoolingTransformer) -> int:
        self.validate(genotype)
        return sum(genotype.depth)

    def build(self, genotype: PoolingTransformer) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: PoolingTransformer) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: PoolingTransformer) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name, opset=20)  # the first with Gelu
        widths, grids = genotype.widths, self._grids
        net.constant("tokens.axis", [1])
        net.constant("tokens.first", [0])
        x = _embedding(net, net.image_input(3, self.resolution), widths[0], grids[0])
        for stage, depth in enumerate(genotype.depth):
            if stage:
                x = _pool(net, x, stage - 1, widths[stage - 1 : stage + 1], grids[stage - 1 : stage + 1])
                net.declare_block(x)
            for index in range(depth):
                x = genotype.layer(stage).write(net, x, f"transformers.{stage}.blocks.{index}", grids[stage] ** 2 + 1)
        token = net.layer_norm(_class_token(net, x, "cls"), "norm", widths[-1], epsilon=EPSILON)
        token = net.node("Flatten", token, name="cls.flatten")
        output = net.gemm(token, "head", widths[-1], self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    @property
    def _grids(self) -> tuple[int, ...]:
        """Patches along a side in each stage."""
        first = (self.resolution - _PATCH) // _STRIDE + 1
        return first, (first + 1) // 2, ((first + 1) // 2 + 1) // 2


def _embedding(net: GraphBuilder, image: str, width: int, grid: int) -> str:
    """Write overlapping patches, their positions, and the class token, which has none: (batch, tokens, width)."""
    x = project_patches(net, image, "patch_embed.conv", width, _PATCH, _STRIDE)
    x = net.add(x, net.weight("pos_embed", (1, width, grid, grid)), "patch_embed.positions")
    return with_class_token(net, _as_tokens(net, x, "patch_embed", width, grid), width)


def _pool(net: GraphBuilder, x: str, stage: int, widths: tuple[int, ...], grids: tuple[int, ...]) -> str:
    """Write the step to the next stage: half as many patches along a side, and wider tokens."""
    name, (before, after) = f"pools.{stage}", widths
    end = net.constant(f"{name}.end", [grids[0] ** 2 + 1])
    patches = net.node("Slice", x, "tokens.axis", end, "tokens.axis", name=f"{name}.patches")  # from token 1 on axis 1
    image = net.reshape(net.transpose(patches, f"{name}.t", (0, 2, 1)), f"{name}.image", (0, before, *grids[:1] * 2))
    image = net.conv(image, f"{name}.conv", before, after, kernel=3, stride=2, groups=before, bias=True)
    token = net.linear(_class_token(net, x, f"{name}.cls"), f"{name}.fc", before, after)
    return net.node("Concat", token, _as_tokens(net, image, name, after, grids[1]), name=f"{name}.tokens", axis=1)


def _class_token(net: GraphBuilder, x: str, name: str) -> str:
    """Write the first token: (batch, 1, width)."""
    return net.node("Slice", x, "tokens.first", "tokens.axis", "tokens.axis", name=name)  # from 0 to 1 on axis 1


def _as_tokens(net: GraphBuilder, image: str, name: str, width: int, grid: int) -> str:
    flat = net.reshape(image, f"{name}.flatten", (0, width, grid**2))
    return net.transpose(flat, f"{name}.by_token", (0, 2, 1))


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _are_whole(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int for value in values)
