"""Score a model: settings, seeds, device and results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aznas_onnx.scoring.effort import Effort
from aznas_onnx.scoring.method_version import METHOD_VERSION, method_of, other_method
from aznas_onnx.scoring.settings import ScoreOptions, ScoreSettings, UnseededOptions

if TYPE_CHECKING:
    from aznas_onnx.scoring.device import resolve_device
    from aznas_onnx.scoring.score_models import attempt, score, score_many
    from aznas_onnx.scoring.session import Session

__all__ = [
    "METHOD_VERSION",
    "Effort",
    "ScoreOptions",
    "ScoreSettings",
    "Session",
    "UnseededOptions",
    "attempt",
    "method_of",
    "other_method",
    "resolve_device",
    "score",
    "score_many",
]

_MODULES = {
    "Session": "aznas_onnx.scoring.session",
    "attempt": "aznas_onnx.scoring.score_models",
    "resolve_device": "aznas_onnx.scoring.device",
    "score": "aznas_onnx.scoring.score_models",
    "score_many": "aznas_onnx.scoring.score_models",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value
