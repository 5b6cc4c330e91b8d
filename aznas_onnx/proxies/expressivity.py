"""Expressivity: how evenly a network's features spread over their directions (Sec. 3.1, Eq. 1-4)."""

from __future__ import annotations

import math

from aznas_onnx.proxies.engine.evidence import Evidence, Outcome
from aznas_onnx.proxies.registry import Direction, Need, Proxy

__all__ = ["EXPRESSIVITY", "ROUNDING", "largest_entropies", "unmeasurable_features"]

ROUNDING = 1e-3  # of an entropy


def _evaluate(evidence: Evidence) -> Outcome:
    reason = unmeasurable_features(evidence)
    if reason is not None:
        return Outcome(value=-math.inf, reason=reason)
    return Outcome(value=math.fsum(block.entropy for block in evidence.blocks if block.entropy is not None))


def largest_entropies(evidence: Evidence) -> list[float]:
    """Return the largest possible entropy of each block's features: equal variance in every direction."""
    return [math.log(block.directions) for block in evidence.blocks if block.directions]


def _doubt(evidence: Evidence, value: float) -> str:
    largest, slack = math.fsum(largest_entropies(evidence)), ROUNDING * len(evidence.blocks)
    if -slack <= value <= largest + slack:
        return ""
    return f"the entropies of {len(evidence.blocks)} blocks lie between 0 and {largest:.4g} in all"


def unmeasurable_features(evidence: Evidence) -> str | None:
    """Return which block has features without an entropy, and why; None where all have one."""
    for block in evidence.blocks:
        if block.entropy is None:
            continue
        if math.isnan(block.entropy):
            is_constant = block.variance == 0.0
            return f"the features of block {block.name!r} are {'constant' if is_constant else 'not finite'}"
        if evidence.as_published and block.is_singular:
            return (
                f"the features of block {block.name!r} lie in a subspace: their covariance is singular to rounding, "
                "where the published code gives minus infinity"
            )
    return None


EXPRESSIVITY = Proxy(
    name="expressivity",
    description="entropy of the spectrum of the feature covariance, summed over blocks",
    equation="AZ-NAS (CVPR 2024), Eq. 1-4",
    direction=Direction.HIGHER_IS_BETTER,
    needs=Need.FEATURES,
    evaluate=_evaluate,
    origin="AZ-NAS: Lee and Ham, CVPR 2024",
    cost="the forward half of the pass of AZ-NAS",
    fidelity="as published",
    doubt=_doubt,
)
