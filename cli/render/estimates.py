"""Estimates in the report of `aznas score`: what a calibration says of each model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from aznas_onnx.calibration import Calibration, MeasuredNetwork, ValueEstimate, estimate, outside
from aznas_onnx.counts import format_count
from aznas_onnx.documents import JsonObject
from aznas_onnx.ranking import Ranking
from aznas_onnx.results import ProxyScores, Status

__all__ = ["Estimates"]

_MOST_TERMS, _SHOWN_TERMS = 8, 4  # in JSON, and in a line for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """What a calibration says of some models, in their order.

    - `values`: None for one outside its support, or that failed.
    - `reasons`: Why there is none, as a clause; empty where there is one.
    """

    calibration: Calibration
    values: tuple[ValueEstimate | None, ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, scores: Sequence[ProxyScores], calibration: Calibration) -> Estimates:
        """Estimate each model."""
        reasons = [outside(one, calibration) if one.status is Status.OK else "it failed" for one in scores]
        values = [None if why else estimate(one, calibration) for one, why in zip(scores, reasons, strict=True)]
        return cls(calibration=calibration, values=tuple(values), reasons=tuple(reasons))

    def ranked(self, ranking: Ranking) -> Ranking:
        """Return a ranking of the models by their estimates; those without one have no rank."""
        known = {index: one.value for index, one in enumerate(self.values) if one is not None}
        order = sorted(known, key=lambda index: -known[index])
        ranks = {index: 1 + sum(other > known[index] for other in known.values()) for index in order}
        places = [ranks.get(index) for index in range(len(self.values))]
        return replace(ranking, rank=tuple(places), order=tuple(order))

    def document(self, index: int) -> JsonObject:
        """Return the key ``estimate`` of a model's JSON."""
        found = self.values[index]
        if found is None:
            return {"estimate": None, "estimate_reason": self.reasons[index]}
        fields = {
            "top1": round(found.value, 2),
            "low": round(found.low, 2),
            "high": round(found.high, 2),
            "percentile": round(found.percentile, 1),
            "recipe": self.calibration.recipe,
            "average": round(found.average, 2),
            "terms": _terms_document(found),
            "neighbours": [_network_document(one) for one in found.neighbours],
        }
        return {"estimate": fields, "estimate_reason": None}

    def cell(self, index: int) -> str:
        """Return the cell of a table."""
        found = self.values[index]
        return "" if found is None else f"{found.value:.1f} ±{found.high - found.value:.1f}"

    def legend(self) -> str:
        """Return what the estimates are, in sentences."""
        names = {one.name for one in self.calibration.networks}
        return (
            f"Estimate: {self.calibration.measure} under the recipe {self.calibration.recipe}, with a 90 % interval, "
            f"from {len(self.calibration.networks):,} published measurements of {len(names):,} networks. "
            "Proxies and AZ score use no measurement."
        )

    def notes(self, names: Sequence[str], best_first: Sequence[int]) -> Iterator[str]:
        """Yield where each model lies, what made its estimate, or why there is none."""
        for index in best_first:
            found, reason = self.values[index], self.reasons[index]
            if found is None:
                if reason != "it failed":
                    yield f"{names[index]}: no estimate, because {reason}"
                continue
            among = "; ".join(map(_named, found.neighbours))
            yield f"{names[index]}: percentile {found.percentile:.0f} of {self.calibration.name}, among {among}"
            terms = [f"{name} {term:+.1f}" for name, term in list(found.terms.items())[:_SHOWN_TERMS]]
            yield f"{names[index]}: {found.average:.1f} for the average network, {', '.join(terms)} and less"


def _named(one: MeasuredNetwork) -> str:
    return (
        f"{one.name} {one.value:.1f} ({format_count(one.macs)} MACs, {format_count(one.params)} params, {one.recipe})"
    )


def _terms_document(found: ValueEstimate) -> JsonObject:
    """Return the largest terms, and the sum of the others."""
    terms = list(found.terms.items())
    others = math.fsum(term for _, term in terms[_MOST_TERMS:])
    return {name: round(term, 3) for name, term in (*terms[:_MOST_TERMS], ("others", others))}


def _network_document(one: MeasuredNetwork) -> JsonObject:
    return {
        "network": one.name,
        "value": one.value,
        "recipe": one.recipe,
        "macs": one.macs,
        "params": one.params,
    }
