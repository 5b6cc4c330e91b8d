"""Rank candidates by several proxies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.ranking.aggregation import Aggregation, aggregate
from aznas_onnx.ranking.ensemble import Ensemble
from aznas_onnx.ranking.kinds import CohortKind, for_cohort
from aznas_onnx.results import ProxyScores, ProxyValue, Status

__all__ = ["Ranking", "rank"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Candidates in order.

    Attributes
    ----------
    az_score
        One per candidate, in the given order; higher is better, at most 0 for log-rank. None for failed candidates, and
        for all where fewer than two can be compared.
    rank
        1 is best; candidates of equal score share the better rank (1, 1, 3). None where there is no score.
    order
        Indices of the ranked candidates, best first; equal ones in the given order.
    proxies
        The proxies of the ranking.
    aggregation
        Their aggregation.
    weights
        Weights of the proxies that are not 1.
    warnings
        The proxies that were left out, and why.
    kind
        What varies among the candidates, where the proxies went by it.
    """

    az_score: tuple[float | None, ...]
    rank: tuple[int | None, ...]
    order: tuple[int, ...]
    proxies: tuple[str, ...]
    aggregation: Aggregation = Aggregation.LOG_RANK
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()
    kind: CohortKind | None = None


def rank(
    scores: Sequence[ProxyScores],
    *,
    proxies: Iterable[str] | None = None,
    aggregation: Aggregation | str | None = None,
    weights: Mapping[str, float] | None = None,
    directions: Mapping[str, Direction] | None = None,
) -> Ranking:
    """Rank candidates by their proxies.

    A proxy counts if every scored candidate has it and it applies to all of them: progressivity is left out if a
    transformer is among the candidates. A proxy that applies but has no finite value ranks its candidate lowest.

    Parameters
    ----------
    scores
        Of all candidates; failed ones get no rank and do not count.
    proxies
        Names of proxies or groups, with or without a weight (``"synflow:0.5"``); default all that the candidates have,
        with weight 1.
    aggregation
        ``"log-rank"`` (Eq. 12), ``"linear"``, or ``"by-kind"``, which goes by what varies among the candidates; default
        the aggregation of a group in `proxies` that has its own, else log-rank.
    weights
        Weight of each proxy; default that in `proxies`, else 1. A proxy of weight 0 does not count.
    directions
        Direction of each proxy that is not registered, as stored in a study or a scores file.

    Returns
    -------
    Ranking
        Scores are None where fewer than two candidates, or no proxy, can be compared.

    Raises
    ------
    UnknownNameError
        If a proxy is not registered and has no direction.
    SettingsError
        If the aggregation is unknown.
    """
    wanted = None if proxies is None else tuple(proxies)
    PROXIES.load_all(wanted or ())
    ensemble = Ensemble.of(wanted, aggregation)
    if weights is not None:
        ensemble = replace(ensemble, weights=_checked(weights))
    scored = [index for index, score in enumerate(scores) if score.status is Status.OK]
    columns = [scores[index].proxies for index in scored]
    ensemble, kind = for_cohort(ensemble, columns)
    names, warnings = _taking_part(columns, wanted, ensemble)
    az_scores: list[float | None] = [None] * len(scores)
    ranks: list[int | None] = [None] * len(scores)
    order: tuple[int, ...] = ()
    if len(scored) >= 2 and names:
        signs = {name: PROXIES.sign(name, directions or {}) for name in names}
        values = np.array([[_comparable(column[name], signs[name]) for name in names] for column in columns])
        combined = aggregate(values, ensemble.aggregation, [ensemble.weight(name) for name in names])
        for index, value, place in zip(scored, combined, _competition_ranks(combined), strict=True):
            az_scores[index], ranks[index] = float(value), int(place)
        order = tuple(scored[place] for place in np.argsort(-combined, kind="stable"))
    return Ranking(
        az_score=tuple(az_scores),
        rank=tuple(ranks),
        order=order,
        proxies=names,
        aggregation=ensemble.aggregation,
        weights=MappingProxyType({name: ensemble.weight(name) for name in names if ensemble.weight(name) != 1.0}),
        warnings=warnings,
        kind=kind,
    )


def _checked(weights: Mapping[str, float]) -> Mapping[str, float]:
    for name, weight in weights.items():
        if not 0.0 <= weight < math.inf:
            raise SettingsError(f"the weight of proxy {name!r} is {weight}; 0 or a positive number is accepted")
    return MappingProxyType({name: float(weight) for name, weight in weights.items() if weight != 1.0})


def _taking_part(
    columns: Sequence[Mapping[str, ProxyValue]], wanted: Iterable[str] | None, ensemble: Ensemble
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the proxies that can be compared over all candidates, and a sentence for each that cannot."""
    present = dict.fromkeys(name for column in columns for name in column)
    names = present if wanted is None else [proxy.name for proxy in PROXIES.resolve(wanted)]
    taking_part, warnings = [], []
    for name in names:
        if ensemble.weight(name) == 0.0:
            continue
        missing = sum(name not in column for column in columns)
        inapplicable = sum(name in column and not column[name].applies for column in columns)
        if missing:
            warnings.append(f"{name} takes no part in the ranking: {missing} of {len(columns)} models have none")
        elif inapplicable == len(columns):
            continue  # all of one kind: nothing is lost, so nothing to warn of
        elif inapplicable:
            warnings.append(
                f"{name} takes no part in the ranking: it is not defined for {inapplicable} of {len(columns)} models"
            )
        else:
            taking_part.append(name)
    return tuple(taking_part), tuple(warnings)


def _comparable(value: ProxyValue, sign: int) -> float:
    """Return a proxy so that higher is better and no value is lowest."""
    return -np.inf if value.mean is None else sign * value.mean


def _competition_ranks(values: Floats) -> npt.NDArray[np.int64]:
    """Return 1 for the largest value; equal values share the better rank."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values, method="min"), dtype=np.int64)
