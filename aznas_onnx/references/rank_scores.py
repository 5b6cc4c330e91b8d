"""Eq. 12 for one network beside a baseline or in a reference set.

A ranking of two networks ignores how large a difference is. So the baseline is ranked among hypothetical alternatives
around it, whose proxies spread as within one search space and budget. The baseline is in the middle, at rank share 1/2.
A network that is ``d`` away in a proxy, in units of that spread, has the rank share Phi(d) of a normal distribution,
and Eq. 12 becomes

    sum over proxies of ln(Phi(d) / Phi(0))

which is 0 for an equal network, gains at most ln 2 for each proxy that is better, and loses without limit for one
that is worse: as in the paper, one very bad rank costs more than several good ones earn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aznas_onnx.ranking import Aggregation, Ensemble, combine_shares
from aznas_onnx.references.proxy_scales import scale_for
from aznas_onnx.references.reference_set import ReferenceSet

__all__ = ["difference", "log_rank_scores", "percentile", "reference_score", "terms"]

Floats = npt.NDArray[np.float64]


def terms(
    candidate: Mapping[str, float],
    baseline: Mapping[str, float],
    ensemble: Ensemble | None = None,
    deviations: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return what each proxy adds to the difference of two networks' scores.

    Parameters
    ----------
    candidate, baseline
        Proxies by name, as they are; those that are lower for better networks count the other way round.
    ensemble
        Weights, and how rank shares are combined: ``w * ln(Phi(d) / Phi(0))`` for log-rank, which is the default, and
        ``w * (Phi(d) - Phi(0))`` for linear.
    deviations
        Of proxies that are not built in, or instead of the usual ones.

    Examples
    --------
    >>> terms({"macs": 1e9}, {"macs": 1e9})
    {'macs': 0.0}
    """
    from scipy.stats import norm

    ensemble = ensemble or Ensemble()
    found = {}
    for name, value in candidate.items():
        distance = scale_for(name, deviations or {}).between(value, baseline[name])
        if ensemble.aggregation is Aggregation.LOG_RANK:
            term = float(norm.logcdf(distance)) + math.log(2)
        else:
            term = float(norm.cdf(distance)) - 0.5
        found[name] = ensemble.weight(name) * term
    return found


def difference(
    candidate: Mapping[str, float],
    baseline: Mapping[str, float],
    ensemble: Ensemble | None = None,
    deviations: Mapping[str, float] | None = None,
) -> float:
    """Return by how much a network scores above another: the sum of :func:`terms`."""
    return math.fsum(terms(candidate, baseline, ensemble, deviations).values())


def reference_score(values: Mapping[str, float], reference_set: ReferenceSet) -> float:
    """Return the AZ score (Eq. 12) that a network has in a reference set: the sum of ln(rank share) over proxies.

    The network is ranked with the members; values between two members get a rank between theirs, so that the score does
    not jump where noise moves a value past a member.
    """
    shares = [_shares([value], reference_set.column(name)) for name, value in values.items()]
    return float(combine_shares(np.column_stack(shares))[0])


def log_rank_scores(reference_set: ReferenceSet, proxies: tuple[str, ...]) -> Floats:
    """Return the AZ score of each member among the members and one more, (n_members,)."""
    columns = [reference_set.column(name) for name in proxies]
    return combine_shares(np.column_stack([_shares(column, column) for column in columns]))


def percentile(score: float, scores: Floats) -> float:
    """Return the share of a reference set's scores, in percent, that a score is not below; ties count half."""
    below, equal = float(np.sum(scores < score)), float(np.sum(scores == score))
    return 100 * (below + equal / 2) / len(scores)


def _shares(values: Sequence[float], members: Sequence[float]) -> Floats:
    """Return rank shares in (0, 1): the place of each value among the members, interpolated between neighbours."""
    n = len(members)
    ordered = np.sort(members)
    finite = ordered[np.isfinite(ordered)]
    missing = n - len(finite)
    unique, first, counts = np.unique(finite, return_index=True, return_counts=True)
    if len(finite):
        found = np.interp(values, unique, missing + first + counts / 2, left=missing + 0.5, right=n - 0.5)
    else:
        found = np.full(len(values), n - 0.5)
    return np.where(np.isfinite(values), found, 0.5) / n
