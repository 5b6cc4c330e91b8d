"""Measure the design of a network: what kinds of layers, kernels, activations and normalisation it is made of.

Each trait is a number that does not grow with the network, so that networks of other sizes compare.

===================  ==================================================================================
Trait                Meaning
===================  ==================================================================================
depthwise_share      Share of the multiply-adds in convolutions of one channel each
grouped_share        ... in other grouped convolutions
pointwise_share      ... in convolutions with a kernel of one position, and in products with a weight matrix
spatial_share        ... in convolutions with a kernel of up to nine positions
large_kernel_share   ... in convolutions with a larger one
product_share        ... in everything else: products of two signals, as in attention
mean_kernel          Square root of the kernel's positions, averaged over multiply-adds; 0 for other operators
depthwise_kernel     Square root of the kernel's positions, averaged over convolutions of one channel each; 0 without
relu_share           Share of ReLU, PReLU, LeakyReLU and Clip in the elements of activations
swish_share          ... of Swish and Mish
hardswish_share      ... of HardSwish
gelu_share           ... of GELU
gates                Sigmoids and HardSigmoids for each layer: squeeze-excitation and other gates
normalisations       Normalisations for each layer
layer_norm_share     Share of LayerNorm in the normalisations
softmaxes            Softmaxes for each layer
concatenations       Concatenations for each layer
stem_stride          Natural logarithm of the stride of the first convolution
classifier_share     Share of the last linear layer in the parameters
input_positions      Natural logarithm of the positions of the input
image_channels       Channels of the input, if an image is the only one; else 0
classes              Columns of the output, if it is the only one and has one position a sample; else 0
===================  ==================================================================================
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aznas_onnx.costs import Costs, NodeCost
from aznas_onnx.graph import Model
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.operators.sets import LAYER_NORMALIZATIONS, LINEAR, PLAIN_CONVOLUTIONS, SOFTMAXES

__all__ = ["TRAITS", "measure_design"]

_SMALL_KERNEL = 9  # positions
_IMAGE_AXES = 4
_KINDS = ("depthwise", "grouped", "pointwise", "spatial", "large_kernel", "product")

TRAITS = (
    *(f"{kind}_share" for kind in _KINDS),
    *("mean_kernel", "depthwise_kernel", "relu_share", "swish_share", "hardswish_share", "gelu_share", "gates"),
    *("normalisations", "layer_norm_share", "softmaxes", "concatenations", "stem_stride", "classifier_share"),
    *("input_positions", "image_channels", "classes"),
)
"""The traits, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CountedLayer:
    """An operator with multiply-adds.

    - `kernel`: Positions of its kernel; 0 for other operators than convolutions.
    """

    kind: str
    kernel: int
    macs: int
    params: int
    stride: int


def measure_design(model: Model, costs: Costs) -> Mapping[str, float]:
    """Return the traits of a model by name.

    Parameters
    ----------
    model
        From :func:`aznas_onnx.graph.prepare`.
    costs
        Its counts.
    """
    image, output = (model.infos[name].shape or () for name in (model.inputs.primary, model.graph.outputs[0]))
    is_classifier = len(output) > 1 and math.prod(output[2:]) == 1
    layers = list(_layers(model, costs))
    convolutions = [layer for layer in layers if layer.kernel]
    depthwise = [layer for layer in convolutions if layer.kind == "depthwise"]
    linear = [layer for layer in layers if layer.kind == "pointwise" and not layer.kernel]
    kinds: Counter[str] = Counter()
    for layer in layers:
        kinds[layer.kind] += layer.macs
    counts = Counter(node.op_type for node in model.graph.nodes)
    elements: Counter[str] = Counter()
    for node, cost in _with_costs(model, costs):
        elements[node.op_type] += cost.activation_bytes
    relu, leaky = elements["Relu"] + elements["Clip"], elements["LeakyRelu"] + elements["PRelu"]
    swish, gelu = elements["Swish"] + elements["Mish"], elements["Gelu"] + elements["Erf"]
    gates = elements["Sigmoid"] + elements["HardSigmoid"]
    activations = relu + leaky + swish + gelu + gates + elements["HardSwish"]
    layer_norms = sum(node in LAYER_NORMALIZATIONS for node in model.graph.nodes)
    normalisations = counts["BatchNormalization"] + layer_norms
    weighted = max(1, len(convolutions) + len(linear))
    found = {
        **{f"{kind}_share": kinds[kind] / max(1, costs.macs) for kind in _KINDS},
        "mean_kernel": sum(layer.macs * math.sqrt(layer.kernel) for layer in layers) / max(1, costs.macs),
        "depthwise_kernel": sum(math.sqrt(layer.kernel) for layer in depthwise) / max(1, len(depthwise)),
        "relu_share": (relu + leaky) / max(1, activations),
        "swish_share": swish / max(1, activations),
        "hardswish_share": elements["HardSwish"] / max(1, activations),
        "gelu_share": gelu / max(1, activations),
        "gates": (counts["Sigmoid"] + counts["HardSigmoid"]) / weighted,
        "normalisations": normalisations / weighted,
        "layer_norm_share": layer_norms / max(1, normalisations),
        "softmaxes": sum(node in SOFTMAXES for node in model.graph.nodes) / weighted,
        "concatenations": counts["Concat"] / weighted,
        "stem_stride": math.log(convolutions[0].stride) if convolutions else 0.0,
        "classifier_share": linear[-1].params / max(1, costs.params) if linear else 0.0,
        "input_positions": math.log(max(1, math.prod(image[2:]))),
        "image_channels": float(image[1]) if len(image) == _IMAGE_AXES and len(model.graph.inputs) == 1 else 0.0,
        "classes": float(output[1]) if is_classifier and len(model.graph.outputs) == 1 else 0.0,
    }
    return {name: found[name] for name in TRAITS}


def _with_costs(model: Model, costs: Costs) -> Iterator[tuple[Node, NodeCost]]:
    by_name = {cost.node: cost for cost in costs.nodes}
    return ((node, by_name[node.name]) for node in model.graph.nodes)


def _layers(model: Model, costs: Costs) -> Iterator[_CountedLayer]:
    """Yield the operators with multiply-adds, in graph order."""
    for node, cost in _with_costs(model, costs):
        if not cost.macs:
            continue
        weight = _weight(model, node)
        if node in PLAIN_CONVOLUTIONS and weight is not None:
            kernel = math.prod(weight[2:])
            kind = _kind(node, weight, kernel)
            yield _CountedLayer(kind=kind, kernel=kernel, macs=cost.macs, params=cost.params, stride=_stride(node))
        else:
            kind = "pointwise" if node in LINEAR and weight is not None else "product"
            yield _CountedLayer(kind=kind, kernel=0, macs=cost.macs, params=cost.params, stride=1)


def _kind(node: Node, weight: Sequence[int], kernel: int) -> str:
    groups = node.attributes.get("group", 1)
    if groups != 1:
        return "depthwise" if groups == weight[0] else "grouped"
    if kernel == 1:
        return "pointwise"
    return "spatial" if kernel <= _SMALL_KERNEL else "large_kernel"


def _stride(node: Node) -> int:
    strides = node.attributes.get("strides")
    found = [stride for stride in strides if isinstance(stride, int)] if isinstance(strides, tuple) else []
    return max(found, default=1)


def _weight(model: Model, node: Node) -> Sequence[int] | None:
    """Return the shape of a node's weight: its first constant of floating point with two axes or more."""
    constants = (model.graph.constants.get(name) for name in node.inputs)
    return next((one.shape for one in constants if one is not None and one.is_float and len(one.shape) > 1), None)
