from __future__ import annotations

import numpy as np

from aznas_onnx.calibration import NEEDED
from aznas_onnx.results import ProxyScores
from aznas_onnx.scoring import score
from aznas_onnx.spaces import get


def scored(space: str, **options: int) -> ProxyScores:
    """Score a network of a space with all that an estimate and a gate need."""
    made = get(space, **options)
    model = made.build(made.sample(np.random.default_rng(0)))
    return score(model, proxies=["az", "idle_blocks", *NEEDED], effort="fast", device="cpu")
