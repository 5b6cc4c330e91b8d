"""Activation functions written as arithmetic, and all forms of ReLU and ReLU6."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.rewrite.canonical.algebra import Sum, climb, close, expand, inner_tensors
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at

__all__ = ["REWRITES"]

_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_UNBOUNDED = 3e38  # the largest float32 is 3.4e38, which exporters write for "no bound"
_CLIPS_OF_ONE_SIDE = ((0.0, math.inf), (-math.inf, math.inf))  # a Relu, and nothing at all
_NO_ARGUMENT = "its argument is not that of the function"


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


def _fuse(editor: Editor, gate: Node, x: str, wanted: Sum, op_type: str, **attributes: Any) -> Declined:
    """Replace the arithmetic above `gate` that has the wanted form by one operator on `x`."""
    names = {x: "x", gate.outputs[0]: gate.op_type}
    similar: Sum | None = None
    for root in climb(editor, gate.outputs[0]):
        if editor.shape(root.outputs[0]) != editor.shape(x):
            continue
        found = expand(editor, root.outputs[0], names)
        if close(found, wanted):
            return NodeBuilder(editor, root).finish(op_type, x, attributes=attributes)
        if found is not None and found.keys() == {tuple(sorted(product)) for product in wanted}:
            similar = found
    formula = _in_words(wanted, names)
    return NearMiss(
        f"the result is {_in_words(similar, names)}, not {formula}" if similar else f"no node after it makes {formula}"
    )


def _gated(
    editor: Editor,
    gate: Node,
    op_type: str,
    argument: Mapping[int, float],
    *,
    constant: float,
    product: float,
    **attributes: Any,
) -> Declined:
    """Fuse x (constant + product t), where t is a function of a polynomial in x with these coefficients by power."""
    reason: Declined = _NO_ARGUMENT
    for x, found in _gates(editor, gate):
        wanted = {(x,) * power: coefficient for power, coefficient in argument.items()}
        if close(found, wanted):
            whole: Sum = {**({(x,): constant} if constant else {}), (x, gate.outputs[0]): product}
            reason = _fuse(editor, gate, x, whole, op_type, **attributes)
            if reason is None:
                return None
        elif found.keys() == wanted.keys() and reason == _NO_ARGUMENT:
            reason = NearMiss(f"its argument is {_in_words(found, {x: 'x'})}, not {_in_words(wanted, {x: 'x'})}")
    return reason


def _in_words(total: Sum, names: Mapping[str, str]) -> str:
    """Write a sum of products: ``3 + x``, ``0.5 x + 0.5 x Erf``."""
    parts = []
    for product, value in sorted(total.items(), key=lambda term: len(term[0])):
        powers = Counter(names[name] for name in product)
        factors = [name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items(), reverse=True)]
        parts.append(" ".join(factors if factors and value == 1.0 else [f"{value:.4g}", *factors]))
    return " + ".join(parts)


@ending_at("Erf", result="Gelu")
def _erf_gelu(editor: Editor, node: Node) -> Declined:
    """x/2 (1 + erf(x / sqrt 2)), or with 1 - erf(-x / sqrt 2), as complementary error functions are lowered."""
    declined = _gated(editor, node, "Gelu", {1: _ROOT_HALF}, constant=0.5, product=0.5)
    if declined is not None and _gated(editor, node, "Gelu", {1: -_ROOT_HALF}, constant=0.5, product=-0.5) is None:
        return None
    return declined


@ending_at("Tanh", result="Gelu")
def _tanh_gelu(editor: Editor, node: Node) -> Declined:
    """x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    argument = {1: _ROOT_2_OVER_PI, 3: 0.044715 * _ROOT_2_OVER_PI}
    return _gated(editor, node, "Gelu", argument, constant=0.5, product=0.5, approximate="tanh")


@ending_at("Sigmoid", result="Swish")
def _swish(editor: Editor, node: Node) -> Declined:
    """x sigmoid(x): SiLU; x sigmoid(1.702 x): the quick GELU."""
    reason: Declined = _NO_ARGUMENT
    for x, argument in _gates(editor, node):
        alpha = argument.get((x,), 0.0)
        if len(argument) == 1 and alpha > 0.0:
            reason = _fuse(editor, node, x, {(x, node.outputs[0]): 1.0}, "Swish", alpha=alpha)
            if reason is None:
                return None
    return reason


@ending_at("Tanh", result="Mish")
def _mish(editor: Editor, node: Node) -> Declined:
    """x tanh(softplus(x))."""
    inner = editor.producer(node.inputs[0])
    if inner is None or not inner.is_op("Softplus"):
        return _NO_ARGUMENT
    x = inner.inputs[0]
    return _fuse(editor, node, x, {(x, node.outputs[0]): 1.0}, "Mish")


@ending_at("Clip", result="HardSwish")
def _hard_swish_of_clip(editor: Editor, node: Node) -> Declined:
    """x clip(x + 3, 0, 6) / 6."""
    if _clip_bounds(editor, node) != (0.0, 6.0):
        return "its bounds are not 0 and 6"
    return _gated(editor, node, "HardSwish", {0: 3.0, 1: 1.0}, constant=0.0, product=1.0 / 6.0)


@ending_at("Clip", result="HardSigmoid")
def _hard_sigmoid(editor: Editor, node: Node) -> Declined:
    """clip(a x + b, 0, 1), or clip(x + 3, 0, 6) / 6."""
    bounds = _clip_bounds(editor, node)
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
        return NodeBuilder(editor, node).finish("HardSigmoid", x, attributes=parameters)
    return _fuse(editor, node, x, {(node.outputs[0],): 1.0 / high}, "HardSigmoid", **parameters)


@ending_at("HardSigmoid", result="HardSwish")
def _hard_swish(editor: Editor, node: Node) -> Declined:
    """x hardsigmoid(x)."""
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    assert isinstance(alpha, float)
    assert isinstance(beta, float)
    x = node.inputs[0]
    reason: Declined = NearMiss(f"its slope and offset are {alpha:.4g} and {beta:.4g}, not 1/6 and 1/2")
    if math.isclose(alpha, 1.0 / 6.0, rel_tol=1e-3) and math.isclose(beta, 0.5, rel_tol=1e-3):
        reason = _fuse(editor, node, x, {(x, node.outputs[0]): 1.0}, "HardSwish")
    if reason is not None and not any(reader.is_op("Mul", "Div") for reader in editor.readers(x)):
        return "its input is not multiplied by anything"
    return reason


def _clip_bounds(editor: Editor, node: Node) -> tuple[float, float] | None:
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


@ending_at("Clip", "Relu", "Max", "Min")
def _clip(editor: Editor, node: Node) -> Declined:
    """Clip, Relu, Max and Min by a number, alone or after another of them, as one Relu or Clip."""
    bounds = _clip_bounds(editor, node)
    if bounds is None:
        return "it does not clip by numbers"
    x = next((name for name in node.inputs if editor.constant(name) is None), "")
    shape = editor.shape(x)
    if not x or not editor.is_float(x) or shape is None or shape != editor.shape(node.outputs[0]):
        return "it broadcasts, or clips integers"
    inner = editor.producer(x)
    merged = None if inner is None or not editor.is_private(x) else _clip_bounds(editor, inner)
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
        patch.finish("Relu", x)
    else:
        operands = [patch.scalar(low) if low > -math.inf else "", patch.scalar(high) if high < math.inf else ""]
        patch.finish("Clip", x, *operands)


REWRITES: tuple[Rewrite, ...] = (
    _clip,
    _erf_gelu,
    _tanh_gelu,
    _mish,
    _swish,
    _hard_swish_of_clip,
    _hard_sigmoid,
    _hard_swish,
)
