"""Axes of tensors as products of factors, each a part of the batch, the channels, or the positions.

An axis of size 56 with a row of positions is ``((POSITION, 56),)``; after a Reshape into 8 windows of 7 there are two
axes ``((POSITION, 8),)`` and ``((POSITION, 7),)``; joined with the batch it is ``((BATCH, 2), (POSITION, 8))``. An axis
of size 1 has no factors, but for the batch, which can be 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

__all__ = ["BATCH", "CHANNEL", "POSITION", "UNKNOWN", "Axes", "Axis", "axis_of", "is_open", "open_kind", "regroup"]

Axis: TypeAlias = "tuple[tuple[str, int], ...]"
Axes: TypeAlias = "tuple[Axis, ...]"

BATCH = "batch"
CHANNEL = "channel"
POSITION = "position"
UNKNOWN = "unknown"
_OPEN = "open"


def open_kind(index: int) -> str:
    """Return the kind of an axis of the graph's input, a question that the first weight to read it answers."""
    return f"{_OPEN} {index}"


def is_open(kind: str) -> bool:
    """Whether a kind is still a question."""
    return kind.startswith(_OPEN)


def axis_of(kind: str, size: int) -> Axis:
    """Return an axis of one factor."""
    return ((kind, size),) if size != 1 or kind == BATCH else ()


def regroup(axes: Iterable[Axis], shape: Sequence[int]) -> Axes:
    """Return the axes after a Reshape to `shape`: the same factors in the same order, split and joined again.

    Where sizes do not divide, the other axes are unknown. A batch of size 1 goes to an axis of size 1 at its place,
    else to the axis before it, or to the first.
    """
    factors = [factor for axis in axes for factor in axis]
    result: list[Axis] = []
    at = 0
    for size in shape:
        taken: list[tuple[str, int]] = []
        product = 1
        if size == 1 and at < len(factors) and factors[at][1] == 1:
            taken.append(factors[at])
            at += 1
        while product < size and at < len(factors):
            kind, factor = factors[at]
            missing = size // product
            if factor <= missing and missing % factor == 0:
                taken.append(factors[at])
                product *= factor
                at += 1
            elif factor % missing == 0 and product * missing == size:
                taken.append((kind, missing))
                factors[at] = (kind, factor // missing)
                product = size
            else:
                break
        if product != size:
            return (*result, *(axis_of(UNKNOWN, size) for size in shape[len(result) :]))
        result.append(tuple(taken))
        index = len(result)
        if at < len(factors) and factors[at][1] == 1 and not (index < len(shape) and shape[index] == 1):
            result[-1] += (factors[at],)
            at += 1
    return tuple(result)
