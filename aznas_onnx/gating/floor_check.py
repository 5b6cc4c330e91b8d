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
            undefined = f"{name} is not defined for this kind of network, so that its floor of {self.floor:g}"
            return [self._check(Decision.INCONCLUSIVE, f"{undefined} decides nothing")]
        lost = self.candidate.missing(name)
        if lost:
            return [self._check(Decision.REJECT, f"no {name}, and at least {self.floor:g} is demanded: {lost}")]
        sign = -1.0 if PROXIES[name].direction is Direction.LOWER_IS_BETTER else 1.0
        estimate = jackknife(lambda means: sign * means[name], {name: self.candidate.values(name)})
        verdict = decide_on(estimate, sign * self.floor)
        allowed = "least" if sign > 0 else "most"
        word = {
            Decision.PASS: f"and at {allowed}",
            Decision.REJECT: f"where at {allowed}",
            Decision.INCONCLUSIVE: f"too noisy to tell, where at {allowed}",
        }[verdict]
        value, stderr = sign * estimate.value, estimate.stderr
        reason = f"{name} {value:.4g} ±{stderr:.2g}, {word} {self.floor:g} is demanded"
        return [self._check(verdict, reason, value, stderr if math.isfinite(stderr) else None)]

    def _check(self, verdict: Decision, reason: str, value: float | None = None, stderr: float | None = None) -> Check:
        return Check(
            rule="floor",
            verdict=verdict,
            reason=reason,
            against=self.proxy,
            value=value,
            limit=self.floor,
            stderr=stderr,
        )
