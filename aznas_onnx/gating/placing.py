"""The candidate's place in a population. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aznas_onnx.gating.cohort import log_rank_scores, percentile, population_score
from aznas_onnx.gating.evidence import Verdict, jackknife
from aznas_onnx.gating.noisy import Decide, NoisyCheck
from aznas_onnx.gating.population import Population
from aznas_onnx.gating.result import Check

__all__ = ["ReferenceCheck"]


@dataclass(slots=True, kw_only=True)
class ReferenceCheck(NoisyCheck):
    """That the candidate has its place in a population."""

    population: Population
    min_percentile: float

    def run(self, decide_on: Decide) -> list[Check]:
        """Return what is broken in the candidate, if anything; else the comparison of percentiles."""
        population = self.population
        names = [name for name in population.proxies if self.candidate.applies(name)]
        for name in set(population.proxies) - set(names):
            self.warn(f"{name} takes no part in the comparison with {population.name}: {self.candidate.model} has none")
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
