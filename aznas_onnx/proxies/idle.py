"""Idle blocks: the number of primary blocks whose output equals that of the block before."""

from __future__ import annotations

import itertools
import math

from aznas_onnx.proxies.engine.evidence import BlockEvidence, Evidence, Outcome
from aznas_onnx.proxies.registry import Direction, Need, Proxy

__all__ = ["IDLE_BLOCKS", "IDLE_SENTENCE"]

IDLE_SENTENCE = "puts out what it gets: whatever it computes is lost"

# A block that computes anything changes the spectrum of its features in the first digits.
_SAME = 1e-6


def _evaluate(evidence: Evidence) -> Outcome:
    idle = [block for before, block in itertools.pairwise(evidence.blocks) if _adds_nothing(before, block)]
    named = tuple(f"block {block.name!r} {IDLE_SENTENCE}" for block in idle)
    return Outcome(value=float(len(idle)), warnings=named)


def _adds_nothing(before: BlockEvidence, block: BlockEvidence) -> bool:
    """Whether spectrum and scale of two feature maps are equal up to rounding; expressivity reports constant ones."""
    if block.entropy is None or block.variance is None or before.entropy is None or before.variance is None:
        return False
    return math.isclose(block.entropy, before.entropy, rel_tol=_SAME) and math.isclose(
        block.variance, before.variance, rel_tol=_SAME
    )


IDLE_BLOCKS = Proxy(
    name="idle_blocks",
    description="primary blocks whose features are those of the block before",
    equation="count of l >= 2 where the spectrum of f_l is that of f_(l-1)",
    direction=Direction.LOWER_IS_BETTER,
    needs=Need.FEATURES,
    evaluate=_evaluate,
    origin="this project",
    cost="the forward pass of expressivity",
    fidelity="this project's own",
)
