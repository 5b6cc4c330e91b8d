"""Rewrite integer arithmetic as float arithmetic between quantise and dequantise nodes.

    QLinearConv (x, w)  ->  x - DequantizeLinear - Conv - QuantizeLinear          (w dequantised, too)

is the QDQ format of quantisers, which ONNX Runtime fuses back. With one form, `quantization` removes the pairs for
scoring; where they stay, the graph computes the file's results up to the rounding of sums. Dynamic quantisation has its
scales in tensors:

    DynamicQuantizeLinear (x) - ConvInteger - Cast - Mul (scale of x, scale of w)   ->   the same form

Weights of a few bits that only one operator can read (MatMulNBits) become floats at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Array, Constant, Node
from aznas_onnx.graph.rewrite.decompose.packed_weights import PACKED, floats
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Attempt, Declined, Rewrite, expanding
from aznas_onnx.operators.operator_record import Attributes
from aznas_onnx.operators.sets import MOVES_INTEGERS, RESHAPES

__all__ = ["REWRITES"]

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
# Attributes that only set how the integer operator computes.
_INTEGER_ATTRIBUTES = frozenset(("channels_last", "opset"))


def _dequantised(patch: NodeBuilder, name: str, scale: str, zero: str = "", *, axis: int | None = None) -> str:
    """Add the dequantised floats of integers; `axis` is that of their scales where there are several."""
    operands = (name, scale, zero) if zero else (name, scale)
    return patch.add("DequantizeLinear", *operands, attributes={} if axis is None else {"axis": axis})


def _attributes(node: Node) -> Attributes:
    return {key: value for key, value in node.attributes.items() if key not in _INTEGER_ATTRIBUTES}


def _bias(editor: Editor, patch: NodeBuilder, bias: str, x_scale: str, w_scale: str) -> str:
    """Add the floats of a bias, whose scale is the product of those of samples and weight."""
    return _dequantised(patch, bias, _multiplied(editor, patch, x_scale, w_scale), axis=0)


def _multiplied(editor: Editor, patch: NodeBuilder, *scales: str) -> str:
    """Return the product of scales: a vector where there is one for each channel."""
    constants = [editor.constant(scale) for scale in scales]
    if len(scales) == 1 and (constants[0] is None or len(constants[0].shape) < 2):
        return scales[0]
    if any(constant is None or constant.read is None for constant in constants):
        product = scales[0]
        for scale in scales[1:]:
            product = patch.add("Mul", product, scale)
        return product
    known = [constant for constant in constants if constant is not None]
    channels = max(constant.elements for constant in known)

    def read() -> Array:
        parts = [constant.read().reshape(-1) for constant in known if constant.read is not None]
        return np.broadcast_to(math.prod(parts[1:], start=parts[0]), (channels,)).reshape(shape)

    shape = (channels,) if channels > 1 else ()
    constant = Constant(shape=shape, dtype=known[0].dtype, read=read)
    return editor.add_constant(constant, f"{scales[-1]}/product")


def _float_operator(
    op_type: str,
    *operands: tuple[int, int | None],
    result: int,
    bias: int = 0,
    condition: bool = False,
    version: int = 0,
) -> Attempt:
    """Return an attempt for an operator that is dequantised, applied to floats, and quantised.

    - `operands`: Where the integers of each operand stand, before their scale and zero point, and the axis of several
      scales.
    - `result`: Where the scale and zero point of the result stand, which can be left out.
    - `bias`: Where a bias stands, whose scale is that of both operands; 0 where there is none.
    - `condition`: Whether the first input is a condition.
    - `version`: Opset version of the float operator, where it is not the usual one.
    """

    def attempt(editor: Editor, node: Node) -> Declined:
        patch = NodeBuilder(editor, node)
        is_last = bool(node.attributes.get("channels_last"))
        floats = [_dequantised(patch, *node.inputs[at : at + 3], axis=axis) for at, axis in operands]
        if is_last:
            floats[0] = patch.add("Transpose", floats[0], perm=_TO_CHANNELS_FIRST)
        if bias and node.input(bias):
            floats.append(_bias(editor, patch, node.inputs[bias], *(node.inputs[at + 1] for at, _ in operands)))
        opset: Any = node.attributes.get("opset", 0)
        x = patch.add(
            op_type, *node.inputs[:condition], *floats, name=node.name, version=version or opset,
            output=editor.unique(f"{node.outputs[0]}/real"),  # a name that shows no activation behind it
            attributes=_attributes(node),
        )  # fmt: skip
        if is_last:
            x = patch.add("Transpose", x, perm=_TO_CHANNELS_LAST)
        if node.input(result):
            patch.add("QuantizeLinear", x, *filter(None, node.inputs[result : result + 2]))
        return patch.apply()

    return attempt


_CONVOLUTION = _float_operator("Conv", (0, None), (3, 0), result=6, bias=8, version=11)
_PRODUCT = _float_operator("MatMul", (0, -2), (3, -1), result=6)


def _of_two(op_type: str) -> Attempt:
    return _float_operator(op_type, (0, None), (3, None), result=6)


def _of_one(op_type: str, version: int = 0) -> Attempt:
    return _float_operator(op_type, (0, None), result=3, version=version)


def _gemm(editor: Editor, node: Node) -> Declined:
    axis = 0 if node.attributes.get("transB") else 1
    return _float_operator("Gemm", (0, None), (3, axis), result=7, bias=6)(editor, node)


def _concatenation(editor: Editor, node: Node) -> Declined:
    parts = [(at, None) for at in range(2, len(node.inputs), 3)]
    return _float_operator("Concat", *parts, result=0)(editor, node)


def _channels_last_pool(editor: Editor, node: Node) -> Declined:
    patch = NodeBuilder(editor, node)
    x = patch.add("Transpose", node.inputs[0], perm=_TO_CHANNELS_FIRST)
    x = patch.add("MaxPool", x, name=node.name, version=12, attributes=_attributes(node))
    return patch.finish("Transpose", x, perm=_TO_CHANNELS_LAST)


# --- Scales in tensors --------------------------------------------------------------------------------------------


def _sum_of_products(editor: Editor, node: Node) -> Declined:
    """ConvInteger and MatMulInteger, with the factors that make floats of their sums.

    The factors can be multiplied one by one or at once: their product without the scales of the quantised inputs is the
    scale of the weight.
    """
    scales = [_scale_of(editor, name) for name in node.inputs[:2]]
    known = [scale for scale in scales if scale is not None]
    if not known:
        return "nothing says what its operands were quantised with"
    end = editor.sole_reader(node.outputs[0])
    if end is None or not end.is_op("Cast"):
        return "its sums are read as integers"
    factors: list[str] = []
    missing = list(known)
    while missing or (None in scales and not factors):
        reader = editor.sole_reader(end.outputs[0])
        if reader is None or not reader.is_op("Mul"):
            break
        other = next((name for name in reader.inputs if name != end.outputs[0]), "")
        found = list(_factors(editor, other))
        if not found or not all(name in missing or editor.constant(name) is not None for name in found):
            break
        for name in found:
            if name in missing:
                missing.remove(name)
            else:
                factors.append(name)
        end = reader
    if missing:
        return "its sums are not multiplied by the scales of what it reads"
    _write_floats(editor, node, end, scales, factors)
    return None


def _scale_of(editor: Editor, name: str) -> str | None:
    """Return the scale that a node quantised a tensor with; None for a constant, or where it is unknown."""
    producer = editor.producer(name)
    while producer is not None and (producer in MOVES_INTEGERS or producer.is_op("MaxPool")):
        for output in producer.outputs[:1]:  # rows of a table of integers, which others read as floats
            for reader in editor.readers(output):
                if reader.is_op("DequantizeLinear"):
                    return reader.inputs[1]
        producer = editor.producer(producer.inputs[0])
    if producer is None:
        return None
    if producer.is_op("DynamicQuantizeLinear"):
        return producer.outputs[1]
    return producer.inputs[1] if producer.is_op("QuantizeLinear") else None


def _factors(editor: Editor, name: str) -> Iterator[str]:
    producer = editor.producer(name)
    if producer is not None and producer.is_op("Mul"):
        for operand in producer.inputs:
            yield from _factors(editor, operand)
    elif producer is not None and (producer in RESHAPES or producer.is_op("Identity")):
        yield from _factors(editor, producer.inputs[0])
    else:
        yield name


def _write_floats(editor: Editor, node: Node, end: Node, scales: Sequence[str | None], factors: Sequence[str]) -> None:
    patch = NodeBuilder(editor, end)
    own = _multiplied(editor, patch, *factors) if factors else patch.scalar(1.0)
    is_convolution = node.op_type == "ConvInteger"
    axis = 0 if is_convolution else -1
    operands = [
        _dequantised(patch, name, own if scale is None else scale, zero, axis=axis if scale is None else None)
        for name, scale, zero in zip(node.inputs[:2], scales, (node.input(2), node.input(3)), strict=True)
    ]
    operator, version = ("Conv", 11) if is_convolution else ("MatMul", 0)
    patch.finish(operator, *operands, name=node.name, version=version, attributes=_attributes(node))


def _dynamic(editor: Editor, patch: NodeBuilder, x: str) -> str:
    """Add the rounding of a tensor to 8 bits by its own range."""
    names = tuple(editor.unique(f"{x}/{part}") for part in ("quantised", "scale", "zero"))
    patch.add("DynamicQuantizeLinear", x, outputs=names)
    return _dequantised(patch, *names)


def _dynamic_product(editor: Editor, node: Node) -> Declined:
    """DynamicQuantizeMatMul: floats in, floats out."""
    patch = NodeBuilder(editor, node)
    weight = _dequantised(patch, node.inputs[1], node.inputs[2], node.input(3), axis=-1)
    x = _dynamic(editor, patch, node.inputs[0])
    product = patch.add("MatMul", x, weight, name=node.name)
    return patch.finish("Add", product, node.inputs[4]) if node.input(4) else patch.apply()


def _product_to_float(editor: Editor, node: Node) -> Declined:
    a, b, a_scale, b_scale = node.inputs[:4]
    patch = NodeBuilder(editor, node)
    operands = (
        _dequantised(patch, a, a_scale, node.input(4)),
        _dequantised(patch, b, b_scale, node.input(5), axis=-1),
    )
    product = patch.add("MatMul", *operands, name=node.name)
    return patch.finish("Add", product, node.inputs[6]) if node.input(6) else patch.apply()


def _attention(editor: Editor, node: Node) -> Declined:
    """QAttention: Attention on integers, with a float result."""
    x, w, bias, x_scale, w_scale, mask, x_zero, w_zero, past = (node.input(index) for index in range(9))
    if past:
        return "it has a past"
    stored = editor.constant(w)
    weight = None if stored is None else floats(editor, w, stored.shape, _by_columns, w, w_scale, w_zero)
    if weight is None:
        return "its weight is not constant"
    patch = NodeBuilder(editor, node)
    inputs = (_dequantised(patch, x, x_scale, x_zero), weight, bias, *((mask,) if mask else ()))
    patch.extend(_float_form(node, "Attention", inputs))
    return patch.apply()


def _float_form(node: Node, op_type: str, inputs: tuple[str, ...]) -> Node:
    """Return the com.microsoft operator on floats that replaces a node on integers."""
    return replace(
        node, op_type=op_type, domain="com.microsoft", inputs=inputs, attributes=MappingProxyType(_attributes(node))
    )


def _by_columns(stored: Array, scale: Array, zero: Array | None) -> Array:
    """Return the floats of a matrix with one scale, or one for each column."""
    return (stored.astype(np.float32) - (0.0 if zero is None else zero.astype(np.float32))) * scale


def _embedding(editor: Editor, node: Node) -> Declined:
    """QEmbedLayerNormalization: tables and vectors in 8 bits."""
    patch = NodeBuilder(editor, node)
    tables = [
        _dequantised(patch, name, node.inputs[8 + at], node.input(13 + at)) if (name := node.input(2 + at)) else ""
        for at in range(5)
    ]
    patch.extend(_float_form(node, "EmbedLayerNormalization", (*node.inputs[:2], *tables, node.input(7))))
    return patch.apply()


_MICROSOFT: dict[str, Attempt] = {
    "QLinearConv": _CONVOLUTION,
    "QLinearAdd": _of_two("Add"),
    "QLinearMul": _of_two("Mul"),
    "QLinearSigmoid": _of_one("Sigmoid"),
    "QLinearLeakyRelu": _of_one("LeakyRelu"),
    "QLinearSoftmax": _of_one("Softmax"),
    "QLinearReduceMean": _of_one("ReduceMean", 11),
    "QLinearAveragePool": _of_one("AveragePool", 11),
    "QLinearGlobalAveragePool": _of_one("GlobalAveragePool"),
    "QLinearConcat": _concatenation,
    "QLinearWhere": _float_operator("Where", (1, None), (4, None), result=7, condition=True),
    "QGemm": _gemm,
    "NhwcMaxPool": _channels_last_pool,
    "MatMulIntegerToFloat": _product_to_float,
    "DynamicQuantizeMatMul": _dynamic_product,
    "QAttention": _attention,
    "QEmbedLayerNormalization": _embedding,
}
REWRITES: tuple[Rewrite, ...] = (
    *expanding("QLinearConv")(_CONVOLUTION),
    *expanding("QLinearMatMul")(_PRODUCT),
    *expanding("ConvInteger", "MatMulInteger")(_sum_of_products),
    *(one for name, attempt in _MICROSOFT.items() for one in expanding(f"com.microsoft::{name}")(attempt)),
    *PACKED,
)
"""One rewrite per operator; one that declines returns why its weights have no float form."""
