"""The candidate's place in a population. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.gating.cohort import log_rank_scores, percentile, population_score
from aznas_onnx.gating.evidence import Verdict, jackknife
from aznas_onnx.gating.noisy import Decide, NoisyCheck
from aznas_onnx.gating.population import Population
from aznas_onnx.gating.result import Check
from aznas_onnx.ranking import Ranking
from aznas_onnx.results import ProxyScores, Status

__all__ = ["Placement", "ReferenceCheck", "place", "rank_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one network stands in a population.

    Attributes
    ----------
    az_score
        Eq. 12 over the population: the sum of ln(rank share) over proxies; at most 0, higher is better.
    percentile
        The share of members, in percent, whose AZ score is not above its own; ties count half.
    percentiles
        The same for each proxy; 0 where the network has no finite value.
    """

    az_score: float
    percentile: float
    percentiles: Mapping[str, float]


def place(scores: ProxyScores, population: Population) -> Placement | None:
    """Place a score in a population by the proxies that both have; None where it failed or they share none.

    The score must have been made with the population's settings; see :meth:`PopulationSettings.refuse_others`.
    """
    names = tuple(name for name in population.proxies if name in scores.proxies and scores.proxies[name].applies)
    if scores.status is not Status.OK or not names:
        return None
    means = {name: scores.proxies[name].mean for name in names}
    values = {name: -math.inf if mean is None else mean for name, mean in means.items()}
    score = population_score(values, population)
    return Placement(
        az_score=score,
        percentile=percentile(score, log_rank_scores(population, names)),
        percentiles=MappingProxyType(
            {name: percentile(value, np.asarray(population.column(name))) for name, value in values.items()}
        ),
    )


def rank_in(scores: Sequence[ProxyScores], population: Population) -> tuple[Ranking, tuple[Placement | None, ...]]:
    """Rank networks by their AZ scores in a population, and return their places in it.

    Unlike those of :func:`aznas_onnx.ranking.rank`, the scores do not depend on which other networks are given.
    """
    places = tuple(place(one, population) for one in scores)
    found = [(one.az_score, index) for index, one in enumerate(places) if one is not None]
    order = tuple(index for _, index in sorted(found, key=lambda pair: (-pair[0], pair[1])))
    left_out = dict.fromkeys(
        f"{name} takes no part in the place in {population.name}: it is not there for {one.model}"
        for one in scores
        if one.status is Status.OK
        for name in population.proxies
        if name not in one.proxies or not one.proxies[name].applies
    )
    ranking = Ranking(
        az_score=tuple(None if one is None else one.az_score for one in places),
        rank=tuple(None if one is None else 1 + sum(other > one.az_score for other, _ in found) for one in places),
        order=order,
        proxies=population.proxies,
        warnings=tuple(left_out),
    )
    return ranking, places


@dataclass(slots=True, kw_only=True)
class ReferenceCheck(NoisyCheck):
    """That the candidate has its place in a population."""

    population: Population
    min_percentile: float

    def run(self, decide_on: Decide) -> list[Check]:
        """Return what is broken in the candidate, if anything; else the comparison of percentiles.

        Raises
        ------
        SettingsError
            If the candidate has none of the population's proxies.
        """
        population = self.population
        names = [name for name in population.proxies if self.candidate.applies(name)]
        for name in (name for name in population.proxies if name not in names):
            self.warn(f"{name} takes no part in the comparison with {population.name}: {self.candidate.model} has none")
        if not names:
            raise SettingsError(
                f"reference {population.name!r} cannot judge {self.candidate.model}: it holds "
                f"{', '.join(population.proxies)} only, and none of these is there for the network; "
                "build a reference with the proxies that the gate compares"
            )
        missing = {name: self.candidate.missing(name) for name in names}
        lost = [name for name, reason in missing.items() if reason]
        if lost:
            reason = f"{missing[lost[0]]}: no {' and no '.join(lost)}, which networks of {population.name} have"
            return [Check(rule="defined", verdict=Verdict.REJECT, reason=reason, against=population.name)]
        members = log_rank_scores(population, tuple(names))
        limit = float(np.percentile(members, self.min_percentile))
        draws = {name: self.candidate.values(name) for name in names}
        estimate = jackknife(lambda means: population_score(means, population), draws)
        verdict = decide_on(estimate, limit)
        place = percentile(estimate.value, members)
        word = {
            Verdict.PASS: "at least",
            Verdict.REJECT: "below the demanded",
            Verdict.INCONCLUSIVE: "too noisy to tell from the demanded",
        }[verdict]
        reason = (
            f"percentile {place:.0f} of {population.name}, {word} {self.min_percentile:g} "
            f"(AZ score {estimate.value:.2f} ±{estimate.stderr:.2g}, {limit:.2f} is needed)"
        )
        return [
            Check(
                rule="min_percentile",
                verdict=verdict,
                reason=reason,
                against=population.name,
                value=place,
                limit=self.min_percentile,
            )
        ]
