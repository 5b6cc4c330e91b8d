"""What varies among candidates, and which proxies count where that varies.

Which property of a network decides its accuracy depends on what the candidates differ in: with the wiring of a fixed
skeleton, how many layers a signal crosses; with widths, how many directions features have. No set of proxies ranks well
everywhere (docs/truth.md). What varies can be seen without labels, from structural proxies alone.

============  ==============================================================  ============================
Kind          Candidates                                                      For example
============  ==============================================================  ============================
transformers  networks of attention                                           AutoFormer, BERT, GPT
resolutions   convolutional networks whose last maps differ in size           TransNAS-Bench macro
widths        of one depth                                                    NATS-Bench size space
edges         of one number of blocks, with edges that may be absent          NAS-Bench-201
wiring        of one number of blocks, all of which are connected             NAS-Bench-101, DARTS
stages        of other numbers of blocks: repeats, kernels, expansions        MnasNet, NB-Macro
============  ==============================================================  ============================

The proxies of each kind are the group ``best-KIND`` (:mod:`aznas_onnx.proxies.builtin`).
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies import PROXIES
from aznas_onnx.proxies.builtin import KIND_TRAITS
from aznas_onnx.ranking.aggregation import Aggregation
from aznas_onnx.ranking.ensemble import OWN_AGGREGATIONS, Ensemble
from aznas_onnx.results import ProxyValue

__all__ = ["CohortKind", "for_cohort", "kind_of", "of_kind"]

_COMMON = 0.9  # share of the candidates that are equal in what does not vary
_WITH_ABSENT_EDGES = 0.1  # share of the candidates with parameters that nothing reaches


class CohortKind(str, enum.Enum):
    """What varies among candidates."""

    TRANSFORMERS = "transformers"
    RESOLUTIONS = "resolutions"
    WIDTHS = "widths"
    EDGES = "edges"
    WIRING = "wiring"
    STAGES = "stages"

    @property
    def group(self) -> str:
        """The group of the proxies that count for this kind."""
        return f"best-{self.value}"


def kind_of(columns: Sequence[Mapping[str, ProxyValue]]) -> CohortKind:
    """Return what varies among candidates.

    - `columns`: The proxies of each: ``final_positions``, ``depth``, ``block_count``, ``params`` and ``live_params``,
      and of one at least ``progressivity``, which applies to no transformer.

    Raises SettingsError if one lacks them.
    """
    lacking = [name for name in KIND_TRAITS if not all(name in column for column in columns)]
    if lacking:
        raise SettingsError(
            f"nothing tells what varies among the candidates without {lacking[0]}; score with proxies best"
        )
    told = [column["progressivity"].applies for column in columns if "progressivity" in column]
    if 2 * told.count(False) > len(told):
        return CohortKind.TRANSFORMERS
    if not _is_common(columns, "final_positions"):
        return CohortKind.RESOLUTIONS
    if _is_common(columns, "depth"):
        return CohortKind.WIDTHS
    if not _is_common(columns, "block_count"):
        return CohortKind.STAGES
    absent = sum(_mean(column, "live_params") < _mean(column, "params") for column in columns)
    return CohortKind.EDGES if absent >= _WITH_ABSENT_EDGES * len(columns) else CohortKind.WIRING


def for_cohort(ensemble: Ensemble, columns: Sequence[Mapping[str, ProxyValue]]) -> tuple[Ensemble, CohortKind | None]:
    """Return the ensemble that an adaptive one is for these candidates, and their kind; any other as it is.

    Proxies that are of no kind count as they did.

    Raises SettingsError if the candidates lack a proxy that tells what varies.
    """
    if ensemble.aggregation is not Aggregation.BY_KIND or not columns:
        return ensemble, None
    kind = kind_of(columns)
    return of_kind(ensemble, kind), kind


def of_kind(ensemble: Ensemble, kind: CohortKind) -> Ensemble:
    """Return the ensemble that an adaptive one is for candidates of a kind."""
    members = PROXIES.resolve([kind.group])
    own = PROXIES.weights([kind.group])
    weights = {proxy.name: 0.0 for proxy in PROXIES.resolve(["best"])}
    weights |= {proxy.name: own.get(proxy.name, 1.0) * ensemble.weight(proxy.name) for proxy in members}
    weights = {**ensemble.weights, **weights}
    return replace(
        ensemble,
        aggregation=OWN_AGGREGATIONS[kind.group],
        weights=MappingProxyType({name: weight for name, weight in weights.items() if weight != 1.0}),
    )


def _is_common(columns: Sequence[Mapping[str, ProxyValue]], name: str) -> bool:
    """Whether nearly all candidates have the same value of a proxy."""
    values = Counter(column[name].mean for column in columns)
    return values.most_common(1)[0][1] >= _COMMON * len(columns)


def _mean(column: Mapping[str, ProxyValue], name: str) -> float:
    value = column[name].mean
    return 0.0 if value is None else value
