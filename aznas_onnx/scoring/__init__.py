"""Score a model: settings, seeds, device and results."""

from aznas_onnx.scoring.device import resolve_device
from aznas_onnx.scoring.score_models import score, score_many
from aznas_onnx.scoring.settings import ScoreSettings

__all__ = ["ScoreSettings", "resolve_device", "score", "score_many"]
