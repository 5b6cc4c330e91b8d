"""Checks without scores: budgets, shortcuts, latency."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aznas_onnx.counts import format_bytes, format_count
from aznas_onnx.gating.model_counts import ModelCounts
from aznas_onnx.gating.policy import Policy
from aznas_onnx.gating.result import Check
from aznas_onnx.gating.sequential_test import Decision
from aznas_onnx.graph import Value
from aznas_onnx.latency import Latency, Stopwatch

__all__ = ["Latencies", "budget_checks", "latency_checks", "measure_latencies", "shortcut_checks"]

_ROUNDS = 5
_FEWEST, _MOST = 4, 8  # short rounds within one


def budget_checks(counts: ModelCounts, policy: Policy) -> list[Check]:
    """Compare counts with their budgets."""
    budgets = (
        ("max_macs", "MACs", counts.macs, policy.max_macs, format_count),
        ("max_params", "parameters", counts.params, policy.max_params, format_count),
        ("max_activation_bytes", "of activations", counts.activation_bytes, policy.max_activation_bytes, format_bytes),
    )
    checks = []
    for rule, noun, value, limit, show in budgets:
        if limit is not None:
            actual, allowed = show(value), show(limit)
            if actual == allowed and value != limit:
                actual, allowed = f"{value:,}", f"{limit:,}"
            verdict = Decision.PASS if value <= limit else Decision.REJECT
            word = "within" if verdict is Decision.PASS else "over"
            reason = f"{actual} {noun}, {word} the budget of {allowed}"
            checks.append(Check(rule=rule, verdict=verdict, reason=reason, value=value, limit=limit))
    return checks


def shortcut_checks(candidate: ModelCounts, baselines: Sequence[ModelCounts], policy: Policy) -> list[Check]:
    """Check for lost skip connections.

    The proxies measure block by block and miss them: a plain block can score higher than a residual one. The check
    compares the shortest path through the network, in layers with weights, with the longest.
    """
    checks = []
    for baseline in baselines if policy.min_shortcuts else ():
        if not baseline.shortcuts:
            continue
        kept = candidate.shortcuts / baseline.shortcuts
        verdict = Decision.PASS if kept >= policy.min_shortcuts else Decision.REJECT
        paths = f"the shortest path takes {candidate.shortest} of {candidate.depth} layers"
        beside = f"in {baseline.model} {baseline.shortest} of {baseline.depth}"
        what = "skip connections are kept" if verdict is Decision.PASS else "skip connections are missing"
        checks.append(
            Check(
                rule="shortcuts",
                verdict=verdict,
                reason=f"{what}: {paths}, {beside}",
                against=baseline.model,
                value=kept,
                limit=policy.min_shortcuts,
            )
        )
    return checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """The latency of one sample of a model, in each round."""

    model: str
    rounds: tuple[Latency, ...]

    @property
    def rounds_ms(self) -> tuple[float, ...]:
        """Milliseconds, one for each round."""
        return tuple(one.ms for one in self.rounds)

    @property
    def median_ms(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds_ms)

    @property
    def doubt(self) -> str | None:
        """A sentence where other work ran meanwhile; None where it did not."""
        loaded = [one for one in self.rounds if one.is_loaded]
        if 2 * len(loaded) <= len(self.rounds):
            return None
        waited = statistics.median(one.waited for one in loaded)
        return (
            f"other work ran while its latency was measured (it waited {waited:.0%} of the time), so that "
            f"{self.median_ms:.3g} ms may be too high"
        )


def measure_latencies(counts: Sequence[ModelCounts], values: Mapping[str, Value]) -> list[Latencies]:
    """Measure models in turns, so that other load affects all of them equally.

    Raises ModelError if ONNX Runtime cannot run one.
    """
    watches = [(read, Stopwatch(read.path, read.run_shapes, values)) for read in counts]
    rounds: list[list[Latency]] = [[] for _ in counts]
    for _ in range(_ROUNDS):
        for taken, (one, watch) in zip(rounds, watches, strict=True):
            taken.append(watch.measure(fewest=_FEWEST, most=_MOST).divided(one.run_batch))
    return [Latencies(model=one.model, rounds=tuple(taken)) for one, taken in zip(counts, rounds, strict=True)]


def latency_checks(candidate: Latencies, baselines: Sequence[Latencies], policy: Policy) -> list[Check]:
    """Compare latencies with their limits, round by round."""
    checks = []
    if policy.max_latency is not None:
        limit = policy.max_latency
        reason = f"{candidate.median_ms:.3g} ms a sample, {{}} {limit:g} ms"
        checks.append(_of_rounds("max_latency", candidate.rounds_ms, limit, reason, None))
    for baseline in baselines if policy.max_latency_ratio is not None else ():
        limit = policy.max_latency_ratio or 0.0
        pairs = zip(candidate.rounds_ms, baseline.rounds_ms, strict=True)
        ratios = tuple(mine / theirs for mine, theirs in pairs)
        reason = (
            f"{candidate.median_ms:.3g} ms a sample, {statistics.median(ratios):.2f} times {baseline.model} "
            f"({baseline.median_ms:.3g} ms); {{}} {limit:g} times"
        )
        checks.append(_of_rounds("max_latency_ratio", ratios, limit, reason, baseline.model))
    return checks


def _of_rounds(rule: str, rounds: Sequence[float], limit: float, reason: str, against: str | None) -> Check:
    """Reject a latency over the limit in every round; over it in most rounds only is inconclusive."""
    median = statistics.median(rounds)
    if median <= limit:
        verdict, word = Decision.PASS, "allowed are"
    elif min(rounds) > limit:
        verdict, word = Decision.REJECT, "more than the allowed"
    else:
        verdict, word = Decision.INCONCLUSIVE, "too noisy to tell from the allowed"
    return Check(rule=rule, verdict=verdict, reason=reason.format(word), against=against, value=median, limit=limit)
