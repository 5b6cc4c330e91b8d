"""Rank correlations with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Bootstrap",
    "Cohort",
    "Correlations",
    "Interval",
    "Resampled",
    "SizeMatch",
    "close_pairs",
    "correlate",
    "interval",
    "kendall_matrix",
    "resample",
]

Floats = npt.NDArray[np.float64]
Pairs: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_MOST_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Settings of the intervals: percentiles over samples of the candidates with replacement.

    Attributes
    ----------
    resamples
        Number of resamples; 0 for no intervals.
    level
        Share of the resamples within an interval.
    seed
        Seed of the resampling.
    """

    resamples: int = 200
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with the ends of its confidence interval.

    Attributes
    ----------
    value
        None where it is not defined: one of the sides is constant.
    low, high
        None where there was no bootstrap.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeMatch:
    """Which pairs of candidates are of the same size.

    Attributes
    ----------
    by
        The size: ``"macs"``, ``"params"`` or a column of the measurements.
    within
        Largest relative difference of their sizes.
    """

    by: str = "macs"
    within: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlations:
    """Agreement of predictors with measurements, (n_predictors, n_columns) each; NaN where one side is constant.

    - `kendall`, `spearman`: Tau-b and rho.
    - `matched`: Tau-b over pairs of the same size.
    """

    kendall: Floats
    spearman: Floats
    matched: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Correlations of all candidates, and (n_resamples, n_predictors, n_columns) of the resamples."""

    whole: Correlations
    kendall: Floats
    spearman: Floats
    matched: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Candidates that are compared.

    - `proxies`: (n_candidates, n_proxies) that predictors are made from.
    - `truth`: (n_candidates, n_columns); NaN where there is no measurement.
    - `groups`: (n_candidates,) numbers of the groups that are compared within; None for one group.
    - `sizes`: (n_candidates,) positive; None where no pairs are matched.
    """

    proxies: Floats
    truth: Floats
    groups: npt.NDArray[np.int64] | None = None
    sizes: Floats | None = None

    def take(self, rows: npt.NDArray[np.int64]) -> Cohort:
        """Return some of the candidates."""
        return Cohort(
            proxies=self.proxies[rows],
            truth=self.truth[rows],
            groups=None if self.groups is None else self.groups[rows],
            sizes=None if self.sizes is None else self.sizes[rows],
        )

    def parts(self) -> list[Cohort]:
        """Return the groups of two candidates or more."""
        if self.groups is None:
            return [self]
        members = (np.flatnonzero(self.groups == group) for group in np.unique(self.groups))
        return [replace(self.take(rows), groups=None) for rows in members if len(rows) > 1]


def correlate(predictions: Floats, truth: Floats, pairs: Pairs | None = None) -> Correlations:
    """Correlate every predictor with every measured column.

    Parameters
    ----------
    predictions
        (n_candidates, n_predictors). Values that are not finite rank lowest and share a rank, as in the published code.
    truth
        (n_candidates, n_columns); candidates without a measurement (NaN) are left out for that column.
    pairs
        Those of the same size, see :func:`close_pairs`.
    """
    from scipy.stats import rankdata

    ranked = rankdata(_comparable(predictions), axis=0)
    shape = (predictions.shape[1], truth.shape[1])
    kendall, spearman, matched = (np.full(shape, np.nan) for _ in range(3))
    for column in range(shape[1]):
        measured = np.isfinite(truth[:, column])
        if pairs is not None:
            matched[:, column] = _kendall_of_pairs(ranked, truth[:, column], pairs)
        x = ranked if measured.all() else rankdata(ranked[measured], axis=0)
        y = rankdata(truth[measured, column])
        if len(y) < 2:
            continue
        spearman[:, column] = _pearson(x, y)
        kendall[:, column] = [_kendall(x[:, index], y) for index in range(shape[0])]
    return Correlations(kendall=kendall, spearman=spearman, matched=matched)


def close_pairs(sizes: Floats, within: float) -> Pairs:
    """Return the pairs of candidates whose sizes differ by at most a share of the smaller: two arrays of places.

    Of more than a million, a random million.

    Examples
    --------
    >>> [places.tolist() for places in close_pairs(np.array([10.0, 30.0, 11.0, 32.0]), 0.1)]
    [[0, 1], [2, 3]]
    """
    order = np.argsort(sizes, kind="stable")
    ordered = sizes[order]
    ends = np.searchsorted(ordered, ordered * (1 + within) * (1 + 1e-12), side="right")
    counts = ends - np.arange(len(ordered)) - 1
    before = np.cumsum(counts) - counts
    total = int(counts.sum())
    places = np.arange(total)
    if total > _MOST_PAIRS:
        places = np.sort(np.random.default_rng(0).choice(total, size=_MOST_PAIRS, replace=False))
    first = np.searchsorted(before + counts, places, side="right")
    second = first + 1 + places - before[first]
    return order[first], order[second]


def resample(
    cohort: Cohort,
    predict: Callable[[Floats], Floats],
    bootstrap: Bootstrap,
    *,
    within: float = 0.0,
    on_resample: Callable[[int], None] | None = None,
) -> Resampled:
    """Correlate predictors with measured columns, on all candidates and on bootstrap samples of them.

    Correlations of several groups are averaged, each counted by its candidates.

    Parameters
    ----------
    cohort
        The candidates.
    predict
        Makes (n, n_predictors) from (n, n_proxies). It is called for every group of every resample, because ranks, and
        so the aggregated score, depend on who is ranked.
    within
        Largest relative difference of the sizes in a pair that is matched.
    on_resample
        Called with the number of each resample that is done.
    """

    def correlated(candidates: Cohort) -> Correlations:
        parts = candidates.parts()
        return _mean([_correlated(part, predict, within) for part in parts], parts)

    whole = correlated(cohort)
    rng = np.random.default_rng(bootstrap.seed)
    shape = (bootstrap.resamples, *whole.kendall.shape)
    kendall, spearman, matched = (np.empty(shape) for _ in range(3))
    count = len(cohort.truth)
    for number in range(bootstrap.resamples):
        drawn = correlated(cohort.take(rng.integers(count, size=count)))
        kendall[number], spearman[number], matched[number] = drawn.kendall, drawn.spearman, drawn.matched
        if on_resample is not None:
            on_resample(number + 1)
    return Resampled(whole=whole, kendall=kendall, spearman=spearman, matched=matched)


def _correlated(cohort: Cohort, predict: Callable[[Floats], Floats], within: float) -> Correlations:
    pairs = None if cohort.sizes is None else close_pairs(cohort.sizes, within)
    return correlate(predict(cohort.proxies), cohort.truth, pairs)


def _mean(found: Sequence[Correlations], cohorts: Sequence[Cohort]) -> Correlations:
    """Average over groups, each counted by its candidates; a group where a correlation is undefined does not count."""
    if len(found) == 1:
        return found[0]
    counts = np.array([len(cohort.truth) for cohort in cohorts], dtype=np.float64)

    def over(values: list[Floats]) -> Floats:
        stack = np.stack(values)
        shares = counts[:, None, None] * np.isfinite(stack)
        with np.errstate(invalid="ignore"):
            average: Floats = np.nansum(stack * shares, axis=0) / shares.sum(axis=0)
        return average

    return Correlations(
        kendall=over([one.kendall for one in found]),
        spearman=over([one.spearman for one in found]),
        matched=over([one.matched for one in found]),
    )


def interval(value: float, drawn: Floats, level: float) -> Interval:
    """Return an estimate with the percentiles of its resamples; those where it is not defined do not count."""
    found = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not found.size:
        return Interval(value=_number(value))
    tail = 50 * (1 - level)
    low, high = np.percentile(found, (tail, 100 - tail))
    return Interval(value=float(value), low=float(low), high=float(high))


def kendall_matrix(values: Floats) -> Floats:
    """Return Kendall's tau-b between all columns of (n_candidates, n_columns), as Figure 3 of the paper."""
    matrix = _comparable(values)
    size = values.shape[1]
    found = np.eye(size)
    for i in range(size):
        for j in range(i):
            found[i, j] = found[j, i] = _kendall(matrix[:, i], matrix[:, j])
    return found


def _comparable(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, -np.inf)


def _kendall(x: Floats, y: Floats) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic)


def _kendall_of_pairs(ranked: Floats, measured: Floats, pairs: Pairs) -> Floats:
    """Return the tau-b of every predictor over some pairs; NaN where one side is constant in all of them."""
    first, second = pairs
    apart = np.sign(measured[first] - measured[second])
    there = np.isfinite(apart)
    apart, signs = apart[there], np.sign(ranked[first[there]] - ranked[second[there]])
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (apart @ signs) / np.sqrt(np.abs(apart).sum() * np.abs(signs).sum(axis=0))
    return found


def _pearson(x: Floats, y: Floats) -> Floats:
    """Correlate every column of `x` with `y`; NaN for a constant."""
    x, y = x - x.mean(axis=0), y - y.mean()
    scale = np.sqrt((x * x).sum(axis=0) * (y * y).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (y @ x) / scale
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
