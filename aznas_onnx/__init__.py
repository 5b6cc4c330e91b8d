"""Score neural architectures without training them: the AZ-NAS proxies for any network that can be written as ONNX.

Importing this package is cheap: each name below is loaded when it is first used, and only scoring loads torch.

Examples
--------
>>> import aznas_onnx as az
>>> az.inspect("resnet50.onnx").costs.macs                                   # doctest: +SKIP
4089184256
>>> az.score("resnet50.onnx", seeds=3).proxies["trainability"].mean          # doctest: +SKIP
-0.431
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aznas_onnx.errors import AznasError
from aznas_onnx.late_names import late_names

if TYPE_CHECKING:
    from aznas_onnx import spaces
    from aznas_onnx.caches import clear_caches
    from aznas_onnx.evaluation import bench
    from aznas_onnx.gating import GateResult, gate
    from aznas_onnx.inspection import Inspection, inspect
    from aznas_onnx.ranking import Ranking, rank
    from aznas_onnx.results import ProxyScores
    from aznas_onnx.scoring import ScoreSettings, score, score_many
    from aznas_onnx.searching import Budget, Study
    from aznas_onnx.searching.search import search

__all__ = [
    "AznasError",
    "Budget",
    "GateResult",
    "Inspection",
    "ProxyScores",
    "Ranking",
    "ScoreSettings",
    "Study",
    "bench",
    "clear_caches",
    "gate",
    "inspect",
    "rank",
    "score",
    "score_many",
    "search",
    "spaces",
]

_LATE = {
    "searching": ("Budget", "Study", "search"),
    "gating": ("GateResult", "gate"),
    "inspection": ("Inspection", "inspect"),
    "results": ("ProxyScores",),
    "ranking": ("Ranking", "rank"),
    "scoring": ("ScoreSettings", "score", "score_many"),
    "evaluation": ("bench",),
    "caches": ("clear_caches",),
}
_load = late_names(__name__, _LATE)


def __getattr__(name: str) -> Any:
    if name == "spaces":
        return importlib.import_module("aznas_onnx.spaces")
    if name == "__version__":
        from importlib.metadata import version

        return version("aznas-onnx")
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
