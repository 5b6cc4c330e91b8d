"""What a calibration knows about families that it has not seen: each family's values from those of the others.

The values of some networks given all others follow from the inverse of the covariance, without fitting again
(Rasmussen and Williams 2006, Eq. 5.12, for several at once).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aznas_onnx.calibration.regression import Prediction, Regression

__all__ = ["LeftOut", "Pair", "leave_out", "leave_families_out", "pairs"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What the others say of each network, its family left out.

    - `mean`, `deviation`: (n_networks,), with the noise of a measurement.
    """

    mean: Floats
    deviation: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two networks of one recipe, the families of both left out.

    - `estimated`, `measured`: The difference of the first to the second.
    - `deviation`: Standard deviation of the estimate, without the noise of measurements.
    - `is_kin`: Whether both are of one family.
    """

    estimated: float
    deviation: float
    measured: float
    is_kin: bool


def leave_out(regression: Regression, places: Sequence[int]) -> Prediction:
    """Return the distribution of the values of some measured networks, from those of the others alone."""
    at = np.asarray(places)
    inverse, weights = regression.inverse, regression.inverse_values
    covariance = np.linalg.inv(inverse[np.ix_(at, at)])
    return Prediction(mean=regression.values[at] - covariance @ weights[at], covariance=covariance)


def leave_families_out(regression: Regression) -> LeftOut:
    """Return what the other families say of each network."""
    mean, deviation = np.zeros(len(regression.values)), np.zeros(len(regression.values))
    for family in np.unique(regression.families):
        places = np.flatnonzero(regression.families == family)
        found = leave_out(regression, list(places))
        mean[places], deviation[places] = found.mean, found.deviation
    return LeftOut(mean=mean, deviation=deviation)


def pairs(regression: Regression, least: float) -> Iterator[Pair]:
    """Yield the pairs of one recipe whose values differ by `least` or more, the families of both left out."""
    names = list(np.unique(regression.families))
    places = {name: np.flatnonzero(regression.families == name) for name in names}
    for number, one in enumerate(names):
        for other in names[number:]:
            both = np.unique(np.concatenate([places[one], places[other]]))
            yield from _pairs_of(regression, both, least, is_kin=one == other)


def _pairs_of(regression: Regression, both: Places, least: float, *, is_kin: bool) -> Iterator[Pair]:
    found = leave_out(regression, list(both))
    families, recipes, values = regression.families[both], regression.recipes[both], regression.values[both]
    noise = 2 * regression.covariance.noise
    for a in range(len(both)):
        for b in range(a + 1, len(both)):
            is_same_recipe, is_same_family = recipes[a] == recipes[b], bool(families[a] == families[b])
            if not is_same_recipe or is_same_family is not is_kin or abs(values[a] - values[b]) < least:
                continue
            variance = found.covariance[a, a] + found.covariance[b, b] - 2 * found.covariance[a, b] - noise
            yield Pair(
                estimated=float(found.mean[a] - found.mean[b]),
                deviation=float(np.sqrt(max(variance, 0.0))),
                measured=float(values[a] - values[b]),
                is_kin=is_kin,
            )
