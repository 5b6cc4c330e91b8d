"""Eq. 12 over a growing history: exact at every step, without sorting again.

Ranking m candidates from scratch sorts every proxy. A new value moves an old rank by 0, by 1/2 (a tie) or by 1, so the
ranks are stored and updated by vectorised additions. ``sum(ln(rank / m))`` orders the candidates exactly as the product
of their ranks does, so no logarithm is needed before a score is requested (or a weight is fractional).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aznas_onnx.ranking import Aggregation

__all__ = ["Leaderboard"]

_FIRST_CAPACITY = 1024
_MOST_FACTORS = 40  # ranks of a hundred million candidates: their product is still a float
_LOGARITHM_DIGITS = 10


class Leaderboard:
    """The candidates scored so far, ranked by Eq. 12 of the paper or by an :class:`~aznas_onnx.ranking.Ensemble`.

    Candidates are numbered from 0 in the order in which they were added. Higher values are better, tied values share
    the mean of their ranks, and values that are not finite rank lowest (tied with one another). Of candidates with
    equal scores the earlier is the better one, so that an order never depends on the machine.

    Parameters
    ----------
    n_proxies
        Number of proxies that are ranked; without any, all candidates are equal.
    weights
        Weight of each; 1 by default.
    aggregation
        The combination of ranks.

    Examples
    --------
    >>> board = Leaderboard(2)
    >>> for values in ([1.0, 9.0], [3.0, 8.0], [2.0, float("nan")]):
    ...     board.add(values)
    >>> board.best(3).tolist()
    [1, 0, 2]
    """

    def __init__(
        self,
        n_proxies: int,
        weights: Sequence[float] | None = None,
        aggregation: Aggregation = Aggregation.LOG_RANK,
    ) -> None:
        self._size = 0
        self._weights = np.ones(n_proxies) if weights is None else np.asarray(weights, dtype=np.float64)
        self._aggregation = aggregation
        self._values = np.empty((n_proxies, _FIRST_CAPACITY))
        # Twice the mean rank: an integer, in float64 like the product (exact up to 2**53).
        self._doubled_ranks = np.empty((n_proxies, _FIRST_CAPACITY))
        self._keys: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return self._size

    def add(self, values: Sequence[float] | npt.NDArray[np.float64]) -> None:
        """Add one candidate, in O(m) per proxy.

        - `values`: Its proxies, shape (n_proxies,).
        """
        self._reserve(self._size + 1)
        row = _lowest_where_not_finite(np.asarray(values, dtype=np.float64))
        for known, ranks, value in zip(self._values, self._doubled_ranks, row, strict=True):
            old = known[: self._size]
            # 2 where an old value is greater (its rank rises by one), 1 where it is equal (by a half), 0 below.
            shift = (old > value).view(np.int8) + (old >= value).view(np.int8)
            ranks[: self._size] += shift
            # With `lower` values below and `equal` beside it, the mean rank of the tie is lower + (equal + 2) / 2, and
            # shift.sum() counts the greater ones twice and the equal ones once.
            not_lower = int(np.count_nonzero(shift))
            equal = 2 * not_lower - int(shift.sum(dtype=np.int64))
            known[self._size] = value
            ranks[self._size] = 2 * (self._size - not_lower) + equal + 2
        self._size += 1
        self._keys = None

    def extend(self, rows: Sequence[Sequence[float] | npt.NDArray[np.float64]] | npt.NDArray[np.float64]) -> None:
        """Add many candidates at once, in O(m log m).

        - `rows`: Their proxies, shape (n_candidates, n_proxies).
        """
        added = np.asarray(rows, dtype=np.float64).reshape(-1, len(self._values))
        end = self._size + len(added)
        self._reserve(end)
        self._values[:, self._size : end] = _lowest_where_not_finite(added.T)
        for known, ranks in zip(self._values, self._doubled_ranks, strict=True):
            ranks[:end] = _doubled_mean_ranks(known[:end])
        self._size = end
        self._keys = None

    def leave_out(self, proxy: int) -> None:
        """Rank without the proxy at index `proxy` from now on; those after it move up."""
        self._values = np.delete(self._values, proxy, axis=0)
        self._doubled_ranks = np.delete(self._doubled_ranks, proxy, axis=0)
        self._weights = np.delete(self._weights, proxy)
        self._keys = None

    def az_scores(self) -> npt.NDArray[np.float64]:
        """Return the score of every candidate, shape (n_candidates,): higher is better, for log-rank at most 0."""
        if not self._size:
            return np.empty(0)
        relative: npt.NDArray[np.float64] = self._doubled_ranks[:, : self._size] / (2 * self._size)
        terms = np.log(relative) if self._aggregation is Aggregation.LOG_RANK else relative
        scores: npt.NDArray[np.float64] = (terms * self._weights[:, None]).sum(axis=0)
        return scores

    def top(self, k: int) -> npt.NDArray[np.intp]:
        """Return the numbers of the `k` best candidates (all, where there are fewer) in ascending order of number."""
        if k >= self._size:
            return np.arange(self._size)
        keys = self._sort_keys()
        # Which of the tied values np.argpartition puts in the first k depends on the CPU; the threshold does not.
        threshold = np.partition(keys, self._size - k)[self._size - k]
        above = np.flatnonzero(keys > threshold)
        tied = np.flatnonzero(keys == threshold)[: k - len(above)]
        return np.sort(np.concatenate([above, tied]))

    def best(self, n: int) -> npt.NDArray[np.intp]:
        """Return the numbers of the `n` best candidates, the best first."""
        chosen = self.top(n)
        order: npt.NDArray[np.intp] = np.argsort(-self._sort_keys()[chosen], kind="stable")
        return chosen[order]

    def _sort_keys(self) -> npt.NDArray[np.float64]:
        """Return numbers that order the candidates as their scores do, the same on every machine."""
        if self._keys is None:
            ranks = self._doubled_ranks[:, : self._size]
            if self._aggregation is Aggregation.LINEAR:
                self._keys = (ranks * self._weights[:, None]).sum(axis=0)
            elif (self._weights == self._weights.astype(int)).all() and self._weights.sum() <= _MOST_FACTORS:
                self._keys = _product(ranks, self._weights.astype(int))
            else:  # logarithms differ in their last digits between machines; these are cut off
                self._keys = self.az_scores().round(_LOGARITHM_DIGITS)
        return self._keys

    def _reserve(self, size: int) -> None:
        """Make room for `size` candidates, doubling so that growth is amortised."""
        capacity = self._values.shape[1]
        if size <= capacity:
            return
        capacity = max(size, 2 * capacity)
        self._values = _widened(self._values, self._size, capacity)
        self._doubled_ranks = _widened(self._doubled_ranks, self._size, capacity)


def _product(ranks: npt.NDArray[np.float64], powers: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """Multiply ranks, repeated by weight: multiplication rounds equally on every machine, a power does not."""
    product = np.ones(ranks.shape[1])
    for row, power in zip(ranks, powers, strict=True):
        for _ in range(power):
            product *= row
    return product


def _widened(array: npt.NDArray[np.float64], used: int, capacity: int) -> npt.NDArray[np.float64]:
    wider = np.empty((len(array), capacity))
    wider[:, :used] = array[:, :used]
    return wider


def _lowest_where_not_finite(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lowest: npt.NDArray[Any] = np.where(np.isfinite(values), values, -np.inf)
    return lowest


def _doubled_mean_ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return twice the ascending ranks of `values`, tied values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled: npt.NDArray[np.int64] = (2 * last - counts + 1)[place.reshape(-1)]
    return doubled
