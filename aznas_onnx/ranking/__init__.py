"""Rank candidates by several proxies: the aggregation of Sec. 3.2 (Eq. 12), and one that goes by what varies."""

from aznas_onnx.ranking.aggregation import Aggregation, aggregate, combine_shares
from aznas_onnx.ranking.ensemble import Ensemble
from aznas_onnx.ranking.kinds import CohortKind, for_cohort, kind_of, of_kind
from aznas_onnx.ranking.rank import Ranking, rank

__all__ = [
    "Aggregation",
    "CohortKind",
    "Ensemble",
    "Ranking",
    "aggregate",
    "combine_shares",
    "for_cohort",
    "kind_of",
    "of_kind",
    "rank",
]
