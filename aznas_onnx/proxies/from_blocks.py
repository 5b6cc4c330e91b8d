"""Proxies from the block statistics of AZ-NAS; they need no further pass."""

from __future__ import annotations

import itertools
import math
from functools import partial
from operator import itemgetter

from aznas_onnx.proxies.az import ROUNDING, SIGMA_OFFSET, largest_entropies, of_entropies
from aznas_onnx.proxies.engine.evidence import BlockEvidence, Evidence, Outcome
from aznas_onnx.proxies.proxy import Direction, Need, Proxy

__all__ = ["BLOCKWISE", "IDLE_BLOCKS", "IDLE_SENTENCE"]

IDLE_SENTENCE = "puts out what it gets: whatever it computes is lost"

# A block that computes anything changes the spectrum of its features in the first digits.
_SAME = 1e-6

_own = partial(Proxy, direction=Direction.HIGHER_IS_BETTER, origin="this project", fidelity="this project's own")
_of_features = partial(_own, needs=Need.FEATURES, cost="that of expressivity, which it shares")


def _bottleneck(evidence: Evidence) -> Outcome:
    return of_entropies(evidence, min)


def _final(evidence: Evidence) -> Outcome:
    return of_entropies(evidence, itemgetter(-1))


def _flatness(evidence: Evidence) -> Outcome:
    ceilings = largest_entropies(evidence)
    return of_entropies(evidence, lambda entropies: (math.fsum(entropies) - math.fsum(ceilings)) / len(entropies))


def _doubt_flatness(evidence: Evidence, value: float) -> str:
    return "" if value <= ROUNDING else "an entropy is at most the logarithm of its directions"


def _ceiling(evidence: Evidence) -> Outcome:
    return of_entropies(evidence, lambda entropies: math.fsum(largest_entropies(evidence)))


def _blocks(evidence: Evidence) -> Outcome:
    return Outcome(value=float(len(evidence.blocks)))


def _effective_rank(evidence: Evidence) -> Outcome:
    return of_entropies(evidence, lambda entropies: math.log(math.fsum(map(math.exp, entropies))))


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


def _idle(evidence: Evidence) -> Outcome:
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


BLOCKWISE = (
    _of_features(
        name="bottleneck",
        description="smallest expressivity of any block: what all information has to pass",
        equation="min over blocks of the entropy of AZ-NAS, Eq. 3",
        evaluate=_bottleneck,
        doubt=_doubt_entropy,
    ),
    _of_features(
        name="final_expressivity",
        description="expressivity of the last block: what is left for the classifier",
        equation="entropy of AZ-NAS, Eq. 3, of the last block",
        evaluate=_final,
        doubt=_doubt_entropy,
    ),
    _of_features(
        name="flatness",
        description="how far the blocks' spectra are from equal eigenvalues, on average: expressivity without its size",
        equation="mean over blocks of (entropy of AZ-NAS, Eq. 3, minus ln(number of eigenvalues)); 0 is the largest",
        evaluate=_flatness,
        doubt=_doubt_flatness,
    ),
    _of_features(
        name="expressivity_ceiling",
        description="the largest expressivity that the blocks' widths allow",
        equation="sum over blocks of ln(number of eigenvalues)",
        evaluate=_ceiling,
    ),
    _own(
        name="block_count",
        description="primary blocks",
        equation="number of primary blocks",
        needs=Need.GRAPH,
        evaluate=_blocks,
        cost="no pass: they are found anyway",
    ),
    _of_features(
        name="effective_rank",
        description="directions that the features of all blocks effectively have, as their logarithm",
        equation="ln(sum over blocks of exp(entropy of AZ-NAS, Eq. 3))",
        evaluate=_effective_rank,
    ),
    _own(
        name="gain",
        description="how much of a gradient comes through a block, on average",
        equation="mean over blocks of ln(sigma + 1e-6), sigma the spectral norm of AZ-NAS, Eq. 10",
        needs=Need.GRADIENTS,
        evaluate=_gain,
        cost="that of trainability, which it shares",
    ),
)

IDLE_BLOCKS = _own(
    name="idle_blocks",
    description="primary blocks whose features are those of the block before",
    equation="count of l >= 2 where the spectrum of f_l is that of f_(l-1)",
    direction=Direction.LOWER_IS_BETTER,
    needs=Need.FEATURES,
    evaluate=_idle,
    cost="the forward pass of expressivity",
)
