"""The operator table: the converted versions of each operator, and their converters.

Versions are those of the ONNX schema ("since version"). The last one of a range is the newest that the conformance
suite (benchmarks/conformance.py) ran; docs/operators.md is generated from this table and its results.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from aznas_onnx.convert.operators import (
    activation,
    attention,
    convolution,
    detection,
    elementwise,
    generation,
    indexing,
    linear,
    loss,
    normalization,
    padding,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    sampling,
    shape,
    signal,
)
from aznas_onnx.convert.operators.elementwise import along_axis, plain, variadic
from aznas_onnx.convert.registry import Entry, Registry

__all__ = ["OPERATORS"]

_OLD = "opset 6, as the tests inside the onnx package use it"

_LINEAR = (
    Entry("Conv", 1, 22, convolution.conv, "1 to 3 spatial axes; weights and bias may be computed"),
    Entry("ConvTranspose", 1, 22, convolution.conv_transpose, "1 to 3 spatial axes"),
    Entry("DeformConv", 19, 22, convolution.deform_conv, "2 spatial axes, by torchvision"),
    Entry("CausalConvWithState", 27, 27, convolution.causal_conv_with_state),
    Entry("Gemm", 6, 13, linear.gemm),
    Entry("MatMul", 1, 13, plain(torch.matmul)),
    Entry("Einsum", 12, 28, linear.einsum),
    Entry("Det", 11, 22, plain(torch.linalg.det)),
    Entry("Attention", 23, 25, attention.attention, "all options; plain attention by torch's fused kernel"),
    Entry("LinearAttention", 27, 27, attention.linear_attention, "a loop over tokens"),
    Entry("RotaryEmbedding", 23, 23, attention.rotary_embedding),
    Entry("LSTM", 7, 22, recurrent.lstm, "a loop over time; all options"),
    Entry("GRU", 7, 22, recurrent.gru, "a loop over time; all options"),
    Entry("RNN", 7, 22, recurrent.rnn, "a loop over time; all options"),
)

_POOLS = (
    Entry("AveragePool", 1, 22, pooling.average_pool, "1 to 3 spatial axes"),
    Entry("MaxPool", 1, 22, pooling.max_pool, "1 to 3 spatial axes; indices too"),
    Entry("MaxUnpool", 9, 22, pooling.max_unpool),
    Entry("LpPool", 2, 22, pooling.lp_pool, "1 to 3 spatial axes"),
    Entry("GlobalAveragePool", 1, 22, pooling.global_average_pool),
    Entry("GlobalMaxPool", 1, 22, pooling.global_max_pool),
    Entry("GlobalLpPool", 2, 22, pooling.global_lp_pool),
    Entry("RoiAlign", 10, 10, detection.roi_align(half_pixel=False), "mode avg, by torchvision"),
    Entry("RoiAlign", 16, 22, detection.roi_align(half_pixel=True), "mode avg, by torchvision"),
)

_NORMALISATIONS = (
    Entry("BatchNormalization", 6, 15, normalization.batch_normalization, "batch statistics where asked for"),
    Entry("InstanceNormalization", 6, 22, normalization.instance_normalization),
    Entry("GroupNormalization", 18, 21, normalization.group_normalization),
    Entry("LayerNormalization", 17, 17, normalization.layer_normalization),
    Entry("RMSNormalization", 23, 23, normalization.rms_normalization),
    Entry("MeanVarianceNormalization", 9, 13, normalization.mean_variance_normalization),
    Entry("LpNormalization", 1, 22, normalization.lp_normalization),
    Entry("LRN", 1, 13, normalization.local_response_normalization),
)

_ACTIVATIONS = (
    Entry("Relu", 6, 14, plain(torch.relu)),
    Entry("Sigmoid", 6, 13, plain(torch.sigmoid)),
    Entry("Tanh", 6, 13, plain(torch.tanh)),
    Entry("Softplus", 1, 22, plain(F.softplus)),
    Entry("Softsign", 1, 22, plain(F.softsign)),
    Entry("Mish", 18, 22, plain(F.mish)),
    Entry("HardSwish", 14, 22, plain(F.hardswish)),
    Entry("HardSigmoid", 6, 22, activation.hard_sigmoid),
    Entry("LeakyRelu", 6, 16, activation.leaky_relu),
    Entry("PRelu", 6, 16, activation.prelu),
    Entry("Elu", 6, 22, activation.elu),
    Entry("Selu", 6, 22, activation.selu),
    Entry("Celu", 12, 28, activation.celu),
    Entry("ThresholdedRelu", 10, 22, activation.thresholded_relu),
    Entry("Shrink", 9, 9, activation.shrink),
    Entry("Gelu", 20, 20, activation.gelu),
    Entry("Swish", 24, 24, activation.swish),
    Entry("SwiGLU", 28, 28, activation.swiglu),
    Entry("Softmax", 1, 11, activation.softmax_flattened(torch.softmax), "over all axes from `axis` on"),
    Entry("Softmax", 13, 13, activation.softmax_along(torch.softmax)),
    Entry("LogSoftmax", 1, 11, activation.softmax_flattened(torch.log_softmax), "over all axes from `axis` on"),
    Entry("LogSoftmax", 13, 13, activation.softmax_along(torch.log_softmax)),
    Entry("Hardmax", 1, 11, activation.softmax_flattened(activation.hardmax), "over all axes from `axis` on"),
    Entry("Hardmax", 13, 13, activation.softmax_along(activation.hardmax)),
)

_ELEMENTWISE = (
    Entry("Abs", 6, 13, plain(torch.abs)),
    Entry("Neg", 6, 13, plain(torch.neg)),
    Entry("Sign", 9, 13, plain(torch.sign)),
    Entry("Ceil", 6, 13, plain(torch.ceil)),
    Entry("Floor", 6, 13, plain(torch.floor)),
    Entry("Round", 11, 22, plain(torch.round)),
    Entry("Sqrt", 6, 13, plain(torch.sqrt)),
    Entry("Reciprocal", 6, 13, plain(torch.reciprocal)),
    Entry("Exp", 6, 13, plain(torch.exp)),
    Entry("Log", 6, 13, plain(torch.log)),
    Entry("Erf", 9, 13, plain(torch.erf)),
    Entry("Sin", 7, 22, plain(torch.sin)),
    Entry("Cos", 7, 22, plain(torch.cos)),
    Entry("Tan", 7, 22, plain(torch.tan)),
    Entry("Asin", 7, 22, plain(torch.asin)),
    Entry("Acos", 7, 22, plain(torch.acos)),
    Entry("Atan", 7, 22, plain(torch.atan)),
    Entry("Sinh", 9, 22, plain(torch.sinh)),
    Entry("Cosh", 9, 22, plain(torch.cosh)),
    Entry("Asinh", 9, 22, plain(torch.asinh)),
    Entry("Acosh", 9, 22, plain(torch.acosh)),
    Entry("Atanh", 9, 22, plain(torch.atanh)),
    Entry("IsNaN", 9, 20, plain(torch.isnan)),
    Entry("IsInf", 10, 20, elementwise.is_inf),
    Entry("Add", 6, 6, along_axis(torch.add), _OLD),
    Entry("Add", 7, 14, plain(torch.add)),
    Entry("Sub", 6, 6, along_axis(torch.sub), _OLD),
    Entry("Sub", 7, 14, plain(torch.sub)),
    Entry("Mul", 6, 6, along_axis(torch.mul), _OLD),
    Entry("Mul", 7, 14, plain(torch.mul)),
    Entry("Div", 6, 6, along_axis(torch.div), _OLD),
    Entry("Div", 7, 14, elementwise.div, "integers towards zero"),
    Entry("Mod", 10, 28, elementwise.mod),
    Entry("Pow", 1, 1, along_axis(torch.pow), _OLD),
    Entry("Pow", 7, 15, elementwise.pow_),
    Entry("Sum", 6, 13, variadic(torch.add)),
    Entry("Mean", 6, 13, elementwise.mean),
    Entry("Max", 6, 13, variadic(torch.maximum)),
    Entry("Min", 6, 13, variadic(torch.minimum)),
    Entry("Clip", 6, 13, elementwise.clip, "bounds may be computed"),
    Entry("Where", 9, 16, plain(torch.where)),
    Entry("Equal", 7, 19, plain(torch.eq)),
    Entry("Greater", 7, 13, plain(torch.gt)),
    Entry("GreaterOrEqual", 12, 16, plain(torch.ge)),
    Entry("Less", 7, 13, plain(torch.lt)),
    Entry("LessOrEqual", 12, 16, plain(torch.le)),
    Entry("Not", 1, 1, plain(torch.logical_not)),
    Entry("And", 7, 7, plain(torch.logical_and)),
    Entry("Or", 7, 7, plain(torch.logical_or)),
    Entry("Xor", 7, 7, plain(torch.logical_xor)),
    Entry("BitwiseNot", 18, 18, elementwise.bitwise_not),
    Entry("BitwiseAnd", 18, 18, plain(torch.bitwise_and)),
    Entry("BitwiseOr", 18, 18, plain(torch.bitwise_or)),
    Entry("BitwiseXor", 18, 18, plain(torch.bitwise_xor)),
    Entry("BitShift", 11, 28, elementwise.bit_shift),
)

_REDUCTIONS = (
    Entry("ReduceSum", 1, 13, reduction.reduction(reduction.sum_, axes_input_since=13)),
    Entry("ReduceMean", 1, 18, reduction.reduction(reduction.mean)),
    Entry("ReduceMax", 1, 20, reduction.reduction(reduction.max_)),
    Entry("ReduceMin", 1, 20, reduction.reduction(reduction.min_)),
    Entry("ReduceProd", 1, 18, reduction.reduction(reduction.prod)),
    Entry("ReduceL1", 1, 18, reduction.reduction(reduction.l1)),
    Entry("ReduceL2", 1, 18, reduction.reduction(reduction.l2)),
    Entry("ReduceSumSquare", 1, 18, reduction.reduction(reduction.sum_square)),
    Entry("ReduceLogSum", 1, 28, reduction.reduction(reduction.log_sum)),
    Entry("ReduceLogSumExp", 1, 28, reduction.reduction(reduction.log_sum_exp)),
    Entry("ArgMax", 1, 13, reduction.arg_reduction(torch.argmax)),
    Entry("ArgMin", 1, 13, reduction.arg_reduction(torch.argmin)),
    Entry("CumSum", 11, 14, reduction.cumulative(torch.cumsum, 0)),
    Entry("CumProd", 26, 26, reduction.cumulative(torch.cumprod, 1)),
)

_SHAPES = (
    Entry("Reshape", 5, 25, shape.reshape, "allowzero too"),
    Entry("Flatten", 1, 25, shape.flatten),
    Entry("Squeeze", 1, 25, shape.squeeze),
    Entry("Unsqueeze", 1, 25, shape.unsqueeze),
    Entry("Transpose", 1, 25, shape.transpose),
    Entry("Expand", 8, 13, shape.expand),
    Entry("Identity", 1, 25, shape.identity),
    Entry("Dropout", 6, 22, shape.dropout, "always off"),
    Entry("Concat", 4, 13, shape.concat),
    Entry("Split", 2, 18, shape.split),
    Entry("Slice", 1, 13, shape.slice_, "negative steps too; bounds must be known"),
    Entry("Tile", 6, 13, shape.tile),
    Entry("Pad", 2, 25, padding.pad, "constant, reflect, edge and wrap, over any axes"),
    Entry("CenterCropPad", 18, 18, shape.center_crop_pad),
    Entry("DepthToSpace", 1, 28, shape.depth_to_space),
    Entry("SpaceToDepth", 1, 28, shape.space_to_depth),
    Entry("ReverseSequence", 10, 28, shape.reverse_sequence),
    Entry("Shape", 1, 25, shape.shape_),
    Entry("Size", 1, 25, shape.size_),
    Entry("Resize", 10, 19, resize.resize, "all modes; torch's interpolation where it is the same"),
    Entry("Upsample", 7, 9, resize.resize),
    Entry("GridSample", 16, 22, sampling.grid_sample, "2 spatial axes; 3 in modes linear and nearest"),
    Entry("AffineGrid", 20, 20, sampling.affine_grid),
    Entry("Col2Im", 18, 18, sampling.col2im),
)

_INDEXING = (
    Entry("Gather", 1, 13, indexing.gather),
    Entry("GatherElements", 11, 13, indexing.gather_elements),
    Entry("GatherND", 11, 13, indexing.gather_nd),
    Entry("Scatter", 9, 11, indexing.scatter_elements),
    Entry("ScatterElements", 11, 18, indexing.scatter_elements, "all reductions"),
    Entry("ScatterND", 11, 18, indexing.scatter_nd, "all reductions"),
    Entry("TensorScatter", 24, 24, indexing.tensor_scatter),
    Entry("TopK", 1, 24, indexing.top_k),
    Entry("Compress", 9, 28, indexing.compress, "the condition must be known"),
    Entry("NonZero", 9, 13, indexing.non_zero, "waits for the device"),
    Entry("Trilu", 14, 14, indexing.trilu),
    Entry("NonMaxSuppression", 10, 11, detection.non_max_suppression, "waits for the device; by torchvision"),
)

_GENERATORS = (
    Entry("Constant", 1, 25, generation.constant),
    Entry("ConstantOfShape", 9, 25, generation.constant_of_shape),
    Entry("EyeLike", 9, 22, generation.eye_like),
    Entry("Range", 11, 27, generation.range_, "bounds must be known"),
    Entry("OneHot", 9, 28, generation.one_hot),
    Entry("Cast", 6, 28, generation.cast, "floats of 16 bits and more are computed in the program's dtype"),
    Entry("CastLike", 15, 25, generation.cast_like),
    Entry("QuantizeLinear", 10, 28, quantization.quantize_linear),
    Entry("DynamicQuantizeLinear", 11, 11, quantization.dynamic_quantize_linear),
    Entry("DequantizeLinear", 10, 28, quantization.dequantize_linear),
)

_OTHERS = (
    Entry("DFT", 17, 20, signal.dft),
    Entry("STFT", 17, 17, signal.stft),
    Entry("NegativeLogLikelihoodLoss", 12, 22, loss.negative_log_likelihood),
    Entry("SoftmaxCrossEntropyLoss", 12, 13, loss.softmax_cross_entropy),
)

_NEWEST = 10**6  # a refusal holds for every version


def _refused(remedy: str, *op_types: str, domain: str = "") -> tuple[Entry, ...]:
    return tuple(Entry(op_type, 1, _NEWEST, None, remedy, domain) for op_type in op_types)


_REFUSALS = (
    *_refused(
        "it is read as its float form where scales are known; else export the float model before quantisation",
        *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
    ),
    *_refused(
        "export the model in evaluation mode, which draws no random numbers",
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
    ),
    *_refused(
        "it is resolved where constants, shapes or --value decide; else end the network before it with --cut-at",
        *("If", "Loop", "Scan"),
    ),
    *_refused(
        "it is resolved where positions are known; else end the network before it with --cut-at",
        *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"),
        *("SequenceMap", "SplitToSequence", "ConcatFromSequence", "Optional", "OptionalGetElement"),
        *("OptionalHasElement",),
    ),
    *_refused(
        "networks of numbers are scored; leave text and image files to the code around the model",
        *("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder"),
    ),
    *_refused(
        "the number of its results depends on data; cut the model before it",
        "Unique",
    ),
    *_refused(
        "it is a preview that may still change; export attention as Attention or as plain operators",
        "FlexAttention",
        domain="ai.onnx.preview",
    ),
    *_refused(
        "it has no derivative and is found in no network; cut the model before it",
        *("BitCast", "MaxRoiPool"),
    ),
    *_refused(
        "its result is a constant: run a constant folder (onnxslim, onnxoptimizer) over the file first",
        *("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"),
    ),
)

OPERATORS = Registry(
    (
        *_LINEAR,
        *_POOLS,
        *_NORMALISATIONS,
        *_ACTIVATIONS,
        *_ELEMENTWISE,
        *_REDUCTIONS,
        *_SHAPES,
        *_INDEXING,
        *_GENERATORS,
        *_OTHERS,
        *_REFUSALS,
    )
)
