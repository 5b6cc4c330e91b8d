"""Choose and order the measured architectures to score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.spaces import Space

__all__ = ["choose_archs"]


def choose_archs(
    archs: Sequence[str], space: Space[Any], *, sample: int | None = None, seed: int = 0, unique: bool = False
) -> tuple[str, ...]:
    """Return the architectures to score, in the order in which to score them.

    - `archs`: All measured architectures.
    - `sample`: Size of the sample; all by default. A larger sample with the same seed begins with the smaller one, so
      it extends existing scores.
    - `seed`: Seed of the shuffle. All architectures are shuffled, too: an interrupted run has scored a random sample.
    - `unique`: Keep the first of the architectures that are one network by :meth:`~aznas_onnx.spaces.Space.canonical`.

    Raises GenotypeError if an architecture is not one of the space.
    Raises SettingsError if the sample is larger than the number of architectures, or the space cannot find duplicates.
    """
    kept = list(dict.fromkeys(archs))  # one is listed in each group that it was measured in
    genotypes = [space.parse(arch) for arch in kept]
    if unique:
        first: dict[str, str] = {}
        for arch, genotype in zip(kept, genotypes, strict=True):
            first.setdefault(_canonical(space, genotype), arch)
        kept = list(first.values())
    size = len(kept) if sample is None else sample
    if not 1 <= size <= len(kept):
        kind = "different architectures" if unique else "architectures"
        raise SettingsError(f"a sample of {size} is requested, and there are {len(kept)} {kind}; 1 to that is accepted")
    order = np.random.default_rng(seed).permutation(len(kept))[:size]
    return tuple(kept[index] for index in order)


def _canonical(space: Space[Any], genotype: Any) -> str:
    text = space.canonical(genotype)
    if text is None:
        raise SettingsError(
            f"space {space.name!r} does not say which of its architectures are the same network (Space.canonical); "
            "leave out --unique"
        )
    return text
