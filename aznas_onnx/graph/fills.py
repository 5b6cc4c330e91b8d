"""Constants that hold one value throughout: weights of which a file, or a drawing, gives the shape only."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from aznas_onnx.graph.ir import Array

__all__ = ["filled"]

_SMALL_ELEMENTS = 4096


def filled(shape: tuple[int, ...], value: Array) -> Callable[[], Array]:
    """Return what makes the data of a constant of a shape that holds the one element of `value` throughout.

    The data is read-only. Small constants of equal shape and value share it, and what is returned: the walks look at
    each of them.
    """
    if math.prod(shape) > _SMALL_ELEMENTS or value.dtype.hasobject:
        return partial(_fill, shape, value)
    return _small(shape, value.dtype, value.tobytes())


def _fill(shape: tuple[int, ...], value: Array) -> Array:
    made = np.full(shape, value.reshape(-1)[0], dtype=value.dtype)
    made.flags.writeable = False
    return made


@lru_cache(maxsize=1024)
def _small(shape: tuple[int, ...], dtype: np.dtype[Any], content: bytes) -> Callable[[], Array]:
    """Keyed by bytes, which tell 0.0 from -0.0 and are equal where the value is no number."""
    made = _fill(shape, np.frombuffer(content, dtype))
    return lambda: made
