"""Rank correlations with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Bootstrap", "Correlations", "Interval", "Resampled", "correlate", "interval", "kendall_matrix", "resample"]

Floats = npt.NDArray[np.float64]


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
class Correlations:
    """Kendall's tau-b and Spearman's rho, (n_predictors, n_columns) each; NaN where one side is constant."""

    kendall: Floats
    spearman: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Correlations of all candidates, and (n_resamples, n_predictors, n_columns) of the resamples."""

    whole: Correlations
    kendall: Floats
    spearman: Floats


def correlate(predictions: Floats, truth: Floats) -> Correlations:
    """Correlate every predictor with every measured column.

    Parameters
    ----------
    predictions
        (n_candidates, n_predictors). Values that are not finite rank lowest and share a rank, as in the published code.
    truth
        (n_candidates, n_columns); candidates without a measurement (NaN) are left out for that column.
    """
    from scipy.stats import rankdata

    ranked = rankdata(_comparable(predictions), axis=0)
    shape = (predictions.shape[1], truth.shape[1])
    kendall, spearman = np.full(shape, np.nan), np.full(shape, np.nan)
    for column in range(shape[1]):
        measured = np.isfinite(truth[:, column])
        x = ranked if measured.all() else rankdata(ranked[measured], axis=0)
        y = rankdata(truth[measured, column])
        if len(y) < 2:
            continue
        spearman[:, column] = _pearson(x, y)
        kendall[:, column] = [_kendall(x[:, index], y) for index in range(shape[0])]
    return Correlations(kendall=kendall, spearman=spearman)


def resample(
    proxies: Floats,
    truth: Floats,
    predict: Callable[[Floats], Floats],
    bootstrap: Bootstrap,
    on_resample: Callable[[int], None] | None = None,
) -> Resampled:
    """Correlate predictors with measured columns, on all candidates and on bootstrap samples of them.

    Parameters
    ----------
    proxies
        (n_candidates, n_proxies) that the predictors are made from.
    truth
        (n_candidates, n_columns).
    predict
        Makes (n, n_predictors) from (n, n_proxies). It is called for every resample, because ranks, and so the
        aggregated score, depend on who is ranked.
    on_resample
        Called with the number of each resample that is done.
    """
    whole = correlate(predict(proxies), truth)
    rng = np.random.default_rng(bootstrap.seed)
    shape = (bootstrap.resamples, *whole.kendall.shape)
    kendall, spearman = np.empty(shape), np.empty(shape)
    for number in range(bootstrap.resamples):
        chosen = rng.integers(len(proxies), size=len(proxies))
        drawn = correlate(predict(proxies[chosen]), truth[chosen])
        kendall[number], spearman[number] = drawn.kendall, drawn.spearman
        if on_resample is not None:
            on_resample(number + 1)
    return Resampled(whole=whole, kendall=kendall, spearman=spearman)


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


def _pearson(x: Floats, y: Floats) -> Floats:
    """Correlate every column of `x` with `y`; NaN for a constant."""
    x, y = x - x.mean(axis=0), y - y.mean()
    scale = np.sqrt((x * x).sum(axis=0) * (y * y).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (y @ x) / scale
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
