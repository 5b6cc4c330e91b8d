from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest

from aznas_onnx import spaces
from aznas_onnx.errors import ModelError
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.searching.scorer import ModelScorer


def test_the_time_limit_holds_in_the_process_that_scores() -> None:
    make_space = partial(spaces.get, "nb201", resolution=8)
    settings = ScoreSettings.of(effort="fast", batch_size=2, device="cpu")
    scorer: ModelScorer = pickle.loads(pickle.dumps(ModelScorer(make_space, settings, time_limit=1e-6)))
    space = make_space()
    with pytest.raises(ModelError, match="allow more with --time-limit SECONDS"):
        scorer.score(space.format(space.sample(np.random.default_rng(0))))
