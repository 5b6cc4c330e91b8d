from __future__ import annotations

import zlib

import pytest

from tests.convert.runner import assert_same, node_model, run_here, run_onnxruntime
from tests.convert.samples import SAMPLES, Random

SAMPLES_EACH = 15


@pytest.mark.parametrize("operator", SAMPLES)
def test_random_uses_in_all_versions_agree_with_onnxruntime(operator: str) -> None:
    for seed in range(SAMPLES_EACH):
        sample = SAMPLES[operator](Random((zlib.crc32(operator.encode()), seed)))
        model, feeds = node_model(
            operator.split()[0],
            sample.inputs,
            sample.attributes,
            sample.opset,
            constants=sample.constants,
            outputs=sample.outputs,
        )
        assert_same(run_here(model, feeds), run_onnxruntime(model, feeds), rtol=1e-3, atol=1e-4)
