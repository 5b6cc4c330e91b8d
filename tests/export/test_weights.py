from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from aznas_onnx import spaces
from aznas_onnx.export import initialised


def weights(name: str, *, seed: int = 0, **options: int) -> dict[str, npt.NDArray[np.float32]]:
    space = spaces.get(name, **options)
    proto = initialised(space.build(space.sample(np.random.default_rng(3))), seed=seed)
    onnx.checker.check_model(proto, full_check=True)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def test_convolutions_get_kaiming_weights_and_normalisations_none() -> None:
    found = weights("nb201", resolution=16)
    convolutions = [(key, value) for key, value in found.items() if key.endswith("conv.weight") and value.ndim == 4]
    assert convolutions
    for _, value in convolutions:
        expected = math.sqrt(2 / value[0].size)
        assert value.std() == pytest.approx(expected, rel=5 / math.sqrt(value.size))
    for key, value in found.items():
        if key.endswith((".bias", ".running_mean")):
            assert not value.any()
        if key.endswith(("bn.weight", ".running_var")):
            assert (value == 1).all()


def test_transformers_get_truncated_normal_weights_tables_and_tokens() -> None:
    found = weights("autoformer-tiny", resolution=32)
    for part in ("qkv.weight", "pos_embed", "rel_pos"):
        values = [value for key, value in found.items() if part in key and value.dtype == np.float32]
        assert values
        for value in values:
            assert value.std() == pytest.approx(0.02, rel=5 / math.sqrt(value.size))


def test_the_seed_decides() -> None:
    one, same, other = (weights("nb201", resolution=16, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert not np.array_equal(one["stem.conv.weight"], other["stem.conv.weight"])


def test_a_weight_of_one_element_keeps_its_value() -> None:
    found = weights("nb201", resolution=16, num_classes=1)
    assert found["classifier.bias"].tolist() == [0.0]


def test_the_model_that_was_given_is_left_as_it_is() -> None:
    space = spaces.get("nb201", resolution=16)
    model = space.build(space.sample(np.random.default_rng(3)))
    before = model.SerializeToString(deterministic=True)
    initialised(model, seed=0)
    assert model.SerializeToString(deterministic=True) == before
