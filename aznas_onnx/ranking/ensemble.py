"""How the ranks of a candidate's proxies become one score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aznas_onnx.documents import JsonObject
from aznas_onnx.proxies import PROXIES
from aznas_onnx.proxies.registry import name_list, split_weight
from aznas_onnx.ranking.aggregation import Aggregation, aggregation_of

__all__ = ["OWN_AGGREGATIONS", "Ensemble"]

OWN_AGGREGATIONS: Mapping[str, Aggregation] = MappingProxyType(
    {
        "best": Aggregation.BY_KIND,
        "best-transformers": Aggregation.LOG_RANK,
        "best-resolutions": Aggregation.LINEAR,
        "best-widths": Aggregation.LINEAR,
        "best-edges": Aggregation.LOG_RANK,
        "best-wiring": Aggregation.LINEAR,
        "best-stages": Aggregation.LOG_RANK,
    }
)
"""The default aggregation of each group that has its own. All other proxies are combined by log-rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """How the ranks of a candidate's proxies become one score.

    Attributes
    ----------
    aggregation
        How the ranks are combined.
    weights
        By proxy: how often its rank counts. A proxy that is not named counts once.
    """

    aggregation: Aggregation = Aggregation.LOG_RANK
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, proxies: Iterable[str] | None, aggregation: Aggregation | str | None = None) -> Ensemble:
        """Make the ensemble of proxies with weights in their names, such as ``synflow:0.5``.

        Without an aggregation it is that of the first group with one of its own (:data:`OWN_AGGREGATIONS`), else
        log-rank.

        Raises
        ------
        UnknownNameError
            If a proxy is not registered.
        SettingsError
            If the aggregation or a weight is not accepted.
        """
        names = name_list(proxies or ())
        if aggregation is None:
            groups = (split_weight(name)[0] for name in names)
            aggregation = next(
                (OWN_AGGREGATIONS[name] for name in groups if name in OWN_AGGREGATIONS), Aggregation.LOG_RANK
            )
        return cls(aggregation=aggregation_of(aggregation), weights=MappingProxyType(PROXIES.weights(names)))

    @property
    def is_default(self) -> bool:
        """Whether it is that of the paper: Eq. 12."""
        return self == Ensemble()

    def as_json(self) -> JsonObject:
        """Return it as JSON values."""
        return {"aggregation": self.aggregation.value, "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, data: JsonObject) -> Ensemble:
        """Read back what :meth:`as_json` wrote."""
        return cls(aggregation=aggregation_of(data["aggregation"]), weights=MappingProxyType(dict(data["weights"])))

    def weight(self, proxy: str) -> float:
        """Return how often a proxy counts."""
        return self.weights.get(proxy, 1.0)
