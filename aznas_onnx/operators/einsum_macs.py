"""Multiply-adds of an Einsum, operand by operand from the left."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aznas_onnx.errors import ModelError

__all__ = ["einsum_macs"]

_ELLIPSIS = "..."


def einsum_macs(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the multiply-adds of an Einsum.

    The operands are taken in pairs from the left, as ONNX Runtime and PyTorch do. A pair costs the product of the
    sizes of all its labels if one of them is summed over both, as a matrix product does; a pair without such a
    label is an elementwise or outer product, and zero like Mul. A label that only one operand has is
    summed first, for nothing.

    Raises ModelError if the equation does not fit the shapes.
    """
    terms, result = _parse(equation, shapes)
    sizes = _sizes(terms, shapes)
    wanted_later = [frozenset(result).union(*terms[i + 1 :]) for i in range(len(terms))]
    macs = 0
    left = frozenset(terms[0])
    for position in range(1, len(terms)):
        right, kept = frozenset(terms[position]), wanted_later[position]
        left, right = left & (right | kept), right & (left | kept)  # sums over one operand alone
        if (left & right) - kept:
            macs += math.prod(sizes[label] for label in left | right)
        left = (left | right) & kept
    return macs


def _parse(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[list[str]], list[str]]:
    """Split an equation into labels; the axes of an ellipsis get separate labels, counted from the last."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(shapes):
        raise ModelError(f"Einsum equation {equation!r} has {len(texts)} operands, but {len(shapes)} are given")
    terms = [_labels(text, len(shape)) for text, shape in zip(texts, shapes, strict=True)]
    hidden = max((sum(len(label) > 1 for label in term) for term in terms), default=0)
    if arrow:
        return terms, _labels(right, len(right.replace(_ELLIPSIS, "")) + hidden)
    letters = [label for term in terms for label in term]
    return terms, [label for label in dict.fromkeys(letters) if len(label) > 1 or letters.count(label) == 1]


def _labels(text: str, rank: int) -> list[str]:
    before, ellipsis, after = text.partition(_ELLIPSIS)
    hidden = rank - len(before) - len(after) if ellipsis else 0
    return [*before, *(f"{_ELLIPSIS}{axis}" for axis in range(hidden, 0, -1)), *after]


def _sizes(terms: Sequence[Sequence[str]], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(term) != len(shape):
            raise ModelError(f"Einsum operand {''.join(term)!r} has {len(term)} labels, but shape {shape}")
        for label, size in zip(term, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))  # an axis of size one broadcasts
    return sizes
