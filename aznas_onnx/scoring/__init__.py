"""Score a model: settings, seeds, device and results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aznas_onnx.late_names import late_names
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

_LATE = {
    "scoring.session": ("Session",),
    "scoring.score_models": ("attempt", "score", "score_many"),
    "scoring.device": ("resolve_device",),
}
__getattr__ = late_names(__name__, _LATE)
