"""Recognise batch normalisation written as one factor and one term per channel.

    Keras on PyTorch, Flax      (x - mean) * factor + shift,  with factor = scale / sqrt(variance + epsilon)
    TensorFlow, frozen norms    x * factor + (shift - mean * factor)
    by hand                     (x - mean) / deviation * scale + shift

A chain of such steps is matched as a whole (:func:`_chain`). :func:`_speaks_against` decides whether it is a
batch normalisation, or a layer scale, preprocessing, or the scale and shift of another normalisation.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.rewrite.canonical.per_channel import (
    PerChannelStep,
    combined,
    per_channel_step,
    scale_of,
    shift_of,
)
from aznas_onnx.graph.rewrite.canonical.splitting import inverse
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.restore.folded_bn_names import names_batch_normalisation
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at
from aznas_onnx.graph.shapes.constant_evaluation import is_cheap
from aznas_onnx.operators import OPERATORS, InputRole, Movement
from aznas_onnx.operators.sets import (
    ACTIVATIONS,
    BOUNDED,
    GLOBAL_POOLS,
    LAYER_NORMALIZATIONS,
    LINEAR,
    MATRIX_PRODUCTS,
    PLAIN_CONVOLUTIONS,
    POOLS,
    RESHAPES,
)

__all__ = ["EPSILON", "REWRITES", "add_batch_normalisation"]

EPSILON = 1e-5

_PREPARATION = "no layer with weights was found before it, as where an input is prepared"
_READ_ELEMENTS = 4096
_LOOKED_AT = 16
_SEARCHED = 64


def add_batch_normalisation(
    editor: Editor,
    node: Node,
    x: str,
    *,
    channels: int,
    scale: Constant | None = None,
    shift: Constant | None = None,
    mean: Constant | None = None,
    variance: Constant | None = None,
    axis: int = 1,
    before: Sequence[Node] = (),
) -> None:
    """Replace `node` by the nodes `before` and a batch normalisation of `x` along an axis.

    It computes (x - mean) / sqrt(variance + epsilon) * scale + shift. None has no effect; a scale beside a known
    variance, and a shift beside a known mean, are then no parameters, and other missing ones are untrained.
    """
    output = node.outputs[0]

    def add(label: str, vector: Constant | None, neutral: float, *, is_parameter: bool = True) -> str:
        name, filled = f"{output}/batch_norm/{label}", np.full(channels, neutral, dtype=np.float32)
        if vector is None and not is_parameter:
            return editor.add_array(filled, name)
        return editor.add_constant(vector or Constant.of(filled), name)

    names = [
        add("weight", scale, 1.0, is_parameter=variance is None), add("bias", shift, 0.0, is_parameter=mean is None),
        add("mean", mean, 0.0), add("variance", variance, 1.0 - EPSILON),
    ]  # fmt: skip
    patch = NodeBuilder(editor, node)
    patch.extend(*before)
    if axis == 1:
        patch.add("BatchNormalization", x, *names, epsilon=EPSILON)
    else:
        shape = editor.shape(x)
        assert shape is not None  # a vector was found along its axis
        order = (0, axis, *(place for place in range(1, len(shape)) if place != axis))
        turned = patch.add("Transpose", x, perm=order)
        made = patch.add("BatchNormalization", turned, *names, epsilon=EPSILON)
        patch.add("Transpose", made, perm=inverse(order))
    patch.apply()


def _chain(editor: Editor, node: Node) -> list[PerChannelStep]:
    """Return the steps around a first factor: a mean subtracted, factors, terms; empty where the node is not a step."""
    step = per_channel_step(editor, node)
    if step is None or not step.is_factor:
        return []
    steps = [step]
    before = per_channel_step(editor, editor.producer(step.x)) if editor.is_private(step.x) else None
    if before is not None and before.axis == step.axis:
        if before.is_factor:
            return []
        if before.node.is_op("Sub") or not _takes_bias(editor, editor.producer(before.x)):
            steps.insert(0, before)
    while (after := per_channel_step(editor, editor.sole_reader(steps[-1].node.outputs[0]))) is not None:
        if after.axis != step.axis or (after.is_factor and not steps[-1].is_factor):
            break
        steps.append(after)
    return steps


def _takes_bias(editor: Editor, node: Node | None) -> bool:
    """Whether a term added to a tensor is the bias of its layer, and not a mean."""
    while node is not None and _is_layout(node):
        node = editor.producer(node.inputs[0])
    return node is not None and bool(_output_channels(editor, node)) and not node.input(2)


@ending_at("Mul", "Div", result="BatchNormalization")
def _written_out(editor: Editor, node: Node) -> Declined:
    """A factor per channel, mostly with a mean subtracted before it or a term added after it."""
    steps = _chain(editor, node)
    if not steps:
        return "it does not multiply by a constant per channel"
    declined = _speaks_against(editor, steps)
    if declined is not None:
        repeats = isinstance(declined, NearMiss) and _divides_by_root(editor, _maker(editor, steps[0].x))
        return "it scales and shifts another normalisation" if repeats else declined
    mean = None if steps[0].is_factor else _mean(steps[0])
    scale, shift = scale_of(steps), shift_of(steps if mean is None else steps[1:])
    variance = _variance(editor, steps)
    add_batch_normalisation(
        editor, steps[-1].node, steps[0].x, channels=steps[0].vector.elements, axis=steps[0].axis,
        scale=scale if variance is None else None, shift=shift, mean=mean, variance=variance,
    )  # fmt: skip
    return None


def _mean(step: PerChannelStep) -> Constant:
    """Return the vector that a step subtracts, in either order."""
    return combined(operator.neg, step.vector, step.vector) if step.node.is_op("Add") else step.vector


def _variance(editor: Editor, steps: Sequence[PerChannelStep]) -> Constant | None:
    """Return the variance of a normalisation without scale, whose factors are of the variance alone; else None."""
    factors, scale = [step for step in steps if step.is_factor], scale_of(steps)
    if scale is None or any(step.is_reversed for step in steps):
        return None
    for step in factors:
        roots = [root for name in step.vector.sources if (root := editor.constant(name)) and root.elements > 1]
        if not step.node.is_op("Div") and not (len(roots) == 1 and _is_of_variance(step.vector)):
            return None
    return replace(combined(lambda f: (1.0 / f**2 - EPSILON).astype(f.dtype), scale, scale), sources=frozenset())


def _speaks_against(editor: Editor, steps: Sequence[PerChannelStep]) -> Declined:
    """Return why a chain is not a batch normalisation; None where it is one, by the first of these that applies.

    - The name of its factor contains batch normalisation.
    - It has a mean, a factor and a shift: nothing else needs all three.
    - One of its vectors was computed from a variance, in the file itself.
    - It has no mean, and factor and shift are trained as they are (:func:`_trained_as_they_are`): no normalisation.
    - It follows a layer with weights, with a mean or a shift beside its factor. A factor alone is a layer scale, unless
      it remains of an untrained normalisation: exporters drop a mean and a shift of zero.
    - It has a shift and follows an operator on feature maps: a sum, a Concat, an activation, a pool (pre-activation,
      and normalisation behind the activation). Before the first layer with weights it is the preprocessing of an image,
      and on tokens the affine layer of a network without normalisation.
    """
    is_shifted = not steps[-1].is_factor
    is_centred = not steps[0].is_factor and (is_shifted or steps[0].node.is_op("Sub"))
    factors = [step for step in steps if step.is_factor]
    if any(names_batch_normalisation(step.node.name, step.node.outputs[0]) for step in factors):
        return None
    if (is_centred and is_shifted) or any(_is_of_variance(step.vector) for step in steps):
        return None
    maker = _maker(editor, steps[0].x)
    trained = _trained_as_they_are(editor, steps, maker) if is_shifted and not is_centred else ""
    if trained:
        return NearMiss(trained)
    count, channels = factors[0].vector.elements, _output_channels(editor, maker) if maker is not None else 0
    if channels == count and (is_centred or is_shifted or _is_untrained(factors[0].vector)):
        return None
    if maker is not None and not (is_centred or is_shifted):
        return _scales_alone(editor, steps, maker, follows_layer=channels == count)
    if maker is None or not _has_layers(editor, maker):
        return NearMiss(_PREPARATION)
    if not is_shifted:
        return NearMiss("it subtracts a mean and scales, without a shift")
    if channels:
        return NearMiss(f"it has {count} numbers, and {maker.operator} before it makes {channels} channels")
    if not _makes_maps(maker):
        return NearMiss(
            f"it scales and shifts the output of {maker.operator}, after which no batch normalisation is expected"
        )
    is_map = factors[0].axis == 1 or (editor.rank(steps[0].x) or 0) > 3
    return None if is_map else NearMiss("it scales and shifts tokens that do not come directly from a layer")


def _scales_alone(
    editor: Editor, steps: Sequence[PerChannelStep], maker: Node, *, follows_layer: bool
) -> NearMiss | str:
    """Return why factors with neither a mean nor a shift are no batch normalisation."""
    before = editor.producer(steps[0].x)
    subtracts = before is not None and before.is_op("Sub") and steps[0].is_factor
    if before is not None and subtracts and editor.shape(before.inputs[1]) != editor.shape(before.outputs[0]):
        return NearMiss("the Sub before it subtracts a tensor that is not constant")
    if not steps[0].is_factor:
        has_layers = follows_layer or _has_layers(editor, maker)
        return NearMiss("it adds a term before its factor and no shift after it" if has_layers else _PREPARATION)
    if follows_layer:
        return NearMiss("it multiplies the channels of a layer, like a layer scale, without a mean or a shift")
    return "it multiplies channels that do not come directly from a layer, without a mean or a shift"


def _divides_by_root(editor: Editor, node: Node | None) -> bool:
    """Whether a product or quotient is by a root: the quotient of a normalisation that was not recognised."""
    pending = list(node.inputs) if node is not None and node.is_op("Mul", "Div") else []
    for name in pending:
        maker = editor.producer(name)
        if maker is not None and maker.is_op("Sqrt", "Pow"):
            return True
        if maker is not None and maker.is_op("Reciprocal", "Add", "Div", "Mul") and len(pending) < _LOOKED_AT:
            pending.extend(maker.inputs)
    return False


def _is_layout(node: Node) -> bool:
    """Whether a node gives a tensor other axes and leaves its channels."""
    return node in RESHAPES or node.is_op("Transpose")


_HANDS_ON_MAPS = OPERATORS.where(
    lambda operator: (
        operator.movement in (Movement.SAME, Movement.SELECTS, Movement.PERMUTES, Movement.JOINS, Movement.FILLS)
        and operator.role(0) is InputRole.DATA
    )
)


def _makes_maps(node: Node) -> bool:
    """Whether a node makes feature maps of feature maps; a bounded gate (Sigmoid, Tanh) does not."""
    is_gate = node in BOUNDED or node.is_op("Softplus")
    passes = node in _HANDS_ON_MAPS or node in POOLS or node in GLOBAL_POOLS
    return passes or node.is_op("Add", "Resize") or (node in ACTIVATIONS and not is_gate)


def _trained_as_they_are(editor: Editor, steps: Sequence[PerChannelStep], maker: Node | None) -> str:
    """Return the sign that a factor and a term are trained without statistics, by any of these; else empty.

    - The file lists both as parameters: a normalisation multiplies its parameters with statistics.
    - The term is a token, which is read as data elsewhere: a layer scale, and the residual sum of a learned query.
    - They follow tokens of a layer with a bias: a normalisation would make that bias redundant, and on tokens it shows
      by a mean or a name (Keras). The same holds for one token of a linear layer.
    """
    terms = [step for step in steps if not step.is_factor]
    if all(_is_listed(editor, step.vector) for step in steps):
        return "the file lists its factor and term as parameters, without statistics multiplied into them"
    if any(_is_read_as_data(editor, step.vector) for step in terms):
        return "its term is a token or a query, which other nodes read as data"
    shape = editor.shape(steps[0].x)
    if shape is None or len(shape) != 3 or maker is None or not _makes_tokens(editor, maker):
        return ""
    if _has_bias(editor, maker):
        return "it scales and shifts tokens of a layer that has a bias of its own"
    return "it scales and shifts one token of a linear layer" if maker in LINEAR and 1 in shape[1:] else ""


def _is_listed(editor: Editor, vector: Constant) -> bool:
    """Whether a vector is one parameter that the file lists, and not computed from several."""
    return len(vector.sources) == 1 and vector.sources <= editor.parameters


def _is_read_as_data(editor: Editor, vector: Constant) -> bool:
    """Whether the source of a vector is also joined to features, compared with them, copied or normalised."""
    joins = ("Concat", "Expand", *MATRIX_PRODUCTS)
    return any(
        not vector.sources.isdisjoint(constant.sources)
        for node in editor.nodes(*joins, *LAYER_NORMALIZATIONS)
        for name in (node.inputs if node.operator in joins else node.inputs[:1])
        if (constant := editor.constant(name)) is not None
    )


def _has_bias(editor: Editor, layer: Node) -> bool:
    """Whether a layer with weights has a bias, its own or added to its output."""
    reader = editor.sole_reader(layer.outputs[0])
    while reader is not None and _is_layout(reader):
        reader = editor.sole_reader(reader.outputs[0])
    return bool(layer.input(2)) or (
        reader is not None and reader.is_op("Add") and per_channel_step(editor, reader) is not None
    )


def _makes_tokens(editor: Editor, layer: Node) -> bool:
    """Whether a layer is linear, or a convolution whose positions along several axes became one row of tokens."""
    shape = editor.shape(layer.outputs[0])
    return layer in LINEAR or (shape is not None and sum(size > 1 for size in shape[2:]) > 1)


def _maker(editor: Editor, name: str) -> Node | None:
    """Return the node that made a tensor, seen through changes of layout and an added bias."""
    node = editor.producer(name)
    for _ in range(_LOOKED_AT):
        step = per_channel_step(editor, node)
        if node is None or not (_is_layout(node) or (step is not None and node.is_op("Add"))):
            break
        node = editor.producer(node.inputs[0] if step is None else step.x)
    return node


def _output_channels(editor: Editor, node: Node) -> int:
    """Return the number of channels that a layer with constant weights makes; 0 for any other node."""
    weight = editor.constant(node.input(1))
    shape = editor.shape(node.outputs[0])
    if weight is None or len(weight.shape) < 2 or shape is None:
        return 0
    if node in PLAIN_CONVOLUTIONS:
        return shape[1]
    return shape[-1] if node in LINEAR else 0


def _has_layers(editor: Editor, node: Node) -> bool:
    """Whether there is a layer with weights near before a node."""
    pending, seen = [node], {node}
    while pending and len(seen) <= _SEARCHED:
        current = pending.pop(0)
        if _output_channels(editor, current):
            return True
        makers = [editor.producer(name) for name in current.inputs]
        fresh = [maker for maker in dict.fromkeys(makers) if maker is not None and maker not in seen]
        seen.update(fresh)
        pending.extend(fresh)
    return False


def _is_of_variance(vector: Constant) -> bool:
    """Whether the file computes a vector from the root of something positive and a small number."""
    pending, seen = [vector], 0
    while pending and seen < _LOOKED_AT:
        origin = pending.pop(0).origin
        seen += 1
        if origin is None:
            continue
        operands = [operand for operand in origin.inputs if operand is not None]
        is_root = origin.node.is_op("Sqrt") or (origin.node.is_op("Pow") and abs(_number(operands[-1])) == 0.5)
        total = operands[0].origin if is_root else None
        added = total.inputs if total is not None and total.node.is_op("Add") else ()
        if any(operand is not None and 0.0 < _number(operand) < 0.1 for operand in added):
            return True
        pending.extend(operands)
    return False


def _number(constant: Constant) -> float:
    """Return the value of a small float constant whose elements are all equal; else 0."""
    if constant.read is None or constant.elements > _READ_ELEMENTS or not is_cheap(constant):
        return 0.0
    values = constant.read().reshape(-1)
    return float(values[0]) if values.size and bool((values == values[0]).all()) else 0.0


def _is_untrained(factor: Constant) -> bool:
    """Whether a factor is 1 / sqrt(1 + epsilon) throughout: of variances and scales that are one."""
    return 0.99 < _number(factor) < 1.0


@ending_at("Mul", "Div")
def _followed_by_scale(editor: Editor, node: Node) -> Declined:
    """A batch normalisation without parameters, as in Caffe, followed by scale and shift."""
    steps = _chain(editor, node)
    if not steps or not steps[0].is_factor or steps[0].axis != 1:
        return "it does not scale a batch normalisation"
    inner = editor.producer(steps[0].x)
    if inner is None or not inner.is_op("BatchNormalization") or not editor.is_private(steps[0].x):
        return "it does not scale a batch normalisation"
    if len(steps) == 1:
        return NearMiss("it scales a batch normalisation and adds no shift", "BatchNormalization")
    if len(steps) != 2 or steps[1].is_factor or len(inner.outputs) > 1:
        return "it is not one scale and one shift of a batch normalisation in evaluation mode"
    weight, bias = (editor.constant(name) for name in inner.inputs[1:3])
    if weight is None or bias is None:
        return "its parameters are computed"
    root, scale, shift = steps[1].node, scale_of(steps), shift_of(steps)
    assert scale is not None  # of the factor
    assert shift is not None  # of the term
    names = [
        editor.add_constant(combined(operator.mul, scale, weight, scale), f"{root.outputs[0]}/weight"),
        editor.add_constant(combined(lambda b, s, t: b * s + t, shift, bias, scale, shift), f"{root.outputs[0]}/bias"),
    ]
    return NodeBuilder(editor, root).finish(
        "BatchNormalization", inner.inputs[0], *names, *inner.inputs[3:], name=inner.name, version=inner.version,
        attributes=inner.attributes,
    )  # fmt: skip


@ending_at("BatchNormalization")
def _zero_bias_before(editor: Editor, node: Node) -> Declined:
    """A bias of zeros that the exporter itself made for the convolution before a batch normalisation."""
    convolution = editor.producer(node.inputs[0])
    if convolution is None or convolution not in PLAIN_CONVOLUTIONS or not convolution.input(2):
        return "no convolution with a bias comes before it"
    bias = editor.constant(convolution.inputs[2])
    value = editor.array(convolution.inputs[2])
    if bias is None or value is None or convolution.inputs[2] in bias.sources or value.any():
        return "the bias is a parameter"
    editor.update(convolution, inputs=convolution.inputs[:2])
    return None


REWRITES: tuple[Rewrite, ...] = (_zero_bias_before, _followed_by_scale, _written_out)
