"""Sample the networks of a reference set from a space."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.searching import Budget
from aznas_onnx.spaces import Space, as_user_error, quote

__all__ = ["sample_networks"]

G = TypeVar("G", bound=Hashable)

_TRIES_EACH = 2000  # genotypes sampled per genotype within budget


def sample_networks(space: Space[G], budget: Budget, sample: int, seed: int) -> dict[str, G]:
    """Sample different genotypes within a budget by :meth:`Space.sample`, and return them by their texts.

    Raises SettingsError if there are not enough, or the space fails.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, G] = {}
    tries = 0
    while len(found) < sample:
        tries += 1
        if tries > _TRIES_EACH * sample:
            raise SettingsError(
                f"only {len(found)} different networks of {space.name} were found within {budget} in {tries:,} "
                f"samples; ask for fewer than {sample}, or widen the budget"
            )
        with as_user_error(space, "give a sample"):
            genotype = space.sample(rng)
            text = space.format(genotype)
        with as_user_error(space, f"count {quote(text)}"):
            counts = {"macs": space.macs, "params": space.params, "layers": space.layers}
            limits = [(counts[name], limit) for name, limit in budget.limits() if not limit.is_open]
            is_within = all(limit.admits(count(genotype)) for count, limit in limits)
        if is_within:
            found.setdefault(text, genotype)
    return found
