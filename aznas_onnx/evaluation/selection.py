"""Accuracy, regret and nDCG of the best-scored architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Repeated", "TopK", "ndcg", "select_repeatedly", "top_k"]

Floats = npt.NDArray[np.float64]

SIZES = (1, 5, 10, 50, 100)
_SUBSET = 3000  # candidates a run, as in Table 1
_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """The `k` candidates with the best scores.

    - `best`, `mean`: The best and the mean of their measurements.
    - `regret`: How much better the best of all candidates is than `best`; at least 0.
    - `ndcg`: Normalised discounted cumulative gain of the first `k` places, see :func:`ndcg`.
    """

    k: int
    best: float
    mean: float
    regret: float
    ndcg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """Mean and standard deviation of what is selected from random subsets, as the accuracies of Table 1.

    - `mean`, `deviation`: Of the measurement of the best-scored candidate.
    - `optimum`: Mean of the best measurement in the subsets.
    - `subset`, `runs`: Candidates in a subset, and how many subsets.
    """

    mean: float
    deviation: float
    optimum: float
    subset: int
    runs: int


def top_k(scores: Floats, measured: Floats, sizes: Sequence[int] = SIZES) -> tuple[TopK, ...]:
    """Judge the best-scored candidates.

    - `scores`: (n_candidates,), higher is better; of equal ones the first counts as better.
    - `measured`: (n_candidates,), higher is better; candidates without a measurement (NaN) are left out.
    - `sizes`: Numbers of candidates to take; those above `n_candidates` are left out.
    """
    there = np.isfinite(measured)
    scores, measured = scores[there], measured[there]
    ranked = measured[np.argsort(-scores, kind="stable")]
    return tuple(
        TopK(
            k=k,
            best=float(ranked[:k].max()),
            mean=float(ranked[:k].mean()),
            regret=float(ranked.max() - ranked[:k].max()),
            ndcg=ndcg(ranked, k),
        )
        for k in sizes
        if k <= len(ranked)
    )


def ndcg(ranked: Floats, k: int) -> float:
    """Return the discounted gain of the first `k` places, divided by that of the best possible order.

    The gain of a candidate is its measurement, scaled so that the worst of all has 0 and the best 1; the discount of
    place i (from 1) is log2(i + 1). 1 where all measurements are equal.

    Examples
    --------
    >>> ndcg(np.array([3.0, 2.0, 1.0]), 2), round(ndcg(np.array([1.0, 2.0, 3.0]), 2), 3)
    (1.0, 0.24)
    """
    low, high = ranked.min(), ranked.max()
    if low == high:
        return 1.0
    gains = (ranked - low) / (high - low)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return float(gains[:k] @ discounts / (np.sort(gains)[::-1][:k] @ discounts))


def select_repeatedly(
    scores: Floats, measured: Floats, *, subset: int = _SUBSET, runs: int = _RUNS, seed: int = 0
) -> Repeated | None:
    """Take the best-scored candidate of random subsets; None where there are fewer candidates than in a subset.

    A subset's best by aggregated score is not quite that by the scores of all, because ranks depend on who is ranked;
    pass scores of all.
    """
    there = np.isfinite(measured)
    scores, measured = scores[there], measured[there]
    if len(scores) < subset:
        return None
    rng = np.random.default_rng(seed)
    chosen, best = [], []
    for _ in range(runs):
        members = rng.choice(len(scores), size=subset, replace=False)
        chosen.append(measured[members[np.argmax(scores[members])]])
        best.append(measured[members].max())
    return Repeated(
        mean=float(np.mean(chosen)),
        deviation=float(np.std(chosen)),
        optimum=float(np.mean(best)),
        subset=subset,
        runs=runs,
    )
