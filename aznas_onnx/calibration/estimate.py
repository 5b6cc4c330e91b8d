"""Estimate a network's measured value from a calibration, and compare two networks by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from aznas_onnx.calibration.calibration import Calibration, MeasuredNetwork
from aznas_onnx.calibration.network_traits import DESIGN_TRAITS, NETWORK_TRAITS, traits_of
from aznas_onnx.results import ProxyScores

Floats = npt.NDArray[np.float64]

__all__ = [
    "EstimatedGap",
    "ValueEstimate",
    "compare",
    "design_distance",
    "estimate",
    "has_same_parts",
    "outside",
]

_IMAGE_CHANNELS = 3
_FEWEST_CLASSES = 2
_MARGIN = 2.0  # factor of counts beyond those of the calibration's networks
_INPUT_MARGIN = 1.2  # factor of the edge of an image
_UNLIKE = 0.5  # share of the variance of traits that the calibration leaves unexplained
_NEIGHBOURS = 5
_SAME_DESIGN = 0.3  # of the distance
_PARTS = {
    **dict.fromkeys(("depthwise_share", "grouped_share", "spatial_share", "product_share"), 0.005),
    **dict.fromkeys(("relu_share", "swish_share", "hardswish_share", "gelu_share"), 0.05),
    **dict.fromkeys(("gates", "softmaxes"), 0.0),
    "layer_norm_share": 0.5,
}
"""Traits of design, and the least that counts as a part of the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueEstimate:
    """What a calibration says of a network.

    - `value`: Estimated, in the calibration's unit.
    - `low`, `high`: Ends of the 90 % interval.
    - `percentile`: Share of the calibration's networks with a lower value under its recipe, in percent.
    - `neighbours`: The networks whose value under the recipe is nearest, the best first.
    - `terms`: What each trait adds beside the average network, by name, the largest first, in the calibration's unit.
      With `average` they add up to the value.
    - `average`: Value of a network with the average traits.
    """

    value: float
    low: float
    high: float
    percentile: float
    neighbours: tuple[MeasuredNetwork, ...]
    terms: Mapping[str, float]
    average: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedGap:
    """The difference of a candidate to a baseline, under one recipe.

    - `difference`: Estimated; positive where the candidate is better.
    - `deviation`: Its standard deviation, without the noise of measuring.
    - `is_same_design`: Whether both are made of the same kinds of layers, and so have that part in common.
    """

    difference: float
    deviation: float
    is_same_design: bool


def outside(scores: ProxyScores, calibration: Calibration) -> str:
    """Return why a network is outside the support of a calibration, as a clause; empty where it is inside."""
    design = scores.design
    if design["image_channels"] != _IMAGE_CHANNELS:
        return "its input is no image of three channels"
    if design["classes"] < _FEWEST_CLASSES:
        return "it is no classifier: its output is not one row of classes a sample"
    edges = [math.exp(one.traits[_place("input_positions")] / 2) for one in calibration.networks]
    edge = math.exp(design["input_positions"] / 2)
    if not min(edges) / _INPUT_MARGIN <= edge <= max(edges) * _INPUT_MARGIN:
        others = f"those of {calibration.name} are {min(edges):.0f} to {max(edges):.0f}"
        return f"its input is {edge:.0f} pixels wide, and {others}"
    for noun, own, theirs in (
        ("MACs", scores.macs, [one.macs for one in calibration.networks]),
        ("parameters", scores.params, [one.params for one in calibration.networks]),
    ):
        low, high = min(theirs) / _MARGIN, max(theirs) * _MARGIN
        if own is None or not low <= own <= high:
            others = f"networks of {calibration.name} have {min(theirs):,} to {max(theirs):,}"
            return f"it has {own or 0:,} {noun}, and {others}"
    if _unexplained(scores, calibration) > _UNLIKE:
        return f"no network of {calibration.name} is like it"
    return ""


def estimate(scores: ProxyScores, calibration: Calibration) -> ValueEstimate:
    """Return what a calibration says of a network inside its support."""
    traits = _row(scores)
    regression = calibration.regression
    found = regression.predict(traits[None], [calibration.recipe])
    value, reach = float(found.mean[0]), calibration.interval_scale * float(found.deviation[0])
    others = calibration.plain_values
    terms = dict(zip(NETWORK_TRAITS, map(float, regression.terms(traits)), strict=True))
    largest_first = sorted(terms, key=lambda name: -abs(terms[name]))
    return ValueEstimate(
        value=value,
        low=value - reach,
        high=value + reach,
        percentile=100.0 * float(np.mean(others < value)),
        neighbours=_nearest(value, calibration),
        terms=MappingProxyType({name: terms[name] for name in largest_first}),
        average=value - math.fsum(terms.values()),
    )


def compare(candidate: ProxyScores, baseline: ProxyScores, calibration: Calibration) -> EstimatedGap:
    """Return the estimated difference of two networks inside the support."""
    kin = design_distance(candidate.design, baseline.design, calibration) <= _SAME_DESIGN
    rows = np.array([_row(candidate), _row(baseline)])
    families = ["the same", "the same"] if kin else None
    found = calibration.regression.predict(rows, [calibration.recipe] * 2, families)
    covariance = found.covariance
    noise = 2 * calibration.covariance.noise
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1] - noise
    return EstimatedGap(
        difference=float(found.mean[0] - found.mean[1]),
        deviation=math.sqrt(max(0.0, float(variance))),
        is_same_design=kin,
    )


def has_same_parts(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Return whether two designs have the same kinds of layers, activations and normalisation, in whatever shares.

    A network and another one of half its width or depth have.
    """
    return all((one[name] > least) == (other[name] > least) for name, least in _PARTS.items())


def design_distance(one: Mapping[str, float], other: Mapping[str, float], calibration: Calibration) -> float:
    """Return how different the kinds of layers of two networks are: root mean square over the traits of design.

    In units of each trait's standard deviation among the calibration's networks. Below 0.3 are 42 % of the pairs of one
    family of `imagenet`, and 0.6 % of the others.

    - `one`, `other`: Designs, as :attr:`ProxyScores.design` has them.
    """
    places = [_place(name) for name in DESIGN_TRAITS]
    spread = calibration.regression.deviations[places]
    ours, theirs = (np.array([design[name] for name in DESIGN_TRAITS]) for design in (one, other))
    return float(np.sqrt((((ours - theirs) / spread) ** 2).mean()))


def _nearest(value: float, calibration: Calibration) -> tuple[MeasuredNetwork, ...]:
    """Return the networks whose plain value is nearest, each name once, the best first."""
    order = np.argsort(np.abs(calibration.plain_values - value), kind="stable")
    found: dict[str, int] = {}
    for place in map(int, order):
        found.setdefault(calibration.networks[place].name, place)
        if len(found) == _NEIGHBOURS:
            break
    best_first = sorted(found.values(), key=lambda place: -calibration.plain_values[place])
    return tuple(calibration.networks[place] for place in best_first)


def _unexplained(scores: ProxyScores, calibration: Calibration) -> float:
    """Return the share of the traits' variance that no network of the calibration explains."""
    row = _row(scores)[None]
    regression, covariance = calibration.regression, calibration.covariance
    variance = float(regression.predict(row, [calibration.recipe]).covariance[0, 0])
    return (variance - covariance.noise - covariance.family) / regression.prior_variance(row)


def _row(scores: ProxyScores) -> Floats:
    return np.array(list(traits_of(scores).values()))


def _place(name: str) -> int:
    return NETWORK_TRAITS.index(name)
