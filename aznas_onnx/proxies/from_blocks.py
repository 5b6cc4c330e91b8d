"""Proxies from the block statistics of AZ-NAS; they need no further pass."""

from __future__ import annotations

import math

from aznas_onnx.proxies.engine.evidence import Evidence, Outcome
from aznas_onnx.proxies.expressivity import ROUNDING, largest_entropies, unmeasurable_features
from aznas_onnx.proxies.registry import Direction, Need, Proxy
from aznas_onnx.proxies.trainability import SIGMA_OFFSET

__all__ = ["BLOCKWISE"]


def _bottleneck(evidence: Evidence) -> Outcome:
    reason = unmeasurable_features(evidence)
    if reason is not None:
        return Outcome(value=-math.inf, reason=reason)
    return Outcome.of(min(block.entropy for block in evidence.blocks if block.entropy is not None))


def _final(evidence: Evidence) -> Outcome:
    reason = unmeasurable_features(evidence)
    if reason is not None:
        return Outcome(value=-math.inf, reason=reason)
    return Outcome.of([block.entropy for block in evidence.blocks if block.entropy is not None][-1])


def _doubt_entropy(evidence: Evidence, value: float) -> str:
    largest = max(largest_entropies(evidence), default=0.0)
    return "" if -ROUNDING <= value <= largest + ROUNDING else f"an entropy here lies between 0 and {largest:.4g}"


def _gain(evidence: Evidence) -> Outcome:
    measured = [block.sigma for block in evidence.blocks if block.sigma is not None]
    if not measured:
        return Outcome(value=math.nan, reason="no block's Jacobian was measured, and gradients pass between two blocks")
    if not all(map(math.isfinite, measured)):
        return Outcome(value=-math.inf, reason="the gradient of a block is not finite")
    return Outcome.of(math.fsum(math.log(sigma + SIGMA_OFFSET) for sigma in measured) / len(measured))


BLOCKWISE = (
    Proxy(
        name="bottleneck",
        description="smallest expressivity of any block: what all information has to pass",
        equation="min over blocks of the entropy of AZ-NAS, Eq. 3",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.FEATURES,
        evaluate=_bottleneck,
        doubt=_doubt_entropy,
        origin="this project",
        cost="that of expressivity, which it shares",
        fidelity="this project's own",
    ),
    Proxy(
        name="final_expressivity",
        description="expressivity of the last block: what is left for the classifier",
        equation="entropy of AZ-NAS, Eq. 3, of the last block",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.FEATURES,
        evaluate=_final,
        doubt=_doubt_entropy,
        origin="this project",
        cost="that of expressivity, which it shares",
        fidelity="this project's own",
    ),
    Proxy(
        name="gain",
        description="how much of a gradient comes through a block, on average",
        equation="mean over blocks of ln(sigma + 1e-6), sigma the spectral norm of AZ-NAS, Eq. 10",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.GRADIENTS,
        evaluate=_gain,
        origin="this project",
        cost="that of trainability, which it shares",
        fidelity="this project's own",
    ),
)
