"""The four proxies of AZ-NAS (CVPR 2024), from the evidence of each block."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from aznas_onnx.proxies.engine.evidence import BlockEvidence, Evidence, Outcome
from aznas_onnx.proxies.proxy import Direction, Need, Proxy

__all__ = ["AZ", "MACS", "ROUNDING", "SIGMA_OFFSET", "largest_entropies", "of_entropies"]

ROUNDING = 1e-3  # of an entropy
SIGMA_OFFSET = 1e-6  # of the published code: a block that lets nothing through scores about -1e6
_MOST_GROWTH = 100.0  # of a gradient in one block; with more than that, or less than its reciprocal, nothing trains

_az = partial(
    Proxy,
    direction=Direction.HIGHER_IS_BETTER,
    origin="AZ-NAS: Lee and Ham, CVPR 2024",
    fidelity="as published",
)


# ---- expressivity: how evenly features spread over their directions (Sec. 3.1, Eq. 1-4) --------------------------
def of_entropies(evidence: Evidence, value: Callable[[list[float]], float]) -> Outcome:
    """Return a number of the blocks' entropies; minus infinity where the features of a block have none."""
    reason = _unmeasurable_features(evidence)
    if reason is not None:
        return Outcome(value=-math.inf, reason=reason)
    return Outcome.of(value([block.entropy for block in evidence.blocks if block.entropy is not None]))


def largest_entropies(evidence: Evidence) -> list[float]:
    """Return the largest possible entropy of each block's features: equal variance in every direction."""
    return [math.log(block.directions) for block in evidence.blocks if block.directions]


def _unmeasurable_features(evidence: Evidence) -> str | None:
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


def _expressivity(evidence: Evidence) -> Outcome:
    return of_entropies(evidence, math.fsum)


def _doubt_expressivity(evidence: Evidence, value: float) -> str:
    largest, slack = math.fsum(largest_entropies(evidence)), ROUNDING * len(evidence.blocks)
    if -slack <= value <= largest + slack:
        return ""
    return f"the entropies of {len(evidence.blocks)} blocks lie between 0 and {largest:.4g} in all"


# ---- progressivity: the smallest gain in expressivity from one block to the next (Sec. 3.1, Eq. 5) ---------------
def _progressivity(evidence: Evidence) -> Outcome:
    found = of_entropies(evidence, _smallest_gain)
    if math.isnan(found.value):
        return Outcome(value=math.nan, reason="the network has one primary block, and two are needed for a difference")
    return found


def _smallest_gain(entropies: list[float]) -> float:
    return min((later - earlier for earlier, later in pairwise(entropies)), default=math.nan)


def _doubt_progressivity(evidence: Evidence, value: float) -> str:
    largest = max(largest_entropies(evidence), default=0.0)
    return "" if abs(value) <= largest + 2 * ROUNDING else f"two entropies differ by {largest:.4g} at most"


# ---- trainability: how close to 1 the spectral norms of the blocks' Jacobians are (Sec. 3.1, Eq. 6-11) -----------
def _trainability(evidence: Evidence) -> Outcome:
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
    value = math.fsum(map(_closeness, measured)) / len(measured)
    warnings = tuple(f"left out of trainability: {block.unmeasured}" for block in later if block.unmeasured)
    return Outcome(value=value, warnings=warnings)


def _doubt_trainability(evidence: Evidence, value: float) -> str:
    """A block that multiplies gradients by a hundred, or by a hundredth, scores -98."""
    least = _closeness_of(_MOST_GROWTH)
    if least <= value <= SIGMA_OFFSET:
        return ""
    worst = min((block for block in evidence.blocks if block.sigma is not None), key=_closeness)
    return (
        f"it lies between {least:.0f} and 0 where gradients pass, and block {worst.name!r} multiplies them by "
        f"{worst.sigma:.1e}; see whether the blocks are the ones you mean (`aznas inspect`)"
    )


def _closeness(block: BlockEvidence) -> float:
    return _closeness_of(block.sigma or 0.0)


def _closeness_of(sigma: float) -> float:
    """Eq. 11: 0 where the spectral norm is 1, equally low for s and 1/s."""
    return -sigma - 1.0 / (sigma + SIGMA_OFFSET) + 2.0


# ---- complexity: MACs of one sample (Sec. 3.1); higher is better within a budget ----------------------------------
def _macs(evidence: Evidence) -> Outcome:
    return Outcome(value=float(evidence.macs))


def _doubt_macs(evidence: Evidence, value: float) -> str:
    return "" if value > 0 else "a network multiplies somewhere"


MACS = _az(
    name="macs",
    description="complexity: multiply-adds of one sample",
    equation="AZ-NAS (CVPR 2024), Sec. 3.1, Complexity",
    needs=Need.GRAPH,
    evaluate=_macs,
    cost="no pass: they are counted anyway",
    doubt=_doubt_macs,
)

AZ = (
    _az(
        name="expressivity",
        description="entropy of the spectrum of the feature covariance, summed over blocks",
        equation="AZ-NAS (CVPR 2024), Eq. 1-4",
        needs=Need.FEATURES,
        evaluate=_expressivity,
        cost="the forward half of the pass of AZ-NAS",
        doubt=_doubt_expressivity,
    ),
    _az(
        name="progressivity",
        description="smallest increase of expressivity between consecutive blocks",
        equation="AZ-NAS (CVPR 2024), Eq. 5; not defined for transformers (footnote 1)",
        needs=Need.FEATURES,
        evaluate=_progressivity,
        cost="that of expressivity, which it shares",
        for_transformers=False,
        doubt=_doubt_progressivity,
    ),
    _az(
        name="trainability",
        description="mean closeness to 1 of the spectral norm of each block's Jacobian",
        equation="AZ-NAS (CVPR 2024), Eq. 6-11",
        needs=Need.GRADIENTS,
        evaluate=_trainability,
        cost="the pass of AZ-NAS: one forward and one backward",
        doubt=_doubt_trainability,
    ),
    MACS,
)
"""In the order of the paper."""
