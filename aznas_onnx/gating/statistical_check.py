"""Shared parts of the checks on random scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aznas_onnx.gating.result import Check
from aznas_onnx.gating.seeded_scores import SeededScores
from aznas_onnx.gating.sequential_test import Decision, Estimate, decide

__all__ = ["Decide", "StatisticalCheck", "decider"]

Decide = Callable[[Estimate, float], Decision]


def decider(confidence: float, *, n_looks: int, n_checks: int) -> Decide:
    """Return the rule for an estimate and a limit, with the error rate split over checks and interim looks."""
    each = 1 - (1 - confidence) / n_checks
    return lambda estimate, limit: decide(estimate, limit, confidence=each, n_looks=n_looks)


@dataclass(slots=True, kw_only=True)
class StatisticalCheck:
    """A check that is tried again with more seeds until it is decided; it collects warnings on the way."""

    candidate: SeededScores
    warnings: list[str] = field(default_factory=list)

    def run(self, decide_on: Decide) -> list[Check]:
        """Return the checks as they stand with the seeds so far."""
        raise NotImplementedError

    def warn(self, sentence: str) -> None:
        """Add a warning, once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)
