"""Combine the ranks of a candidate's proxies (Sec. 3.2 of AZ-NAS, Eq. 12)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError

__all__ = ["Aggregation", "aggregate", "aggregation_of", "combine_shares"]

Floats = npt.NDArray[np.float64]


class Aggregation(str, enum.Enum):
    """How the ranks of one candidate are combined."""

    LOG_RANK = "log-rank"  # sum of ln(rank / m), Eq. 12: one bad rank cannot be made up for
    LINEAR = "linear"  # sum of rank / m: a low rank can be made up for
    BY_KIND = "by-kind"  # one of these, over the proxies that count for what varies among the candidates


def aggregate(
    values: npt.ArrayLike,
    aggregation: Aggregation | str = Aggregation.LOG_RANK,
    weights: Sequence[float] | None = None,
) -> Floats:
    """Combine proxies by the ranks of their values (Eq. 12).

    Parameters
    ----------
    values
        (n_candidates, n_proxies), higher is better. Values that are not finite (NaN, and infinity of either sign) rank
        lowest and share a rank.
    aggregation
        The combination of the ranks.
    weights
        (n_proxies,): factors of the proxies' terms, 1 by default.

    Returns
    -------
    ndarray
        (n_candidates,) float64, higher is better: sums over proxies of ln(rank / n_candidates), with ranks
        ascending from 1 and ties averaged. Unchanged by strictly increasing transforms of a proxy; a permutation of
        the candidates permutes it.

    Examples
    --------
    >>> aggregate([[1.0, 20.0], [2.0, 10.0], [3.0, 30.0]]).round(3).tolist()
    [-1.504, -1.504, 0.0]
    """
    from scipy.stats import rankdata

    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise SettingsError(f"proxy values have {matrix.ndim} axes; (n_candidates, n_proxies) was expected")
    if matrix.shape[0] == 0:
        return np.zeros(0)
    ranks = rankdata(np.where(np.isfinite(matrix), matrix, -np.inf), method="average", axis=0)
    return combine_shares(ranks / matrix.shape[0], aggregation, weights)


def combine_shares(
    shares: Floats,
    aggregation: Aggregation | str = Aggregation.LOG_RANK,
    weights: Sequence[float] | None = None,
) -> Floats:
    """Return the scores of rank shares, (n_candidates, n_proxies) in (0, 1]: the sum of Eq. 12."""
    how = aggregation_of(aggregation)
    if how is Aggregation.BY_KIND:
        raise SettingsError("ranks are combined by what varies only where candidates are known: aznas_onnx.rank")
    terms = np.log(shares) if how is Aggregation.LOG_RANK else shares
    if weights is not None:
        terms = terms * np.asarray(weights, dtype=np.float64)
    # Terms are added in the order of their size, so that equal terms in another order give exactly equal sums.
    scores: Floats = np.sort(terms, axis=1).sum(axis=1)
    return scores


def aggregation_of(name: Aggregation | str) -> Aggregation:
    """Return the aggregation of a name; raise SettingsError if there is none."""
    try:
        return Aggregation(name)
    except ValueError as error:
        known = ", ".join(repr(member.value) for member in Aggregation)
        raise SettingsError(f"there is no aggregation {name!r}; {known} are accepted") from error
