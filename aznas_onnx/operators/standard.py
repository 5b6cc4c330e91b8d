"""The operators of ONNX and those of other domains that rewrites expand, by family.

Each group gives every property of its operators but the range of their results, which the tables give by name. A group
of one exists where an operator has inputs or a count of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from aznas_onnx.operators.mac_rules import (
    GATES,
    affine_grid,
    attention,
    conv_transpose,
    convolution,
    einsum,
    gemm,
    matmul,
    recurrent,
    zero,
)
from aznas_onnx.operators.operator_record import Family, InputRole, MacRule, Movement, Operator

__all__ = ["STANDARD"]

_Roles = tuple[InputRole, ...]
_DATA = (InputRole.DATA,)
_PAIR = (InputRole.DATA, InputRole.DATA)
_DATA_AND_SHAPE = (InputRole.DATA, InputRole.SHAPE)  # further inputs control how elements move, too
_FACTORS = (InputRole.FACTOR, InputRole.FACTOR, InputRole.BIAS)
_WEIGHTED = (InputRole.DATA, InputRole.WEIGHT, InputRole.BIAS)
_SCALED = (InputRole.DATA, InputRole.SCALE, InputRole.SHIFT)
_INDEXED = (InputRole.DATA, InputRole.INDICES)
_WRITTEN = (InputRole.DATA, InputRole.INDICES, InputRole.DATA)
_CELLS = (
    *(InputRole.DATA, InputRole.WEIGHT, InputRole.WEIGHT, InputRole.BIAS, InputRole.LENGTHS),
    *(InputRole.STATE, InputRole.STATE, InputRole.WEIGHT),
)
_INTEGERS = (InputRole.DATA, InputRole.STEP, InputRole.ZERO_POINT)
_MICROSOFT = "com.microsoft"

_INTERVALS = (
    (
        0.0,
        math.inf,
        "Relu Softplus Abs Sqrt Exp Acosh ReduceL1 ReduceL2 ReduceSumSquare LpPool GlobalLpPool Shape Size",
    ),
    (0.0, math.inf, "NonZero ArgMax ArgMin"),
    (0.0, 1.0, "Sigmoid HardSigmoid Softmax Hardmax EyeLike And Or Xor Not IsNaN IsInf"),
    (0.0, 1.0, "Equal Greater GreaterOrEqual Less LessOrEqual"),
    (-1.0, 1.0, "Tanh Softsign Erf Sin Cos Sign"),
    (1.0, math.inf, "Cosh"),
    (0.0, math.pi, "Acos"),
    (-math.pi / 2, math.pi / 2, "Asin Atan"),
    (-math.inf, 0.0, "LogSoftmax"),
)
_BOUNDS: Mapping[str, tuple[float, float]] = {
    name: (low, high) for low, high, names in _INTERVALS for name in names.split()
}
_SWITCHES = frozenset("Relu LeakyRelu PRelu ThresholdedRelu Celu Elu Selu".split())
_KEEPS_SIGN = frozenset(  # beside those without negative results
    (
        *_SWITCHES,
        *"Tanh Softsign Mish HardSwish Gelu Swish".split(),
        *"Reciprocal Erf Asin Atan Sinh Asinh Atanh Sign Ceil Floor Round".split(),
        *"Add Mul Div Mod Pow Sum Mean Max Min Where LRN LpNormalization".split(),
        *"AveragePool MaxPool MaxUnpool RoiAlign MaxRoiPool GlobalAveragePool GlobalMaxPool".split(),
        *"ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd CumSum CumProd TopK".split(),
        *"Identity Cast CastLike Dropout Reshape Squeeze Unsqueeze Flatten Transpose DepthToSpace".split(),
        *"SpaceToDepth ReverseSequence Slice Split CenterCropPad Expand Tile Concat Pad Trilu".split(),
        *"Gather GatherND GatherElements Compress Scatter ScatterElements ScatterND TensorScatter".split(),
        *"QuantizeLinear DequantizeLinear".split(),
    )
)


def _group(
    names: str,
    family: Family,
    inputs: _Roles,
    macs: MacRule | None,
    *,
    domain: str = "",
    differentiable: bool = True,
    elementwise: bool = False,
    movement: Movement = Movement.NONE,
    random: bool = False,
    window: bool = False,
) -> Iterator[Operator]:
    for name in names.split():
        low, high = _BOUNDS.get(name, (-math.inf, math.inf))
        yield Operator(
            name=name,
            domain=domain,
            family=family,
            elementwise=elementwise,
            movement=movement,
            random=random,
            window=window,
            inputs=inputs,
            macs=macs,
            differentiable=differentiable,
            bounds=(low, high),
            keeps_sign=low >= 0.0 or name in _KEEPS_SIGN,
            switch=name in _SWITCHES,
        )


def _layers() -> Iterator[Operator]:
    """Operators that multiply by weights."""
    yield from _group("Conv", Family.CONVOLUTION, _WEIGHTED, convolution(weight=1), window=True)
    yield from _group("ConvTranspose", Family.CONVOLUTION, _WEIGHTED, conv_transpose, window=True)
    offsets = (InputRole.DATA, InputRole.WEIGHT, InputRole.INDICES, InputRole.BIAS, InputRole.DATA)
    # The sampling inside is an interpolation, which the literature's counters do not count.
    yield from _group("DeformConv", Family.CONVOLUTION, offsets, convolution(weight=1), window=True)
    yield from _group("CausalConvWithState", Family.CONVOLUTION, (*_WEIGHTED, InputRole.STATE), convolution(weight=1))
    yield from _group("Gemm", Family.LINEAR, _FACTORS, gemm)
    yield from _group("MatMul", Family.LINEAR, (InputRole.FACTOR,), matmul)
    yield from _group("Einsum", Family.LINEAR, (InputRole.FACTOR,), einsum)
    yield from _group("LSTM", Family.RECURRENT, _CELLS, recurrent(GATES["LSTM"]))
    yield from _group("GRU", Family.RECURRENT, _CELLS[:6], recurrent(GATES["GRU"]))
    yield from _group("RNN", Family.RECURRENT, _CELLS[:6], recurrent(GATES["RNN"]))
    masked = (*_DATA * 3, InputRole.MASK, InputRole.STATE, InputRole.STATE, InputRole.LENGTHS)
    yield from _group("Attention", Family.ATTENTION, masked, attention)
    linear = (*_DATA * 3, InputRole.STATE, InputRole.DATA, InputRole.DATA)
    yield from _group("LinearAttention", Family.ATTENTION, linear, None)
    # Two products with a cosine and a sine an element: elementwise, like the Mul nodes that exporters write for it.
    rotary = (InputRole.DATA, InputRole.PARAMETER, InputRole.PARAMETER, InputRole.INDICES)
    yield from _group("RotaryEmbedding", Family.ATTENTION, rotary, zero)
    yield from _group("FlexAttention", Family.ATTENTION, _DATA * 3, None, domain="ai.onnx.preview")


def _normalizations() -> Iterator[Operator]:
    statistics = (*_SCALED, InputRole.MEAN, InputRole.VARIANCE)
    yield from _group("BatchNormalization", Family.NORMALIZATION, statistics, zero)
    yield from _group("InstanceNormalization GroupNormalization", Family.NORMALIZATION, _SCALED, zero)
    yield from _group("LRN", Family.NORMALIZATION, _DATA, zero)
    yield from _group("LayerNormalization", Family.LAYER_NORMALIZATION, _SCALED, zero)
    yield from _group("RMSNormalization", Family.LAYER_NORMALIZATION, _SCALED[:2], zero)
    # ONNX Runtime's name for RMSNormalization, which its exporters write into the standard domain.
    yield from _group("SimplifiedLayerNormalization", Family.LAYER_NORMALIZATION, _SCALED[:2], zero)
    yield from _group("LpNormalization MeanVarianceNormalization", Family.AXIS_NORMALIZATION, _DATA, zero)


def _elementwise() -> Iterator[Operator]:
    activations = (
        "Relu Sigmoid Tanh Softplus Softsign Mish HardSwish HardSigmoid LeakyRelu Elu Selu Celu ThresholdedRelu Shrink "
        "Gelu Swish"
    )
    yield from _group(activations, Family.ACTIVATION, _DATA, zero, elementwise=True)
    yield from _group("PRelu", Family.ACTIVATION, (InputRole.DATA, InputRole.SLOPE), zero, elementwise=True)
    bounds = (InputRole.DATA, InputRole.PARAMETER)
    yield from _group("Clip", Family.ACTIVATION, bounds, zero, elementwise=True)
    yield from _group("SwiGLU", Family.ACTIVATION, _PAIR, zero, elementwise=True)
    functions = "Abs Neg Sqrt Reciprocal Exp Log Erf Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh"
    yield from _group(functions, Family.FUNCTION, _DATA, zero, elementwise=True)
    steps = "Sign Ceil Floor Round"
    yield from _group(steps, Family.FUNCTION, _DATA, zero, elementwise=True, differentiable=False)
    arithmetic = "Add Sub Mul Div Mod Pow Sum Mean Max Min"
    yield from _group(arithmetic, Family.ARITHMETIC, _PAIR, zero, elementwise=True)
    comparisons = "Equal Greater GreaterOrEqual Less LessOrEqual"
    yield from _group(comparisons, Family.COMPARISON, _PAIR, zero, elementwise=True, differentiable=False)
    binary = "And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitShift"
    yield from _group(binary, Family.LOGIC, _PAIR, zero, elementwise=True, differentiable=False)
    unary = "Not BitwiseNot IsNaN IsInf"
    yield from _group(unary, Family.LOGIC, _DATA, zero, elementwise=True, differentiable=False)
    yield from _group("Where", Family.LOGIC, (InputRole.CONDITION, *_PAIR), zero, elementwise=True)
    yield from _group("Softmax LogSoftmax Hardmax", Family.SOFTMAX, _DATA, zero)


def _reductions() -> Iterator[Operator]:
    yield from _group("AveragePool MaxPool LpPool", Family.POOLING, _DATA, zero, window=True)
    yield from _group("MaxUnpool", Family.POOLING, (*_INDEXED, InputRole.SHAPE), zero)
    yield from _group("RoiAlign MaxRoiPool", Family.POOLING, (*_INDEXED, InputRole.INDICES), zero)
    yield from _group("GlobalAveragePool GlobalMaxPool GlobalLpPool", Family.GLOBAL_POOLING, _DATA, zero)
    reductions = (
        "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
        "ReduceLogSumExp"
    )
    yield from _group(reductions, Family.REDUCTION, _DATA_AND_SHAPE, zero)
    yield from _group("CumSum CumProd", Family.CUMULATIVE, _DATA_AND_SHAPE, zero)
    yield from _group("ArgMax ArgMin", Family.SEARCH, _DATA, zero, differentiable=False)
    yield from _group("TopK", Family.SEARCH, _DATA_AND_SHAPE, zero)
    yield from _group("NonZero", Family.SEARCH, _DATA, zero, differentiable=False)
    yield from _group("Unique", Family.SEARCH, _DATA, None)


def _movements() -> Iterator[Operator]:
    for names, inputs, movement in (
        ("Identity", _DATA, Movement.SAME),
        ("Cast CastLike", _DATA, Movement.CASTS),
        ("Reshape Squeeze Unsqueeze", _DATA_AND_SHAPE, Movement.RESHAPES),
        ("Flatten", _DATA, Movement.RESHAPES),
        ("Transpose DepthToSpace SpaceToDepth", _DATA, Movement.PERMUTES),
        ("ReverseSequence", (InputRole.DATA, InputRole.LENGTHS), Movement.PERMUTES),
        ("Slice Split CenterCropPad", _DATA_AND_SHAPE, Movement.SELECTS),
        ("Expand Tile", _DATA_AND_SHAPE, Movement.REPEATS),
        ("Concat", _DATA, Movement.JOINS),
        ("Pad", (InputRole.DATA, InputRole.SHAPE, InputRole.PARAMETER, InputRole.SHAPE), Movement.FILLS),
        ("Trilu", _DATA_AND_SHAPE, Movement.FILLS),
    ):
        yield from _group(names, Family.MOVEMENT, inputs, zero, movement=movement)
    # It samples in training mode; while a network is scored it is off and passes its operand on.
    dropout = (InputRole.DATA, InputRole.PARAMETER)
    yield from _group("Dropout", Family.MOVEMENT, dropout, zero, movement=Movement.SAME, random=True)
    yield from _group("BitCast", Family.MOVEMENT, _DATA, zero, differentiable=False)
    rows = (InputRole.TABLE, InputRole.INDICES)
    yield from _group("Gather GatherND", Family.INDEXING, rows, zero, movement=Movement.SELECTS)
    yield from _group("GatherElements", Family.INDEXING, _INDEXED, zero, movement=Movement.SELECTS)
    yield from _group(
        "Compress", Family.INDEXING, (InputRole.DATA, InputRole.CONDITION), zero, movement=Movement.SELECTS
    )
    yield from _group("Scatter ScatterElements ScatterND", Family.INDEXING, _WRITTEN, zero, movement=Movement.WRITES)
    cache = (*_PAIR, InputRole.INDICES)
    yield from _group("TensorScatter", Family.INDEXING, cache, zero, movement=Movement.WRITES)
    # An interpolation counts nothing in the literature.
    scales = (InputRole.DATA, InputRole.SHAPE)
    yield from _group("Resize Upsample", Family.RESAMPLING, scales, zero)
    yield from _group("GridSample", Family.RESAMPLING, _PAIR, zero)
    yield from _group("AffineGrid", Family.RESAMPLING, _DATA_AND_SHAPE, affine_grid)
    yield from _group("Col2Im", Family.RESAMPLING, _DATA_AND_SHAPE, zero)


def _generators() -> Iterator[Operator]:
    yield from _group("Constant", Family.GENERATION, (), zero, differentiable=False)
    shaped = (InputRole.SHAPE,)
    windows = "BlackmanWindow HammingWindow HannWindow"
    names = f"ConstantOfShape EyeLike Range {windows}"
    yield from _group(names, Family.GENERATION, shaped, zero, differentiable=False)
    yield from _group("MelWeightMatrix", Family.GENERATION, shaped, None, differentiable=False)
    one_hot = (InputRole.INDICES, InputRole.SHAPE, InputRole.PARAMETER)
    yield from _group("OneHot", Family.GENERATION, one_hot, zero, differentiable=False)
    sampled = "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli"
    yield from _group(sampled, Family.GENERATION, _DATA, zero, random=True, differentiable=False)
    yield from _group("Shape Size", Family.SHAPE, _DATA, zero, differentiable=False)


def _quantization() -> Iterator[Operator]:
    for domain in ("", _MICROSOFT):
        names = "QuantizeLinear DequantizeLinear"
        macs = None if domain else zero
        yield from _group(names, Family.QUANTIZATION, _INTEGERS, macs, domain=domain)
    yield from _group("DynamicQuantizeLinear", Family.QUANTIZATION, _DATA, zero)
    convolution_inputs = (*_INTEGERS, InputRole.WEIGHT, *_INTEGERS[1:], *_INTEGERS[1:], InputRole.BIAS)
    yield from _group("QLinearConv", Family.QUANTIZATION, convolution_inputs, convolution(weight=3), window=True)
    factors = (InputRole.FACTOR, *_INTEGERS[1:])
    yield from _group("QLinearMatMul", Family.QUANTIZATION, (*factors, *factors, *_INTEGERS[1:]), matmul)
    zero_points = (InputRole.ZERO_POINT, InputRole.ZERO_POINT)
    integer_convolution = (InputRole.DATA, InputRole.WEIGHT, *zero_points)
    yield from _group("ConvInteger", Family.QUANTIZATION, integer_convolution, convolution(weight=1), window=True)
    yield from _group("MatMulInteger", Family.QUANTIZATION, (*_FACTORS[:2], *zero_points), matmul)


def _others() -> Iterator[Operator]:
    yield from _group("If Loop Scan", Family.CONTROL_FLOW, _DATA, None)
    sequences = "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength"
    sequence_inputs = (InputRole.DATA, InputRole.INDICES)
    yield from _group(f"{sequences} SplitToSequence ConcatFromSequence", Family.SEQUENCE, sequence_inputs, zero)
    yield from _group("SequenceMap Optional OptionalGetElement OptionalHasElement", Family.SEQUENCE, _DATA, None)
    losses = (InputRole.DATA, InputRole.INDICES, InputRole.WEIGHT)
    yield from _group("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", Family.LOSS, losses, None)
    yield from _group("DFT", Family.SIGNAL, _DATA_AND_SHAPE, None)
    yield from _group("STFT", Family.SIGNAL, (*_DATA_AND_SHAPE, InputRole.DATA, InputRole.SHAPE), None)
    yield from _group("Det", Family.LINEAR_ALGEBRA, _DATA, None)
    boxes = (*_PAIR, InputRole.PARAMETER)
    yield from _group("NonMaxSuppression", Family.DETECTION, boxes, None, differentiable=False)
    text = "StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer ImageDecoder"
    yield from _group(text, Family.TEXT_AND_MEDIA, _DATA, None, differentiable=False)


STANDARD: tuple[Operator, ...] = (
    *_layers(),
    *_normalizations(),
    *_elementwise(),
    *_reductions(),
    *_movements(),
    *_generators(),
    *_quantization(),
    *_others(),
)
"""All built-in records."""
