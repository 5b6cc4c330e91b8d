"""Spaces of vision transformers with free depth and width, and free heads and MLP ratio in each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.json_rows import number, numbers, read_row, write_row

__all__ = ["PATCH", "LayerwiseTransformers", "TransformerChoices", "VisionTransformer"]

PATCH = 16  # pixels along a side of a patch
_LAYER_PROBABILITY = 0.2  # probability that a mutation samples heads, or ratio, of a layer again
_NETWORK_PROBABILITY = 0.4  # probability that it samples depth, or width, again

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTransformer:
    """A genotype: the embedding width, and the heads and MLP ratio of each layer."""

    embed_dim: int
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.num_heads)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Width inside the MLP of each layer."""
        return tuple(int(ratio * self.embed_dim) for ratio in self.mlp_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerChoices:
    """Values of a space; `accepted_heads` are valid besides `num_heads` but never sampled."""

    depth: tuple[int, ...]
    embed_dim: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]
    accepted_heads: tuple[int, ...] = ()


class LayerwiseTransformers(Space[VisionTransformer]):
    """What AutoFormer's spaces and those that follow it share: genotypes, their notation, sampling and mutation.

    The notation is a JSON object of `columns`, which are depth, num_heads, mlp_ratio, and the width by the name that
    `width_column` has. Layers are the depth.
    """

    choices: ClassVar[TransformerChoices]
    width_column: ClassVar[str]

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if self.resolution % PATCH:
            raise SettingsError(
                f"space {self.name!r}: resolution is {self.resolution}; a multiple of {PATCH} is needed"
            )

    def sample(self, rng: np.random.Generator) -> VisionTransformer:
        depth = choose(self.choices.depth, rng)
        return VisionTransformer(
            embed_dim=choose(self.choices.embed_dim, rng),
            num_heads=tuple(choose(self.choices.num_heads, rng) for _ in range(depth)),
            mlp_ratio=tuple(choose(self.choices.mlp_ratio, rng) for _ in range(depth)),
        )

    def mutate(self, genotype: VisionTransformer, rng: np.random.Generator, changes: int = 1) -> VisionTransformer:
        self.validate(genotype)
        for _ in range(changes):
            genotype = self._mutate_once(genotype, rng)
        return genotype

    def _mutate_once(self, genotype: VisionTransformer, rng: np.random.Generator) -> VisionTransformer:
        depth, width = genotype.depth, genotype.embed_dim
        if rng.random() < _NETWORK_PROBABILITY:
            depth = choose(self.choices.depth, rng)
        if rng.random() < _NETWORK_PROBABILITY:
            width = choose(self.choices.embed_dim, rng)
        return VisionTransformer(
            embed_dim=width,
            num_heads=_redraw(genotype.num_heads, depth, self.choices.num_heads, rng),
            mlp_ratio=_redraw(genotype.mlp_ratio, depth, self.choices.mlp_ratio, rng),
        )

    def parse(self, text: str) -> VisionTransformer:
        row = read_row(self.name, text, self.columns, self._example())
        depth = number(self.name, row, "depth")
        genotype = VisionTransformer(
            embed_dim=number(self.name, row, self.width_column),
            num_heads=numbers(self.name, row, "num_heads"),
            mlp_ratio=numbers(self.name, row, "mlp_ratio"),
        )
        if depth != genotype.depth:
            raise GenotypeError(f"{self.name}: depth is {depth!r}, but num_heads has {genotype.depth} entries")
        self.validate(genotype)
        return genotype

    def format(self, genotype: VisionTransformer) -> str:
        self.validate(genotype)
        return self._written(genotype)

    def _written(self, genotype: VisionTransformer) -> str:
        row = {
            "depth": genotype.depth,
            self.width_column: genotype.embed_dim,
            "num_heads": genotype.num_heads,
            "mlp_ratio": genotype.mlp_ratio,
        }
        return write_row({column: row[column] for column in self.columns})

    def _example(self) -> str:
        choices = self.choices
        depth = choices.depth[0]
        return self._written(
            VisionTransformer(
                embed_dim=choices.embed_dim[0],
                num_heads=(choices.num_heads[0],) * depth,
                mlp_ratio=(choices.mlp_ratio[-1],) * depth,
            )
        )

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, VisionTransformer):
            found = type(genotype).__name__
            raise GenotypeError(
                f"a genotype of {self.name} is a VisionTransformer, not {found}; parse() reads its notation"
            )
        choices = self.choices
        if len(genotype.mlp_ratio) != genotype.depth:
            raise GenotypeError(
                f"{self.name}: num_heads has {genotype.depth} entries and mlp_ratio {len(genotype.mlp_ratio)}; "
                "both have one a layer"
            )
        self._check("depth", (genotype.depth,), choices.depth)
        self._check(self.width_column, (genotype.embed_dim,), choices.embed_dim)
        self._check("num_heads", genotype.num_heads, (*choices.accepted_heads, *choices.num_heads))
        self._check("mlp_ratio", genotype.mlp_ratio, choices.mlp_ratio)

    def _check(self, field: str, values: Sequence[object], accepted: Sequence[float]) -> None:
        for value in values:
            if value not in accepted or (field != "mlp_ratio" and not isinstance(value, int)):
                choices = ", ".join(f"{choice:g}" for choice in accepted)
                raise GenotypeError(f"{self.name}: {field} holds {value!r}; accepted are {choices}")

    def layers(self, genotype: VisionTransformer) -> int:
        self.validate(genotype)
        return genotype.depth

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.resolution // PATCH) ** 2 + 1


def _redraw(genes: Sequence[T], depth: int, values: Sequence[T], rng: np.random.Generator) -> tuple[T, ...]:
    """Change the genes of all layers to another depth, and sample each old one again with some probability."""
    kept = [choose(values, rng) if rng.random() < _LAYER_PROBABILITY else gene for gene in genes[:depth]]
    return (*kept, *(choose(values, rng) for _ in range(depth - len(kept))))
