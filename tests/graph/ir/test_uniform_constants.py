"""Weights without data share what is equal, and nothing else."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aznas_onnx.graph.ir import uniform_constants
from aznas_onnx.graph.ir.graph import Array, Constant
from aznas_onnx.graph.ir.uniform_constants import filled


def content(constant: Constant) -> Array:
    assert constant.read is not None
    return constant.read()


def scalar(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype=dtype)


def test_equal_constants_are_one_and_small_ones_share_their_data() -> None:
    first, again, other = (filled(name, (4, 3), scalar(1)) for name in ("a", "a", "b"))
    assert first is again
    assert other is not first
    assert other.read is first.read
    assert (first.sources, other.sources) == ({"a"}, {"b"})
    assert not content(first).flags.writeable


@pytest.mark.parametrize("shape", [(2,), (100, 100)])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        (scalar(0.0), scalar(-0.0)),
        (scalar(1.0), scalar(1, np.int64)),
        (scalar(1.0), scalar(1.0, np.float64)),
        (scalar(1.0, np.float16), scalar(1.0, ml_dtypes.bfloat16)),
        (scalar(1, np.bool_), scalar(1, np.uint8)),
    ],
)
def test_values_and_types_are_distinguished(shape: tuple[int, ...], left: Array, right: Array) -> None:
    for value in (left, right, left):
        constant = filled("w", shape, value)
        assert constant.dtype == value.dtype
        assert content(constant).tobytes() == np.full(shape, value).tobytes()


def test_what_is_remembered_is_bounded() -> None:
    for cache in (uniform_constants._equal, uniform_constants._small):
        limit = cache.cache_info().maxsize
        assert limit is not None
        assert limit <= 8192
    long = "w" * 300
    assert filled(long, (2,), scalar(1)) is not filled(long, (2,), scalar(1))
    assert type(content(filled("n", (2,), scalar(1))).shape[0]) is int
    assert type(filled("n", (np.int64(2),), scalar(1)).shape[0]) is np.int64
    assert type(filled("n", (2,), scalar(1)).shape[0]) is int
    texts = np.array(["x"], dtype=object)
    assert content(filled("t", (2,), texts)).tolist() == ["x", "x"]
