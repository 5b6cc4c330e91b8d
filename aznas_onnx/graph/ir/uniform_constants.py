"""Constants of one value: weights that have a shape and no data."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from aznas_onnx.caches import cached
from aznas_onnx.graph.ir.graph import Array, Constant

__all__ = ["filled", "is_filled"]

_SMALL_ELEMENTS = 4096
_LONGEST_NAME = 256
_PLAIN = frozenset((int,))  # np.int64(1) == 1, but they serialise differently, so both must not share a cache key


def filled(name: str, shape: tuple[int, ...], value: Array) -> Constant:
    """Return a constant whose elements all equal `value`, and which is its own root.

    Its data is read-only. Equal constants are one object in all networks, and small ones of equal shape and value share
    their data.
    """
    if value.dtype.hasobject or len(name) > _LONGEST_NAME or not {*map(type, shape)} <= _PLAIN:
        return _constant(name, shape, value.dtype, partial(_fill, shape, value))
    return _equal(name, shape, value.dtype, value.tobytes())


def is_filled(constant: Constant) -> bool:
    """Whether a constant is known to have one value without reading its data."""
    return isinstance(constant.read, partial) and constant.read.func in (_fill, _made)


def _constant(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], read: Callable[[], Array]) -> Constant:
    return Constant(shape=shape, dtype=dtype, read=read, sources=frozenset({name}))


def _fill(shape: tuple[int, ...], value: Array) -> Array:
    made = np.full(shape, value.reshape(-1)[0], dtype=value.dtype)
    made.flags.writeable = False
    return made


# The key is the bytes of the value: they distinguish 0.0 from -0.0, and a NaN equals itself.


@cached(8192, "the networks of a search have most of their constants in common")
def _equal(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], content: bytes) -> Constant:
    is_small = math.prod(shape) <= _SMALL_ELEMENTS
    read = _small(shape, dtype, content) if is_small else partial(_fill, shape, np.frombuffer(content, dtype))
    return _constant(name, shape, dtype, read)


@cached(1024, "constants of equal values share their data")
def _small(shape: tuple[int, ...], dtype: np.dtype[Any], content: bytes) -> Callable[[], Array]:
    return partial(_made, _fill(shape, np.frombuffer(content, dtype)))


def _made(values: Array) -> Array:
    return values
