"""Compare the candidate with a baseline: missing proxies and a lower score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aznas_onnx.gating.policy import COMPARED, Policy
from aznas_onnx.gating.result import Check
from aznas_onnx.gating.seeded_scores import SeededScores
from aznas_onnx.gating.sequential_test import Decision, Estimate, jackknife
from aznas_onnx.gating.statistical_check import Decide, StatisticalCheck
from aznas_onnx.proxies.from_blocks import IDLE_BLOCKS, IDLE_SENTENCE
from aznas_onnx.ranking import Ensemble, for_cohort
from aznas_onnx.references.rank_scores import difference, terms

__all__ = ["BaselineCheck"]

_MOST_CAUSES = 3  # of the proxies that made a difference, so many
_WORTH_NAMING = -0.05
_SAME = 0.005
_MANY_SEEDS = 6

Floats = npt.NDArray[np.float64]


@dataclass(slots=True, kw_only=True)
class BaselineCheck(StatisticalCheck):
    """That the candidate is not worse than a baseline."""

    baseline: SeededScores
    policy: Policy

    def run(self, decide_on: Decide) -> list[Check]:
        """Return the defects of the candidate, if any; else the comparison of scores."""
        broken = self.broken()
        if broken:
            return broken
        names = self._compared()
        if not names:
            reason = f"nothing can be compared with {self.baseline.model}: no proxy applies to both"
            return [self._check(Decision.INCONCLUSIVE, reason)]
        per_seed: dict[str, Floats] = {}
        for name in names:
            per_seed[f"c:{name}"], per_seed[f"b:{name}"] = self.candidate.values(name), self.baseline.values(name)

        ensemble = self._ensemble()

        def score(means: Mapping[str, float]) -> float:
            mine, theirs = ({name: means[f"{which}:{name}"] for name in names} for which in "cb")
            return difference(mine, theirs, ensemble, self.policy.spreads)

        estimate = jackknife(score, per_seed)
        verdict = decide_on(estimate, -self.policy.tolerance)
        return [self._check(verdict, self._comparison(estimate, verdict, names), estimate)]

    def broken(self) -> list[Check]:
        """Return a rejection if the candidate has a missing proxy or idle blocks that the baseline does not have."""
        by_reason: dict[str, list[str]] = {}
        for name in self.policy.compared:
            if self.candidate.applies(name) and self.baseline.applies(name) and self._is_lost(name):
                by_reason.setdefault(self.candidate.reason(name), []).append(name)
        reasons = [
            f"{reason}: no {' and no '.join(names)}, which {self.baseline.model} has"
            for reason, names in by_reason.items()
        ]
        idle, usual = (
            float(np.nanmedian(scored.values(IDLE_BLOCKS.name))) for scored in (self.candidate, self.baseline)
        )
        if idle > usual and not reasons:
            idle_warnings = [warning for warning in self.candidate.warnings if IDLE_SENTENCE in warning]
            reasons.append(f"{idle_warnings[0]} ({self.baseline.model} has {usual:g} such blocks)")
        return [self._check(Decision.REJECT, reason, rule="defined") for reason in reasons]

    def _is_lost(self, name: str) -> bool:
        """Whether the baseline has a proxy under every seed, and the candidate under none, or under half of many."""
        lost, kept = self.candidate.n_missing(name), self.baseline.n_missing(name) == 0
        seeds = self.candidate.seeds
        return kept and (lost == seeds or (seeds >= _MANY_SEEDS and 2 * lost >= seeds))

    def _ensemble(self) -> Ensemble:
        """Return how the proxies are combined; of adaptive ones those that count for what varies between the two."""
        return for_cohort(self.policy.ensemble, (self.candidate.proxies, self.baseline.proxies))[0]

    def _compared(self) -> list[str]:
        """Return the proxies that count and that both have."""
        names = []
        ensemble = self._ensemble()
        for name in filter(ensemble.weight, self.policy.compared):
            ones = (self.candidate, self.baseline)
            applying = [scored.applies(name) for scored in ones]
            lacking = [
                scored.model
                for scored, applies in zip(ones, applying, strict=True)
                if applies and scored.n_missing(name) == scored.seeds
            ]
            if all(applying) and not lacking:
                names.append(name)
            elif any(applying):
                who = " and ".join(lacking) or next(d.model for d, a in zip(ones, applying, strict=True) if not a)
                self.warn(f"{name} takes no part in the comparison with {self.baseline.model}: {who} has none")
        return names

    @property
    def _score(self) -> str:
        return "signal score" if set(self.policy.compared) <= set(COMPARED) else "score"

    def _comparison(self, estimate: Estimate, verdict: Decision, names: Sequence[str]) -> str:
        value = estimate.value
        amount = f"{abs(value):.2f} {'above' if value >= 0 else 'below'} {self.baseline.model}"
        noise = f"±{estimate.stderr:.2g} over {estimate.seeds} seeds"
        tolerated = f"{self.policy.tolerance:g} below is tolerated"
        if verdict is Decision.PASS:
            same = abs(value) < _SAME
            return f"{self._score} {f'equal to {self.baseline.model}' if same else amount} ({noise}; {tolerated})"
        mine, theirs = (
            {name: float(np.nanmean(scored.values(name))) for name in names}
            for scored in (self.candidate, self.baseline)
        )
        changes = terms(mine, theirs, self._ensemble(), self.policy.spreads)
        parts = sorted((part, name) for name, part in changes.items() if part < _WORTH_NAMING)
        drivers = ", ".join(_change(name, mine[name], theirs[name]) for _, name in parts[:_MOST_CAUSES])
        causes = drivers or "no one proxy"
        if verdict is Decision.REJECT:
            return f"{self._score} {amount} ({noise}; {tolerated}): {causes}"
        doubt = "not certain yet whether that is within the tolerance"
        return f"{self._score} {amount}, {doubt} ({noise}; {tolerated}): {causes}"

    def _check(
        self, verdict: Decision, reason: str, estimate: Estimate | None = None, rule: str = "baseline_score"
    ) -> Check:
        return Check(
            rule=rule,
            verdict=verdict,
            reason=reason,
            against=self.baseline.model,
            value=None if estimate is None else estimate.value,
            limit=None if estimate is None else -self.policy.tolerance,
            stderr=None if estimate is None or not math.isfinite(estimate.stderr) else estimate.stderr,
        )


def _change(name: str, value: float, before: float) -> str:
    """Return what became of a proxy, in words: ``MACs -75 %``, ``trainability -0.12 to -0.48``."""
    if name in ("macs", "expressivity") and before > 0:
        noun = "MACs" if name == "macs" else name
        return f"{noun} {100 * (value / before - 1):+.0f} %"
    digits = ".2f" if max(abs(before), abs(value)) < 1e3 else ".3g"
    return f"{name} from {before:{digits}} to {value:{digits}}"
