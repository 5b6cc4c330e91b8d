"""Trainability: how close to 1 the spectral norms of the blocks' Jacobians are (Sec. 3.1, Eq. 6-11)."""

from __future__ import annotations

import math

from aznas_onnx.proxies.engine.evidence import BlockEvidence, Evidence, Outcome
from aznas_onnx.proxies.registry import Direction, Need, Proxy

__all__ = ["SIGMA_OFFSET", "TRAINABILITY"]

_MOST_GROWTH = 100.0  # of a gradient in one block; with more than that, or less than its reciprocal, nothing trains
SIGMA_OFFSET = 1e-6  # of the published code: a block that lets nothing through scores about -1e6


def _evaluate(evidence: Evidence) -> Outcome:
    later = evidence.blocks[1:]
    measured = [block for block in later if block.sigma is not None]
    if not measured:
        reason = later[0].unmeasured if later else "the network has one primary block, and gradients pass between two"
        return Outcome(value=math.nan, reason=reason)
    for block in measured:
        if block.is_identity:
            return Outcome(value=-math.inf, reason=f"block {block.name!r} passes its input through unchanged")
        if block.sigma is None or not math.isfinite(block.sigma):
            return Outcome(value=-math.inf, reason=f"the gradient of block {block.name!r} is not finite")
    value = math.fsum(map(_score, measured)) / len(measured)
    warnings = tuple(f"left out of trainability: {block.unmeasured}" for block in later if block.unmeasured)
    return Outcome(value=value, warnings=warnings)


def _doubt(evidence: Evidence, value: float) -> str:
    """A block that multiplies gradients by a hundred, or by a hundredth, scores -98."""
    least = _score_of(_MOST_GROWTH)
    if least <= value <= SIGMA_OFFSET:
        return ""
    measured = [block for block in evidence.blocks if block.sigma is not None]
    worst = min(measured, key=_score)
    return (
        f"it lies between {least:.0f} and 0 where gradients pass, and block {worst.name!r} multiplies them by "
        f"{worst.sigma:.1e}; see whether the blocks are the ones you mean (`aznas inspect`)"
    )


def _score(block: BlockEvidence) -> float:
    return _score_of(block.sigma or 0.0)


def _score_of(sigma: float) -> float:
    """Eq. 11: 0 where the spectral norm is 1, equally low for s and 1/s."""
    return -sigma - 1.0 / (sigma + SIGMA_OFFSET) + 2.0


TRAINABILITY = Proxy(
    name="trainability",
    description="mean closeness to 1 of the spectral norm of each block's Jacobian",
    equation="AZ-NAS (CVPR 2024), Eq. 6-11",
    direction=Direction.HIGHER_IS_BETTER,
    needs=Need.GRADIENTS,
    evaluate=_evaluate,
    origin="AZ-NAS: Lee and Ham, CVPR 2024",
    cost="the pass of AZ-NAS: one forward and one backward",
    fidelity="as published",
    doubt=_doubt,
)
