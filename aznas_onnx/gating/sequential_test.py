"""The sequential test: standard error of a difference, and when to stop adding seeds."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "Decision", "decide", "jackknife", "interim_looks"]

Floats = npt.NDArray[np.float64]


class Decision(str, enum.Enum):
    """The decision of a check or of a whole gate."""

    PASS = "pass"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with the standard error that it has over seeds; 0 for an exact one."""

    value: float
    stderr: float
    seeds: int


def interim_looks(fewest: int, most: int) -> tuple[int, ...]:
    """Return the numbers of seeds at which a decision is tried: doubled from the fewest to the most.

    Examples
    --------
    >>> interim_looks(2, 12)
    (2, 4, 8, 12)
    """
    found = [fewest]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return tuple(found)


def jackknife(statistic: Callable[[Mapping[str, float]], float], per_seed: Mapping[str, Floats]) -> Estimate:
    """Estimate a function of means over seeds.

    - `statistic`: From the mean of each column, by name, to a number.
    - `per_seed`: Columns of one value per seed, all (n_seeds,) with two or more; NaN where a seed has none. Row i of
      every column belongs to seed i, so that the common noise of two networks under a seed cancels.

    Returns: The function of the means, and its jackknife standard error, leaving out one seed at a time. For a plain
    mean that is the usual standard error.
    """
    seeds = len(next(iter(per_seed.values())))
    whole = statistic({name: float(np.nanmean(values)) for name, values in per_seed.items()})
    rows = ~np.eye(seeds, dtype=bool)
    without = []
    for row in rows:
        columns = {name: values[row] for name, values in per_seed.items()}
        if all(np.isfinite(column).any() for column in columns.values()):
            without.append(statistic({name: float(np.nanmean(column)) for name, column in columns.items()}))
    if len(without) < 2:
        return Estimate(value=whole, stderr=math.inf, seeds=seeds)
    spread = float(np.sum((np.asarray(without) - np.mean(without)) ** 2))
    return Estimate(value=whole, stderr=math.sqrt((seeds - 1) / seeds * spread), seeds=seeds)


def decide(estimate: Estimate, limit: float, *, confidence: float, n_looks: int) -> Decision:
    """Decide whether a number is above a limit, below it, or too noisy.

    The error of either kind is below ``1 - confidence`` over all interim looks together: each look has an equal share
    of it (Bonferroni), and uses the quantile of Student's t for its number of seeds. The rule is therefore valid for
    any dependence between looks, and strict at few seeds.

    - `estimate`: With two seeds or more.
    - `limit`: Lower limit of the number.
    - `confidence`: Confidence of the decision as a whole.
    - `n_looks`: Number of interim looks.
    """
    from scipy.stats import t

    if not math.isfinite(estimate.stderr):
        return Decision.INCONCLUSIVE
    reach = float(t.isf((1 - confidence) / n_looks, estimate.seeds - 1)) * estimate.stderr
    if estimate.value - reach >= limit:
        return Decision.PASS
    return Decision.REJECT if estimate.value + reach < limit else Decision.INCONCLUSIVE
