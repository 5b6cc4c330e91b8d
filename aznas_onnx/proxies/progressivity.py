"""Progressivity: the smallest gain in expressivity from one block to the next (Sec. 3.1, Eq. 5)."""

from __future__ import annotations

import math
from itertools import pairwise

from aznas_onnx.proxies.engine.evidence import Evidence, Outcome
from aznas_onnx.proxies.expressivity import ROUNDING, largest_entropies, unmeasurable_features
from aznas_onnx.proxies.registry import Direction, Need, Proxy

__all__ = ["PROGRESSIVITY"]


def _evaluate(evidence: Evidence) -> Outcome:
    reason = unmeasurable_features(evidence)
    if reason is not None:
        return Outcome(value=-math.inf, reason=reason)
    entropies = [block.entropy for block in evidence.blocks if block.entropy is not None]
    if len(entropies) < 2:
        return Outcome(value=math.nan, reason="the network has one primary block, and two are needed for a difference")
    return Outcome(value=min(later - earlier for earlier, later in pairwise(entropies)))


def _doubt(evidence: Evidence, value: float) -> str:
    largest = max(largest_entropies(evidence), default=0.0)
    if abs(value) <= largest + 2 * ROUNDING:
        return ""
    return f"two entropies differ by {largest:.4g} at most"


PROGRESSIVITY = Proxy(
    name="progressivity",
    description="smallest increase of expressivity between consecutive blocks",
    equation="AZ-NAS (CVPR 2024), Eq. 5; not defined for transformers (footnote 1)",
    direction=Direction.HIGHER_IS_BETTER,
    needs=Need.FEATURES,
    evaluate=_evaluate,
    origin="AZ-NAS: Lee and Ham, CVPR 2024",
    cost="that of expressivity, which it shares",
    fidelity="as published",
    for_transformers=False,
    doubt=_doubt,
)
