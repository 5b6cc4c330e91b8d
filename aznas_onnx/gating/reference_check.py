"""The candidate's percentile in a reference set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.gating.result import Check
from aznas_onnx.gating.sequential_test import Decision, jackknife
from aznas_onnx.gating.statistical_check import Decide, StatisticalCheck
from aznas_onnx.references.rank_scores import log_rank_scores, percentile, reference_score
from aznas_onnx.references.reference_set import ReferenceSet

__all__ = ["ReferenceCheck"]


@dataclass(slots=True, kw_only=True)
class ReferenceCheck(StatisticalCheck):
    """That the candidate has its place in a reference set."""

    reference_set: ReferenceSet
    min_percentile: float

    def run(self, decide_on: Decide) -> list[Check]:
        """Return the defects of the candidate, if any; else the comparison of percentiles.

        Raises SettingsError if the candidate has none of the reference set's proxies.
        """
        reference_set = self.reference_set
        names = [name for name in reference_set.proxies if self.candidate.applies(name)]
        for name in (name for name in reference_set.proxies if name not in names):
            self.warn(
                f"{name} takes no part in the comparison with {reference_set.name}: {self.candidate.model} has none"
            )
        if not names:
            raise SettingsError(
                f"reference set {reference_set.name!r} cannot judge {self.candidate.model}: it holds "
                f"{', '.join(reference_set.proxies)} only, and none of these is there for the network; "
                "build a reference set with the proxies that the gate compares"
            )
        missing = {name: self.candidate.missing(name) for name in names}
        lost = [name for name, reason in missing.items() if reason]
        if lost:
            reason = f"{missing[lost[0]]}: no {' and no '.join(lost)}, which networks of {reference_set.name} have"
            return [Check(rule="defined", verdict=Decision.REJECT, reason=reason, against=reference_set.name)]
        members = log_rank_scores(reference_set, tuple(names))
        limit = float(np.percentile(members, self.min_percentile))
        per_seed = {name: self.candidate.values(name) for name in names}
        estimate = jackknife(lambda means: reference_score(means, reference_set), per_seed)
        verdict = decide_on(estimate, limit)
        place = percentile(estimate.value, members)
        word = {
            Decision.PASS: "at least",
            Decision.REJECT: "below the demanded",
            Decision.INCONCLUSIVE: "too noisy to tell from the demanded",
        }[verdict]
        reason = (
            f"percentile {place:.0f} of {reference_set.name}, {word} {self.min_percentile:g} "
            f"(AZ score {estimate.value:.2f} ±{estimate.stderr:.2g}, {limit:.2f} is needed)"
        )
        return [
            Check(
                rule="min_percentile",
                verdict=verdict,
                reason=reason,
                against=reference_set.name,
                value=place,
                limit=self.min_percentile,
            )
        ]
