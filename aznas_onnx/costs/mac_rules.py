"""Which operators are counted and how, and which are zero by declaration.

Every handler has one signature: the node and the facts of its graph give the multiply-adds of the whole batch. An
operator in neither table is unsupported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from aznas_onnx.costs.einsum import einsum
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["COUNTED", "ZERO", "Handler"]

Handler: TypeAlias = Callable[[Node, TensorInfos], int]
_Key: TypeAlias = tuple[str, str]  # domain and operator


def _elements(infos: TensorInfos, name: str) -> int:
    return math.prod(infos.shape(name))


def _conv(weight: int) -> Handler:
    """Each output element is a product of one filter, padding included; `weight` is the filters' input position."""

    def macs(node: Node, infos: TensorInfos) -> int:
        return _elements(infos, node.outputs[0]) * math.prod(infos.shape(node.inputs[weight])[1:])

    return macs


def _conv_transpose(node: Node, infos: TensorInfos) -> int:
    """Each input element is spread over one kernel for each output channel of its group."""
    return _elements(infos, node.inputs[0]) * math.prod(infos.shape(node.inputs[1])[1:])


def _gemm(node: Node, infos: TensorInfos) -> int:
    rows = infos.shape(node.inputs[0])
    return _elements(infos, node.outputs[0]) * rows[0 if node.attributes.get("transA", 0) else 1]


def _matmul(left: int = 0) -> Handler:
    """Each output element is a product over the last axis of the left operand, which has input position `left`."""

    def macs(node: Node, infos: TensorInfos) -> int:
        shape = infos.shape(node.inputs[left])
        inner = shape[-2] if node.attributes.get("transA", 0) and len(shape) > 1 else shape[-1]
        return _elements(infos, node.outputs[0]) * inner

    return macs


def _einsum(node: Node, infos: TensorInfos) -> int:
    equation: Any = node.attributes["equation"]
    return einsum(equation, [infos.shape(name) for name in node.inputs])


def _recurrent(gates: int) -> Handler:
    """Each step multiplies the input and the last state by one matrix a gate; the rest is elementwise.

    The counts are the same in both layouts and whether the gates' order is sequence- or batch-major: steps times
    samples is the product of the first two axes of the input.
    """

    def macs(node: Node, infos: TensorInfos) -> int:
        steps, samples, features = infos.shape(node.inputs[0])
        directions, rows, _ = infos.shape(node.inputs[1])
        hidden = rows // gates
        return steps * samples * directions * rows * (features + hidden)

    return macs


def _attention(node: Node, infos: TensorInfos) -> int:
    """Scores and their product with the values, for all keys: what a causal mask hides is counted."""
    keys = infos.shape(node.inputs[1])[-2]
    if node.input(4):
        keys += infos.shape(node.input(4))[-2]
    return keys * (_elements(infos, node.inputs[0]) + _elements(infos, node.outputs[0]))


def _affine_grid(node: Node, infos: TensorInfos) -> int:
    """Each coordinate of the grid is a row of the affine matrix times a position."""
    return _elements(infos, node.outputs[0]) * infos.shape(node.inputs[0])[-1]


def _standard(handlers: Mapping[str, Handler]) -> dict[_Key, Handler]:
    return {("", op_type): handler for op_type, handler in handlers.items()}


COUNTED: Mapping[_Key, Handler] = MappingProxyType(
    {
        **_standard(
            {
                "AffineGrid": _affine_grid,
                "Attention": _attention,
                "CausalConvWithState": _conv(weight=1),
                "Conv": _conv(weight=1),
                "ConvInteger": _conv(weight=1),
                "ConvTranspose": _conv_transpose,
                "DeformConv": _conv(weight=1),
                "Einsum": _einsum,
                "GRU": _recurrent(gates=3),
                "Gemm": _gemm,
                "LSTM": _recurrent(gates=4),
                "MatMul": _matmul(),
                "MatMulInteger": _matmul(),
                "QLinearConv": _conv(weight=3),
                "QLinearMatMul": _matmul(),
                "RNN": _recurrent(gates=1),
            }
        ),
        ("com.microsoft", "FusedConv"): _conv(weight=1),
        ("com.microsoft", "FusedGemm"): _gemm,
        ("com.microsoft", "FusedMatMul"): _matmul(),
    }
)
"""Operators whose multiply-adds are counted."""

_ELEMENTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip Cos
    Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less
    LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin
    Sinh Softplus Softsign Sqrt Sub Sum SwiGLU Swish Tan Tanh ThresholdedRelu Where Xor
"""
_NORMALISATION = """
    BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization
    MeanVarianceNormalization RMSNormalization
"""
_SOFTMAX = "Hardmax LogSoftmax Softmax"
_POOLING = """
    AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool MaxUnpool RoiAlign
"""
_REDUCTION = """
    ArgMax ArgMin CumProd CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare TopK
"""
# Resampling is an interpolation, as the literature's counters have it; so is the sampling inside DeformConv.
_RESAMPLING = "GridSample Resize Upsample"
_DATA_MOVEMENT = """
    BitCast Cast CastLike CenterCropPad Col2Im Compress Concat ConcatFromSequence DepthToSpace Dropout Expand Flatten
    Gather GatherElements GatherND Identity NonZero OneHot Pad Reshape ReverseSequence Scatter ScatterElements ScatterND
    SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Slice SpaceToDepth Split
    SplitToSequence Squeeze TensorScatter Tile Transpose Trilu Unsqueeze
"""
_GENERATION = """
    Bernoulli BlackmanWindow Constant ConstantOfShape EyeLike HammingWindow HannWindow Multinomial RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range Shape Size
"""
_QUANTISATION = "DequantizeLinear DynamicQuantizeLinear QuantizeLinear"
# Two products with a cosine and a sine an element: elementwise, like the Mul nodes that exporters write for it.
_ROTARY = "RotaryEmbedding"

ZERO: frozenset[_Key] = frozenset(
    ("", op_type)
    for group in (
        _ELEMENTWISE,
        _NORMALISATION,
        _SOFTMAX,
        _POOLING,
        _REDUCTION,
        _RESAMPLING,
        _DATA_MOVEMENT,
        _GENERATION,
        _QUANTISATION,
        _ROTARY,
    )
    for op_type in group.split()
)
"""Operators that have no multiply-adds in the convention of the literature."""
