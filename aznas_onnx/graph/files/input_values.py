"""Values of inputs that steer a network: a length, a sample rate, a flag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph.ir.graph import Array, Graph, GraphInput

__all__ = ["Value", "with_values"]

Value: TypeAlias = "bool | float | Sequence[bool | float]"
"""A number or truth value for all of an input's elements, or one for each along its last axis."""


def with_values(graph: Graph, given: Mapping[str, Value]) -> tuple[Graph, tuple[str, ...], tuple[str, ...]]:
    """Return a graph whose inputs have the given values, the changes in words, and warnings.

    Unknown names are no error beside known ones: another model on the command line can have them.

    Raises SettingsError if it has none of the names, or a value does not fit the input's type or shape.
    """
    if not given:
        return graph, (), ()
    known = {value.name for value in graph.inputs if value.replaces is None}
    unknown = [name for name in given if name not in known]
    if len(unknown) == len(given):
        found = ", ".join(map(repr, sorted(known)))
        raise SettingsError(f"--value names {unknown[0]!r}, but the inputs are {found}")
    arrays = {value.name: _fitted(value, given[value.name]) for value in graph.inputs if value.name in given}
    inputs = tuple(
        replace(value, value=arrays[value.name], shape=_shape(value, arrays[value.name]))
        if value.name in arrays
        else value
        for value in graph.inputs
    )
    changes = tuple(f"input {name!r} is {_text(array)} throughout, as --value says" for name, array in arrays.items())
    doubts = tuple(f"--value names {name!r}, which this network does not have" for name in unknown)
    return replace(graph, inputs=inputs), changes, doubts


def _fitted(value: GraphInput, given: Value) -> Array:
    """Return a value in the type of its input."""
    try:
        numbers = np.asarray(given)
        if not numbers.size or numbers.dtype.kind not in "iufb" or value.dtype.kind not in "iufb":
            raise TypeError
        with np.errstate(over="ignore", invalid="ignore"):
            array = numbers.astype(value.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(
            f"--value gives input {value.name!r} {given!r}; numbers, true or false are accepted"
        ) from error
    if not np.isfinite(array).all() or (value.dtype.kind != "f" and not np.array_equal(array, numbers)):
        raise SettingsError(f"--value gives input {value.name!r} {given!r}, which {value.dtype.name} cannot hold")
    if value.shape is not None and not _fits(array.shape, value.shape):
        raise SettingsError(
            f"--value gives input {value.name!r} {array.size} numbers, which do not fit its shape {value.shape}"
        )
    return array


def _fits(sizes: Sequence[int], shape: Sequence[int | str | None]) -> bool:
    """Whether an array is repeated up to a shape, as far as that is known."""
    known = zip(sizes[::-1], shape[::-1], strict=False)
    return len(sizes) <= len(shape) and all(size in (1, axis) or not isinstance(axis, int) for size, axis in known)


def _shape(value: GraphInput, array: Array) -> tuple[int | str | None, ...] | None:
    """Return the shape of an input whose last axis has one element per given number."""
    if value.shape is None:
        return array.shape
    if array.ndim == 0 or array.size == 1 or isinstance(value.shape[-1], int):
        return value.shape
    return (*value.shape[:-1], array.shape[-1])


def _text(array: Array) -> str:
    text = ", ".join(str(one).lower() for one in array.reshape(-1).tolist())
    return text if array.ndim == 0 else f"[{text}]"
