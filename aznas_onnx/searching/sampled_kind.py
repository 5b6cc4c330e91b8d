"""What varies in a space, from networks sampled at random: `best` goes by it, and a search ranks one way throughout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aznas_onnx import scoring
from aznas_onnx.proxies.builtin import KIND_TRAITS
from aznas_onnx.ranking import Aggregation, Ensemble, for_cohort
from aznas_onnx.results import ProxyValue
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.spaces import Space, as_user_error, build_source

__all__ = ["settled"]

_SAMPLES = 48  # an edge is absent in one of six networks of NAS-Bench-201


def settled(ensemble: Ensemble, space: Space[Any], seed: int) -> Ensemble:
    """Return the ensemble that an adaptive one is in a space; any other as it is.

    - `seed`: Of the sampled networks.

    Raises what :func:`aznas_onnx.score` raises if a network cannot be read.
    """
    if ensemble.aggregation is not Aggregation.BY_KIND:
        return ensemble
    return for_cohort(ensemble, list(_columns(space, seed)))[0]


def _columns(space: Space[Any], seed: int) -> Iterator[Mapping[str, ProxyValue]]:
    """Yield what tells the kind of some networks; of the first also whether it is a transformer, which takes a pass."""
    rng = np.random.default_rng(seed)
    for number in range(_SAMPLES):
        with as_user_error(space, "give a candidate"):
            genotype = space.sample(rng)
        proxies = KIND_TRAITS if number else (*KIND_TRAITS, "progressivity")
        settings = ScoreSettings.of(effort="fast", device="cpu", proxies=proxies)
        yield scoring.score(build_source(space, genotype), settings=settings).proxies
