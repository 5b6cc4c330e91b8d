"""Compare the candidate with a baseline by estimates from measured networks, where both are within their support.

Networks of the same parts and size are compared by their signals, as AZ-NAS does: a damaged network has the size of its
original. So are those of the same parts that are outside the support. For the others nothing here says which is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

from aznas_onnx.calibration import Calibration, EstimatedGap, compare, estimate, has_same_parts, outside
from aznas_onnx.gating.baseline_check import BaselineCheck
from aznas_onnx.gating.policy import Policy
from aznas_onnx.gating.result import Check
from aznas_onnx.gating.seeded_scores import SeededScores
from aznas_onnx.gating.sequential_test import Decision
from aznas_onnx.gating.statistical_check import Decide, StatisticalCheck
from aznas_onnx.results import ProxyScores, ProxyValue

__all__ = ["REACH", "EstimateCheck"]

REACH = 0.6  # standard deviations of a difference: docs/real-networks.md has the errors
_SAME_SIZE = 0.02  # of MACs and parameters
_MOST_CAUSES = 3
_WORTH_NAMING = 0.1  # points
_DECIDES = "train both, or calibrate on networks that you have measured"


@dataclass(slots=True, kw_only=True)
class EstimateCheck(StatisticalCheck):
    """That the candidate is not estimated to be worse than a baseline."""

    baseline: SeededScores
    policy: Policy
    calibration: Calibration
    accepts_smaller: bool = False  # the candidate is smaller, which the policy allows

    def run(self, decide_on: Decide) -> list[Check]:
        """Return the defects of the candidate, if any; else the comparison."""
        signals = BaselineCheck(
            candidate=self.candidate, baseline=self.baseline, policy=self.policy, warnings=self.warnings
        )
        broken = signals.broken()
        if broken:
            return broken
        candidate, baseline = _averaged(self.candidate), _averaged(self.baseline)
        if not (candidate.design and baseline.design):
            return signals.run(decide_on)
        is_kin = has_same_parts(candidate.design, baseline.design)
        reasons = {one.model: outside(one, self.calibration) for one in (candidate, baseline)}
        unsupported = {model: reason for model, reason in reasons.items() if reason}
        if self.accepts_smaller:
            checks = signals.run(decide_on) if is_kin else [self._smaller(candidate, baseline)]
            least = None if candidate.model in unsupported else self.policy.min_estimate
            return checks if least is None else [*checks, self._floor(candidate, least)]
        if is_kin and (unsupported or _is_same_size(candidate, baseline)):
            return signals.run(decide_on)
        if unsupported:
            return [self._check(Decision.INCONCLUSIVE, self._why_not(unsupported))]
        checks = [self._compared(candidate, baseline)]
        if self.policy.min_estimate is not None:
            checks.append(self._floor(candidate, self.policy.min_estimate))
        return checks

    def _compared(self, candidate: ProxyScores, baseline: ProxyScores) -> Check:
        found = compare(candidate, baseline, self.calibration)
        allowed = self._allowed_drop(candidate, baseline)
        margin, above = REACH * found.deviation, found.difference + allowed
        if above >= margin:
            verdict = Decision.PASS
        else:
            verdict = Decision.REJECT if above < -margin else Decision.INCONCLUSIVE
        return self._check(
            verdict, self._comparison(verdict, found, candidate, baseline, allowed), found.difference, -allowed
        )

    def _comparison(
        self, verdict: Decision, found: EstimatedGap, candidate: ProxyScores, baseline: ProxyScores, allowed: float
    ) -> str:
        mine, theirs = estimate(candidate, self.calibration), estimate(baseline, self.calibration)
        side = "higher" if found.difference >= 0 else "lower"
        amount = f"estimated {abs(found.difference):.1f} points {side} than {baseline.model}"
        values = f"{mine.value:.1f} and {theirs.value:.1f}, ±{found.deviation:.1f}; {allowed:.2g} lower is allowed"
        if verdict is Decision.PASS:
            return f"{amount} ({values})"
        if verdict is Decision.INCONCLUSIVE:
            return f"{amount} ({values}), which does not decide: {_DECIDES}"
        gaps = ((mine.terms[name] - theirs.terms[name], name) for name in mine.terms)
        lowest = sorted((gap, name) for gap, name in gaps if gap < -_WORTH_NAMING)[:_MOST_CAUSES]
        causes = ", ".join(f"{name} {gap:.1f}" for gap, name in lowest) or "no one trait"
        return f"{amount} ({values}): {causes}"

    def _allowed_drop(self, candidate: ProxyScores, baseline: ProxyScores) -> float:
        """Return the points that a candidate may be lower: more of them where it has fewer MACs."""
        if not candidate.macs or not baseline.macs:
            return self.policy.max_drop
        halvings = max(0.0, math.log2(baseline.macs / candidate.macs))
        return self.policy.max_drop + self.policy.drop_per_halving * halvings

    def _floor(self, candidate: ProxyScores, least: float) -> Check:
        found = estimate(candidate, self.calibration)
        reason = f"estimated {found.value:.1f} ({found.low:.1f} to {found.high:.1f}), {least:g} is needed"
        if found.value >= least:
            return self._check(Decision.PASS, reason, found.value, least, rule="min_estimate")
        verdict = Decision.REJECT if found.high < least else Decision.INCONCLUSIVE
        return self._check(verdict, reason, found.value, least, rule="min_estimate")

    def _smaller(self, candidate: ProxyScores, baseline: ProxyScores) -> Check:
        """Pass a smaller network of another design, whose signals say nothing about the baseline's."""
        counts = {"MACs": (candidate.macs, baseline.macs), "parameters": (candidate.params, baseline.params)}
        changes = ", ".join(f"{noun} {100 * (a / b - 1):+.0f} %" for noun, (a, b) in counts.items() if a and b)
        reason = f"smaller than {self.baseline.model}, which allow-smaller accepts: {changes}"
        return self._check(Decision.PASS, reason, rule="smaller")

    def _why_not(self, unsupported: dict[str, str]) -> str:
        reasons = "; ".join(f"{model}: {reason}" for model, reason in unsupported.items())
        return (
            f"the candidate and {self.baseline.model} are of different designs, and {self.calibration.name} does not "
            f"estimate them ({reasons}): {_DECIDES}"
        )

    def _check(
        self,
        verdict: Decision,
        reason: str,
        value: float | None = None,
        limit: float | None = None,
        rule: str = "baseline_estimate",
    ) -> Check:
        return Check(rule=rule, verdict=verdict, reason=reason, against=self.baseline.model, value=value, limit=limit)


def _averaged(scored: SeededScores) -> ProxyScores:
    """Return the scores with the mean of each proxy over all seeds."""
    last = scored.last
    means = scored.means()
    values = {
        name: one if means.get(name) is None else ProxyValue(mean=means[name]) for name, one in last.proxies.items()
    }
    return replace(last, proxies=MappingProxyType(values))


def _is_same_size(one: ProxyScores, other: ProxyScores) -> bool:
    pairs = ((one.macs, other.macs), (one.params, other.params))
    return all(a and b and abs(a - b) <= _SAME_SIZE * b for a, b in pairs)
