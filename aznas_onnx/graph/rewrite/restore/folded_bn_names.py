"""Names that mark folded normalisation.

By structure, a convolution with a folded BatchNormalization equals one without any: both have a bias. Exporters' names
distinguish them; this module has all of these names.

Exporter or tool         names the folded convolution's
-----------------------  ---------------------------------------------------------------------------
PyTorch, TorchScript     bias ``onnx::Conv_193`` (a genuine one is called as in the module: ``conv1.bias``)
PyTorch, dynamo          output ``getitem_3`` (of the batch norm's tuple; a plain one is ``conv2d_3``) and, where the
                         module had no bias, bias ``conv1.weight_bias``; it removes a bias that is all zero
PyTorch before 2, ONNX   weight and bias ``497`` and ``498``, in a file that names parameters otherwise
optimizer (onnxsim)
Paddle                   nothing: it does not fold, and its genuine biases are ``p2o.pd_op.reshape.0.0``
ONNX Runtime             bias ``ConvBnFusion_BN_B_...``, weight ``ConvBnFusion_W_...``
onnxslim                 weight and bias by its output or its own name: ``NAME_weight``, ``NAME_bias``; it folds into
                         convolutions only, and gives a linear layer that it makes of MatMul and Add such a weight, too
tf2onnx                  weight ``NAME_weights_fused_bn``, bias ``NAME_bias_fused_bn``
TensorFlow and Keras     output ``.../batchnorm/mul_1:0`` or ``.../batchnorm/add_1:0``, weight ``.../merged_input:0``;
                         after a genuine bias the output is ``.../BiasAdd:0``

ONNX Runtime and onnxslim also multiply a factor per channel into the weights, usually a layer scale. ONNX Runtime names
them ``ConvMulFusion_W_`` and their old name, onnxslim by the output of the Mul. The bias is then no evidence.

ONNX Runtime, onnxslim and dynamo store equal constants once, under the name of any of them, so the name of a bias that
several nodes read is no evidence. Before training all biases of one size are equal; then the weight's name decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "Names",
    "Sign",
    "folded_by",
    "holds_factor",
    "is_number",
    "names_batch_normalisation",
    "own_bias_by",
    "root",
]

_BATCH_NORM = re.compile(r"batch_?norm", re.IGNORECASE)
_TORCHSCRIPT = re.compile(r"^onnx::Conv(Transpose)?_\d+$")
_DYNAMO_OUTPUT = re.compile(r"^getitem(_\d+)?$")
_NUMBER = re.compile(r"^\d+$")
_TF2ONNX = re.compile(r"_fused_bn$")
_ORT = re.compile(r"ConvBnFusion|MatMulBnFusion")
_TENSORFLOW_BIAS_OUTPUT = re.compile(r"/BiasAdd(:\d+)?$")
_TENSORFLOW_WEIGHT = re.compile(r"/merged_input(:\d+)?$")
# A bias of PyTorch's module, or of a separate Add (in Paddle; in TorchScript files of Keras on PyTorch;
# merged by ONNX Runtime; by onnxslim), which no folding leaves.
_GENUINE_BIAS = re.compile(r"\.bias$|^onnx::Add_\d+$|^p2o\.pd_op\.|ConvAddFusion|(^|/)Add([._]\d+)?(_output_0)?_bias$")
_FACTOR = re.compile(r"^ConvMulFusion_W_")
_OUTPUT_OF_FACTOR = re.compile(r"(^|/)Mul([._]\d+)?(_output_0)?$")
# What tools append when they store a constant in another type.
_STORED = re.compile(r"(_quantized(_floats)?|_floats|_DequantizeLinear_Output|_fp16|_float16)$")

# Names of a weight beside its bias, word by word: conv1.weight and conv1.bias, conv1_w_0 and conv1_b_0.
_WEIGHT_WORDS = frozenset("weight weights w kernel filter convolution conv2d conv1d conv3d depthwise matmul".split())
_BIAS_WORDS = frozenset("bias biases b beta biasadd add reshape".split())
_WORD = re.compile(r"[^\W_]+")


def root(name: str, sources: frozenset[str]) -> str:
    """Return the name that the file gives a constant: that of its one root, without what storage added."""
    named = next(iter(sources)) if len(sources) == 1 else name
    return _STORED.sub("", named)


def names_batch_normalisation(*names: str) -> bool:
    """Whether any of these names contains batch normalisation."""
    return any(_BATCH_NORM.search(name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of a layer with weights.

    - `node`, `output`: The node and its output.
    - `weight`, `bias`: The roots of its constants; `bias` is empty where there is none, or where its name is no
      evidence.
    - `shares_bias`: Whether other nodes read the same bias, so that its name is that of any of them.
    - `is_linear`: Whether it is a linear layer, not a convolution.
    """

    node: str
    output: str
    weight: str
    bias: str
    shares_bias: bool = False
    is_linear: bool = False


class Sign(Enum):
    """The name that shows that a bias is the layer's own."""

    BIAS = "bias"
    WEIGHT = "weight"
    OUTPUT = "output"


def holds_factor(names: Names) -> bool:
    """Whether a tool multiplied a factor per channel into the weights of a layer."""
    if _FACTOR.match(names.weight):
        return True
    return names.weight == f"{names.output}_weight" and bool(_OUTPUT_OF_FACTOR.search(names.output))


def is_number(name: str) -> bool:
    """Whether the name of a constant is a number, as tools name computed constants."""
    return bool(_NUMBER.match(name))


def folded_by(names: Names, *, numbers_are_computed: bool = False) -> str:
    """Return the tool that folded normalisation into a layer, by its names; empty without evidence.

    With `numbers_are_computed` the file names its parameters, so numbers are the names of computed constants.
    """
    if holds_factor(names):
        return "PyTorch's TorchScript exporter" if _TORCHSCRIPT.match(_FACTOR.sub("", names.weight)) else ""
    if _TORCHSCRIPT.match(names.bias) or (names.shares_bias and _TORCHSCRIPT.match(names.weight)):
        return "PyTorch's TorchScript exporter"
    if _DYNAMO_OUTPUT.match(names.output) or (names.bias and names.bias == f"{names.weight}_bias"):
        return "PyTorch's dynamo exporter"
    if numbers_are_computed and is_number(names.weight) and is_number(names.bias):
        return "PyTorch's TorchScript exporter or ONNX's optimizer"
    if _TF2ONNX.search(names.weight) or _TF2ONNX.search(names.bias):
        return "tf2onnx"
    if _ORT.search(names.bias) or _ORT.search(names.weight):
        return "ONNX Runtime"
    if not names.is_linear and names.weight in (f"{names.output}_weight", f"{names.node}_weight"):
        return "onnxslim"
    if _TENSORFLOW_WEIGHT.search(names.weight):
        return "TensorFlow"
    if names_batch_normalisation(names.output, names.node, names.weight, names.bias):
        return "the exporter"
    return ""


def own_bias_by(names: Names) -> Sign | None:
    """Return which name shows that a bias is the layer's own, alone or beside that of the weight; None where none does.

    Call it after :func:`folded_by`: some tools give the folded bias the name of the earlier bias.
    """
    weight_words, bias_words = _WORD.findall(names.weight.lower()), _WORD.findall(names.bias.lower())
    if names.shares_bias:
        return None if _WEIGHT_WORDS.isdisjoint(weight_words) else Sign.WEIGHT
    if _GENUINE_BIAS.search(names.bias):
        return Sign.BIAS
    if _TENSORFLOW_BIAS_OUTPUT.search(names.output):
        return Sign.OUTPUT
    if len(weight_words) != len(bias_words):
        return None
    different = [(w, b) for w, b in zip(weight_words, bias_words, strict=True) if w != b]
    is_pair = bool(different) and all(w in _WEIGHT_WORDS and b in _BIAS_WORDS for w, b in different)
    return Sign.BIAS if is_pair else None
