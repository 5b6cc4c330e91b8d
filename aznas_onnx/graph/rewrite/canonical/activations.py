"""Activation functions written as arithmetic, and all forms of ReLU and ReLU6."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.rewrite.canonical.algebra import Sum, climb, close, expand, inner_tensors
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Rewrite

__all__ = ["REWRITES", "clip_bounds"]

_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_UNBOUNDED = 3e38  # the largest float32 is 3.4e38, which exporters write for "no bound"
_CLIPS_OF_ONE_SIDE = ((0.0, math.inf), (-math.inf, math.inf))  # a Relu, and nothing at all
_NO_ARGUMENT = "its argument is not that of the function"
_NO_PRODUCT = "no product of the right form follows"


class _GatedUnit(NamedTuple):
    """A tensor x and the argument that a function of x has, as a sum of products."""

    x: str
    argument: Sum


def _gates(editor: Editor, node: Node) -> Iterator[_GatedUnit]:
    """Yield candidates for the input of a function that starts with `node` and ends with a product with its input."""
    for x in inner_tensors(editor, node.inputs[0]):
        if len(editor.readers(x)) > 1:
            argument = expand(editor, node.inputs[0], {x})
            if argument is not None:
                yield _GatedUnit(x, argument)


def _fuse(editor: Editor, gate: Node, x: str, wanted: Sum, op_type: str, **attributes: Any) -> bool:
    """Replace the arithmetic above `gate` that has the wanted form by one operator on `x`."""
    symbols = {x, gate.outputs[0]}
    for root in climb(editor, gate.outputs[0]):
        if editor.shape(root.outputs[0]) == editor.shape(x) and close(expand(editor, root.outputs[0], symbols), wanted):
            patch = NodeBuilder(editor, root)
            patch.add(op_type, x, output=root.outputs[0], attributes=attributes)
            patch.apply()
            return True
    return False


def _erf_gelu(editor: Editor, node: Node) -> str | None:
    """x/2 (1 + erf(x / sqrt 2)), or with 1 - erf(-x / sqrt 2), as complementary error functions are lowered."""
    reason = _NO_ARGUMENT
    for x, argument in _gates(editor, node):
        sign = 1.0 if close(argument, {(x,): _ROOT_HALF}) else -1.0
        if sign < 0 and not close(argument, {(x,): -_ROOT_HALF}):
            continue
        if _fuse(editor, node, x, {(x,): 0.5, (x, node.outputs[0]): 0.5 * sign}, "Gelu"):
            return None
        reason = _NO_PRODUCT
    return reason


def _tanh_gelu(editor: Editor, node: Node) -> str | None:
    """x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    reason = _NO_ARGUMENT
    for x, argument in _gates(editor, node):
        if not close(argument, {(x,): _ROOT_2_OVER_PI, (x, x, x): 0.044715 * _ROOT_2_OVER_PI}):
            continue
        if _fuse(editor, node, x, {(x,): 0.5, (x, node.outputs[0]): 0.5}, "Gelu", approximate="tanh"):
            return None
        reason = _NO_PRODUCT
    return reason


def _swish(editor: Editor, node: Node) -> str | None:
    """x sigmoid(x): SiLU; x sigmoid(1.702 x): the quick GELU."""
    reason = _NO_ARGUMENT
    for x, argument in _gates(editor, node):
        alpha = argument.get((x,), 0.0)
        if len(argument) != 1 or alpha <= 0.0:
            continue
        if _fuse(editor, node, x, {(x, node.outputs[0]): 1.0}, "Swish", alpha=alpha):
            return None
        reason = _NO_PRODUCT
    return reason


def _mish(editor: Editor, node: Node) -> str | None:
    """x tanh(softplus(x))."""
    inner = editor.producer(node.inputs[0])
    if inner is None or not inner.is_op("Softplus"):
        return _NO_ARGUMENT
    x = inner.inputs[0]
    return None if _fuse(editor, node, x, {(x, node.outputs[0]): 1.0}, "Mish") else _NO_PRODUCT


def _hard_swish_of_clip(editor: Editor, node: Node) -> str | None:
    """x clip(x + 3, 0, 6) / 6."""
    if clip_bounds(editor, node) != (0.0, 6.0):
        return "its bounds are not 0 and 6"
    reason = _NO_ARGUMENT
    for x, argument in _gates(editor, node):
        if not close(argument, {(x,): 1.0, (): 3.0}):
            continue
        if _fuse(editor, node, x, {(x, node.outputs[0]): 1.0 / 6.0}, "HardSwish"):
            return None
        reason = _NO_PRODUCT
    return reason


def _hard_sigmoid(editor: Editor, node: Node) -> str | None:
    """clip(a x + b, 0, 1), or clip(x + 3, 0, 6) / 6."""
    bounds = clip_bounds(editor, node)
    if bounds is None or bounds[0] != 0.0 or bounds[1] not in (1.0, 6.0):
        return "its bounds are not 0 and 1, nor 0 and 6"
    high = bounds[1]
    affine = [
        _GatedUnit(x, argument)
        for x in inner_tensors(editor, node.inputs[0])
        if (argument := expand(editor, node.inputs[0], {x})) is not None and argument.keys() == {(x,), ()}
    ]
    if not affine:
        return _NO_ARGUMENT
    x, argument = affine[-1]  # the furthest back
    parameters = {"alpha": argument[(x,)] / high, "beta": argument[()] / high}
    if high == 1.0:
        patch = NodeBuilder(editor, node)
        patch.add("HardSigmoid", x, output=node.outputs[0], attributes=parameters)
        patch.apply()
        return None
    fused = _fuse(editor, node, x, {(node.outputs[0],): 1.0 / high}, "HardSigmoid", **parameters)
    return None if fused else _NO_PRODUCT


def _hard_swish(editor: Editor, node: Node) -> str | None:
    """x hardsigmoid(x)."""
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    assert isinstance(alpha, float)
    assert isinstance(beta, float)
    if not math.isclose(alpha, 1.0 / 6.0, rel_tol=1e-3) or not math.isclose(beta, 0.5, rel_tol=1e-3):
        return "its slope and offset are not 1/6 and 1/2"
    x = node.inputs[0]
    return None if _fuse(editor, node, x, {(x, node.outputs[0]): 1.0}, "HardSwish") else _NO_PRODUCT


def clip_bounds(editor: Editor, node: Node) -> tuple[float, float] | None:
    """Return the bounds of an operator that clips, infinite where it has none; None where it does not, or they vary."""
    low, high = -math.inf, math.inf
    if node.is_op("Relu"):
        return 0.0, high
    if node.is_op("Clip"):
        attributes: Any = node.attributes
        low, high = attributes.get("min", low), attributes.get("max", high)
        for index, name in enumerate(node.inputs[1:3]):
            value = editor.scalar(name) if name else (low, high)[index]
            if value is None:
                return None
            low, high = (value, high) if index == 0 else (low, value)
    elif node.is_op("Max", "Min") and len(node.inputs) == 2:
        values = [editor.scalar(name) for name in node.inputs]
        bound = values[1] if values[1] is not None else values[0]
        if bound is None or (values[0] is not None and values[1] is not None):
            return None
        low, high = (bound, high) if node.is_op("Max") else (low, bound)
    else:
        return None
    return (low if low > -_UNBOUNDED else -math.inf), (high if high < _UNBOUNDED else math.inf)


def _clip(editor: Editor, node: Node) -> str | None:
    """Clip, Relu, Max and Min by a number, alone or after another of them, as one Relu or Clip."""
    bounds = clip_bounds(editor, node)
    if bounds is None:
        return "it does not clip by numbers"
    x = next((name for name in node.inputs if editor.constant(name) is None), "")
    shape = editor.shape(x)
    if not x or not editor.is_float(x) or shape is None or shape != editor.shape(node.outputs[0]):
        return "it broadcasts, or clips integers"
    inner = editor.producer(x)
    merged = None if inner is None or not editor.is_private(x) else clip_bounds(editor, inner)
    if inner is not None and merged is not None and editor.shape(inner.inputs[0]) == shape:
        low, high = bounds
        bounds = (min(max(merged[0], low), high), min(max(merged[1], low), high))
        x = next(name for name in inner.inputs if editor.constant(name) is None)
    elif node.is_op("Relu") or (node.is_op("Clip") and bounds not in _CLIPS_OF_ONE_SIDE):
        return "it is in canonical form"
    if bounds == (0.0, math.inf) and node.is_op("Relu") and x == node.inputs[0]:
        return "it is in canonical form"
    _write_clip(editor, node, x, *bounds)
    return None


def _write_clip(editor: Editor, node: Node, x: str, low: float, high: float) -> None:
    if low == -math.inf and high == math.inf and editor.substitute(node, x):
        return
    patch = NodeBuilder(editor, node)
    if (low, high) == (0.0, math.inf):
        patch.add("Relu", x, output=node.outputs[0])
    else:
        operands = [patch.scalar(low) if low > -math.inf else "", patch.scalar(high) if high < math.inf else ""]
        patch.add("Clip", x, *operands, output=node.outputs[0])
    patch.apply()


REWRITES: tuple[Rewrite, ...] = (
    Rewrite(operators=("Clip", "Relu", "Max", "Min"), attempt=_clip),
    Rewrite(operators=("Erf",), attempt=_erf_gelu, result="Gelu"),
    Rewrite(operators=("Tanh",), attempt=_tanh_gelu, result="Gelu"),
    Rewrite(operators=("Tanh",), attempt=_mish, result="Mish"),
    Rewrite(operators=("Sigmoid",), attempt=_swish, result="Swish"),
    Rewrite(operators=("Clip",), attempt=_hard_swish_of_clip, result="HardSwish"),
    Rewrite(operators=("Clip",), attempt=_hard_sigmoid, result="HardSigmoid"),
    Rewrite(operators=("HardSigmoid",), attempt=_hard_swish, result="HardSwish"),
)
