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
_PLAIN = frozenset((int,))  # numpy's integers are equal to Python's, and not the same


def filled(name: str, shape: tuple[int, ...], value: Array) -> Constant:
    """Return a constant of a shape that holds the one element of `value` throughout, and is its own root.

    Its data is read-only. Equal constants are one, whichever network has them, and small ones of equal shape and value
    share what reads them: the walks look at each.
    """
    if value.dtype.hasobject or len(name) > _LONGEST_NAME or not {*map(type, shape)} <= _PLAIN:
        return _constant(name, shape, value.dtype, partial(_fill, shape, value))
    return _equal(name, shape, value.dtype, value.tobytes())


def is_filled(constant: Constant) -> bool:
    """Whether a constant is known to hold one value throughout without looking at its data, which may not be made."""
    return isinstance(constant.read, partial) and constant.read.func in (_fill, _made)


def _constant(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], read: Callable[[], Array]) -> Constant:
    return Constant(shape=shape, dtype=dtype, read=read, sources=frozenset({name}))


def _fill(shape: tuple[int, ...], value: Array) -> Array:
    made = np.full(shape, value.reshape(-1)[0], dtype=value.dtype)
    made.flags.writeable = False
    return made


# Values are told apart by their bytes: 0.0 is not -0.0 there, and what is no number is equal to itself.


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
