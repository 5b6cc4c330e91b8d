"""Elementwise arithmetic as a sum of products, so that one rule matches every spelling of a formula.

GELU alone is written as ``0.5 * x * (1 + erf(x / sqrt(2)))``, ``x * (0.5 * (1 + ...))``, ``(x / 2) * (...)`` or with
the product multiplied out. All of them expand to the same sum of products of the symbols x and t = erf(...):

    0.5 x + 0.5 x t

A rewrite names its symbols, expands the formula, and compares.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.operators.sets import ARITHMETIC

__all__ = ["Sum", "climb", "close", "expand", "inner_tensors"]

Sum: TypeAlias = "dict[tuple[str, ...], float]"
"""Coefficient by product; a product is the sorted tuple of its factors, the empty one is the constant term."""

_MAX_TERMS = 8
_MAX_FACTORS = 5
_DEPTH = 10
_LOOKED_AT = 16


class _TooLarge(Exception):  # noqa: N818  # control flow of this module, never seen outside
    """The expansion has more terms than any formula that is looked for."""


def _is_arithmetic(node: Node) -> bool:
    return node in ARITHMETIC or node.is_op("Neg", "Sum", "Pow", "Reciprocal")


def expand(editor: Editor, name: str, symbols: Collection[str], inverse: Mapping[str, str] | None = None) -> Sum | None:
    """Expand a tensor into a sum of products.

    - `name`: The tensor.
    - `symbols`: Tensors that are not expanded.
    - `inverse`: Symbol for the reciprocal of a tensor: with ``{"std": "r"}`` a division by ``std`` is a factor ``r``.

    Returns: Factors are symbols, constants of more than one value, and results of other operators. None where the
    expansion would be larger than any known formula.
    """
    try:
        return _expand(editor, name, symbols, inverse or {}, _DEPTH)
    except _TooLarge:
        return None


def _expand(editor: Editor, name: str, symbols: Collection[str], inverse: Mapping[str, str], depth: int) -> Sum:
    if name in symbols:
        return {(name,): 1.0}
    value = editor.scalar(name)
    if value is not None:
        return {(): value} if value else {}
    node = editor.producer(name)
    if node is None or depth == 0 or not _is_arithmetic(node):
        return {(name,): 1.0}
    if node.is_op("Add", "Sub", "Sum", "Neg"):
        total: Sum = {}
        for index, operand in enumerate(node.inputs):
            sign = -1.0 if node.is_op("Neg") or (node.is_op("Sub") and index == 1) else 1.0
            for product, coefficient in _expand(editor, operand, symbols, inverse, depth - 1).items():
                total[product] = total.get(product, 0.0) + sign * coefficient
        return _checked(total)
    if node.is_op("Mul"):
        left, right = (_expand(editor, operand, symbols, inverse, depth - 1) for operand in node.inputs)
        return _times(left, right)
    return _quotient(editor, node, symbols, inverse, depth)


def _quotient(editor: Editor, node: Node, symbols: Collection[str], inverse: Mapping[str, str], depth: int) -> Sum:
    """Expand a Pow, Div or Reciprocal, where it is by a number or by a tensor that has a symbol for its reciprocal."""
    base, operand = node.inputs[0], node.inputs[-1]
    opaque: Sum = {(node.outputs[0],): 1.0}
    value = editor.scalar(operand)
    if node.is_op("Pow"):
        if value not in (2.0, 3.0):
            return opaque
        factor = _expand(editor, base, symbols, inverse, depth - 1)
        power = _times(factor, factor)
        return power if value == 2.0 else _times(power, factor)
    if operand in inverse:
        divisor: Sum = {(inverse[operand],): 1.0}
    elif value:
        divisor = {(): 1.0 / value}
    else:
        return opaque
    return divisor if node.is_op("Reciprocal") else _times(_expand(editor, base, symbols, inverse, depth - 1), divisor)


def _times(left: Sum, right: Sum) -> Sum:
    product: Sum = {}
    for a, x in left.items():
        for b, y in right.items():
            key = tuple(sorted((*a, *b)))
            product[key] = product.get(key, 0.0) + x * y
    return _checked(product)


def _checked(total: Sum) -> Sum:
    if len(total) > _MAX_TERMS or any(len(product) > _MAX_FACTORS for product in total):
        raise _TooLarge
    return total


def close(found: Sum | None, wanted: Mapping[tuple[str, ...], float], tolerance: float = 1e-3) -> bool:
    """Whether two sums agree up to the digits that exporters write constants with."""
    if found is None:
        return False
    target = {tuple(sorted(product)): coefficient for product, coefficient in wanted.items()}
    kept = {product: value for product, value in found.items() if abs(value) > 1e-9}
    return kept.keys() == target.keys() and all(
        abs(kept[product] - value) <= tolerance * abs(value) for product, value in target.items()
    )


def inner_tensors(editor: Editor, name: str) -> Iterator[str]:
    """Yield a tensor and those that it is computed from by arithmetic, nearest first, up to a small number."""
    pending, seen = [name], {name}
    while pending and len(seen) <= _LOOKED_AT:
        current = pending.pop(0)
        yield current
        node = editor.producer(current)
        if node is not None and _is_arithmetic(node):
            fresh = [operand for operand in node.inputs if operand not in seen and editor.constant(operand) is None]
            seen.update(fresh)
            pending.extend(fresh)


def climb(editor: Editor, name: str) -> Iterator[Node]:
    """Yield the arithmetic that reads a tensor, nearest first, up to a small number of nodes."""
    pending, seen = [name], 0
    done: set[Node] = set()
    while pending and seen < _LOOKED_AT:
        for reader in editor.readers(pending.pop(0)):
            if reader not in done and _is_arithmetic(reader):
                done.add(reader)
                seen += 1
                yield reader
                pending.append(reader.outputs[0])
