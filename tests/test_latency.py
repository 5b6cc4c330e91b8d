from __future__ import annotations

import numpy as np
import onnx
import pytest

from aznas_onnx import spaces
from aznas_onnx.errors import ModelError
from aznas_onnx.latency import measure_ms


def test_a_network_of_ten_times_the_work_takes_longer() -> None:
    small, large = (spaces.get("nb201", resolution=resolution) for resolution in (8, 64))
    cell = small.sample(np.random.default_rng(0))
    assert 0 < measure_ms(small.build(cell)) < measure_ms(large.build(cell))


def test_what_onnxruntime_refuses_is_a_sentence() -> None:
    broken = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3] x) => (float[1, 3] y) { y = NoSuchOperator(x) }'
    )
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run the network: .*NoSuchOperator"):
        measure_ms(broken)
