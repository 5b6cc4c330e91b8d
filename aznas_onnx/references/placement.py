"""Place a network in a reference set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from aznas_onnx.ranking import Ranking
from aznas_onnx.references.rank_scores import log_rank_scores, percentile, reference_score
from aznas_onnx.references.reference_set import ReferenceSet
from aznas_onnx.results import ProxyScores, Status

__all__ = ["Placement", "place", "rank_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one network stands in a reference set.

    Attributes
    ----------
    az_score
        Eq. 12 over the reference set: the sum of ln(rank share) over proxies; at most 0, higher is better.
    percentile
        The share of members, in percent, whose AZ score is not above its own; ties count half.
    percentiles
        The same for each proxy; 0 where the network has no finite value.
    """

    az_score: float
    percentile: float
    percentiles: Mapping[str, float]


def place(scores: ProxyScores, reference_set: ReferenceSet) -> Placement | None:
    """Place a score in a reference set by the proxies that both have; None where it failed or they share none.

    The score must have been made with the reference set's settings; see :meth:`ReferenceSettings.refuse_others`.
    """
    names = tuple(name for name in reference_set.proxies if name in scores.proxies and scores.proxies[name].applies)
    if scores.status is not Status.OK or not names:
        return None
    means = {name: scores.proxies[name].mean for name in names}
    values = {name: -math.inf if mean is None else mean for name, mean in means.items()}
    score = reference_score(values, reference_set)
    return Placement(
        az_score=score,
        percentile=percentile(score, log_rank_scores(reference_set, names)),
        percentiles=MappingProxyType(
            {name: percentile(value, np.asarray(reference_set.column(name))) for name, value in values.items()}
        ),
    )


def rank_in(scores: Sequence[ProxyScores], reference_set: ReferenceSet) -> tuple[Ranking, tuple[Placement | None, ...]]:
    """Rank networks by their AZ scores in a reference set, and return their places in it.

    Unlike those of :func:`aznas_onnx.ranking.rank`, the scores do not depend on which other networks are given.
    """
    places = tuple(place(result, reference_set) for result in scores)
    found = [(one.az_score, index) for index, one in enumerate(places) if one is not None]
    order = tuple(index for _, index in sorted(found, key=lambda pair: (-pair[0], pair[1])))
    left_out = dict.fromkeys(
        f"{name} takes no part in the place in {reference_set.name}: it is not there for {result.model}"
        for result in scores
        if result.status is Status.OK
        for name in reference_set.proxies
        if name not in result.proxies or not result.proxies[name].applies
    )
    ranking = Ranking(
        az_score=tuple(None if one is None else one.az_score for one in places),
        rank=tuple(None if one is None else 1 + sum(other > one.az_score for other, _ in found) for one in places),
        order=order,
        proxies=reference_set.proxies,
        warnings=tuple(left_out),
    )
    return ranking, places
