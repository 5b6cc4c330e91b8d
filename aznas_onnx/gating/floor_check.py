"""Floors of single proxies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aznas_onnx.gating.result import Check
from aznas_onnx.gating.sequential_test import Decision, jackknife
from aznas_onnx.gating.statistical_check import Decide, StatisticalCheck
from aznas_onnx.proxies import PROXIES, Direction

__all__ = ["FloorCheck"]


@dataclass(slots=True, kw_only=True)
class FloorCheck(StatisticalCheck):
    """That one proxy is not below its floor; for a proxy of which less is better, not above."""

    proxy: str
    floor: float

    def run(self, decide_on: Decide) -> list[Check]:
        """Return the comparison with the floor."""
        name = self.proxy
        if not self.candidate.applies(name):
            reason = (
                f"{name} is not defined for this kind of network, so that its floor of {self.floor:g} decides nothing"
            )
            return [Check(rule="floor", verdict=Decision.INCONCLUSIVE, reason=reason, against=name, limit=self.floor)]
        lost = self.candidate.missing(name)
        if lost:
            reason = f"no {name}, and at least {self.floor:g} is demanded: {lost}"
            return [Check(rule="floor", verdict=Decision.REJECT, reason=reason, against=name, limit=self.floor)]
        sign = -1.0 if PROXIES[name].direction is Direction.LOWER_IS_BETTER else 1.0
        estimate = jackknife(lambda means: sign * means[name], {name: self.candidate.values(name)})
        verdict = decide_on(estimate, sign * self.floor)
        allowed = "least" if sign > 0 else "most"
        word = {
            Decision.PASS: f"and at {allowed}",
            Decision.REJECT: f"where at {allowed}",
            Decision.INCONCLUSIVE: f"too noisy to tell, where at {allowed}",
        }[verdict]
        reason = f"{name} {sign * estimate.value:.4g} ±{estimate.stderr:.2g}, {word} {self.floor:g} is demanded"
        return [
            Check(
                rule="floor",
                verdict=verdict,
                reason=reason,
                against=name,
                value=sign * estimate.value,
                limit=self.floor,
                stderr=estimate.stderr if math.isfinite(estimate.stderr) else None,
            )
        ]
