"""Recognise normalisation over the features of each sample written as arithmetic.

All start from a root of a mean: sqrt(mean((x - mean(x))^2) + eps) or sqrt(mean(x^2) + eps). Around it, frameworks write

    PyTorch, Paddle   (x - m) / s * g + b
    TensorFlow        x * (r * g) + (b - m * (r * g)),  with r = 1 / s
    Flax              (x - m) * (r * g) + b, with the variance as max(0, mean(x^2) - m^2)

which all expand to the same sum of products (`algebra`). The axes of the mean decide the kind of normalisation: over
features (layer), over positions (instance), or over both within groups of channels. Reshapes split and join groups, so
their scale and shift can come after, on the joined channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.rewrite.canonical.algebra import Sum, climb, close, expand
from aznas_onnx.graph.rewrite.canonical.linear import as_vector, reshaped
from aznas_onnx.graph.rewrite.canonical.per_channel import Affine, affine_after
from aznas_onnx.graph.rewrite.canonical.pooling import reduced_axes
from aznas_onnx.graph.rewrite.canonical.splitting import inverse
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at
from aznas_onnx.operators import Rules
from aznas_onnx.operators.sets import ELEMENTWISE

__all__ = ["REWRITES"]


_DEPTH = 8
_NO_VARIANCE = "it is not the root of a variance"
_OTHER_RESHAPES = "the reshapes around it do not undo each other"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deviation:
    """A matched root of a mean of squares.

    `mean` is empty for a root mean square, without subtraction.
    """

    x: str
    mean: str
    axes: tuple[int, ...]
    epsilon: float

    @property
    def pattern(self) -> str:
        """The normalisation that it speaks of."""
        return "LayerNormalization" if self.mean else "RMSNormalization"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Affine:
    """The last node of a normalisation, and the constants that scale and shift it; empty without them."""

    root: Node
    scale: str
    shift: str


_Writer: TypeAlias = Callable[[Editor, _Deviation, _Affine, tuple[int, ...]], Declined]
_WRITERS: Rules[_Writer] = Rules()


def _normalisation(operator: str, editor: Editor, node: Node) -> Declined:
    """A normalisation around a Sqrt, or around a Pow by 1/2 or -1/2, if it is that operator."""
    if node.is_op("Pow") and editor.scalar(node.inputs[1]) not in (0.5, -0.5):
        return "it is no root"
    deviation = _deviation(editor, node.inputs[0])
    if not isinstance(deviation, _Deviation):
        return deviation
    affine = _affine(editor, node, deviation)
    if affine is None:
        return _other_mean(editor, deviation) or NearMiss(
            f"nothing after this root divides {'x - mean(x)' if deviation.mean else 'x'} by it", deviation.pattern
        )
    shape = editor.shape(deviation.x)
    assert shape is not None  # its reduction has axes
    if operator != _operator(editor, deviation, affine, shape):
        return f"it is no {operator}"
    declined = _WRITERS[operator](editor, deviation, affine, shape)
    return declined and (_other_mean(editor, deviation) or declined)


def _other_mean(editor: Editor, deviation: _Deviation) -> NearMiss | None:
    """Return that a mean over other axes than those of the root is subtracted; None where that is not so."""
    difference = None if deviation.mean else editor.producer(deviation.x)
    mean = editor.producer(difference.inputs[1]) if difference is not None and difference.is_op("Sub") else None
    axes = () if mean is None or difference is None else _mean_axes(editor, mean)
    if mean is None or difference is None or mean.inputs[0] != difference.inputs[0] or axes in ((), deviation.axes):
        return None
    return NearMiss(
        f"it subtracts a mean over axes {list(axes)}, and its variance is over axes {list(deviation.axes)}",
        "LayerNormalization",
    )


def _operator(editor: Editor, deviation: _Deviation, affine: _Affine, shape: tuple[int, ...]) -> str:
    """Return which normalisation it is, by the axes of the mean."""
    rank = len(shape)
    if not deviation.mean:
        return "RMSNormalization"
    if rank > 3 and deviation.axes == (*range(1, rank - 2), rank - 1):
        return "GroupNormalization"
    return "InstanceNormalization" if _channel_of_instances(editor, deviation, affine, shape) else "LayerNormalization"


def _deviation(editor: Editor, name: str) -> _Deviation | NearMiss | str:
    total = expand(editor, name, _means(editor, name))
    if total is None:
        return _NO_VARIANCE
    epsilon = total.pop((), 0.0)
    product, factor = next(iter(total.items()), ((), 0.0))
    variance = editor.producer(product[0]) if len(total) == len(product) == 1 else None
    if variance is not None and _is_guard(variance):
        variance = editor.producer(variance.inputs[0])
    if variance is None:
        return _NO_VARIANCE
    found = _two_pass(editor, variance) or _one_pass(editor, variance)
    if found is None:
        return _unreadable_mean(editor, variance, factor)
    deviation = _Deviation(x=found[0], mean=found[1], axes=found[2], epsilon=epsilon)
    if factor != 1.0:
        count = _count(editor, deviation.x, deviation.axes)
        return NearMiss(
            f"its mean of {count} squares is multiplied by {factor:.5g}{_bessel(factor, count)}", deviation.pattern
        )
    if not 0.0 < epsilon < 0.1:
        added = f"{epsilon:g}" if epsilon else "nothing"
        return NearMiss(f"{added} is added under its root, where an epsilon below 0.1 was expected", deviation.pattern)
    return deviation


def _unreadable_mean(editor: Editor, variance: Node, factor: float) -> NearMiss | str:
    """Return why a root of a mean of squares is not recognised."""
    is_sum = variance.is_op("ReduceSum") and factor != 1.0
    squared = editor.producer(variance.inputs[0])
    base = _square_root(editor, squared) if is_sum or _is_mean(variance) else ""
    if not base:
        return _NO_VARIANCE
    difference = editor.producer(base)
    is_centred = difference is not None and difference.is_op("Sub")
    axes = reduced_axes(editor, variance)
    total = "sum" if is_sum else "mean"
    count = _count(editor, base, axes or ())
    if editor.shape(base) is None:
        reason = "the shape of its input is not known"
    elif not axes:
        reason = f"the axes of its {total} of squares are not known"
    elif 0 in axes:
        reason = f"its {total} of squares is over the batch too"
    elif is_sum and not math.isclose(count * factor, 1.0, rel_tol=1e-4):
        reason = f"its sum of {count} squares is multiplied by {factor:.5g}{_bessel(count * factor, count)}"
    elif is_sum:
        reason = "its sum of squares is read by other nodes too"
    else:
        reason = "its mean of squares does not keep the axes that it is over (keepdims)"
    return NearMiss(reason, "LayerNormalization" if is_centred else "RMSNormalization")


def _count(editor: Editor, name: str, axes: tuple[int, ...]) -> int:
    """Return the number of elements of a tensor along axes."""
    shape = editor.shape(name) or ()
    return math.prod(shape[axis] for axis in axes) if shape else 0


def _bessel(factor: float, count: int) -> str:
    """Return in words that a factor on a mean of `count` terms divides their sum by one less; empty for another."""
    is_unbiased = count > 1 and math.isclose(factor, count / (count - 1), rel_tol=1e-4)
    return f": it divides by {count - 1}, as an unbiased variance does" if is_unbiased else ""


def _means(editor: Editor, name: str) -> set[str]:
    """Return the means that a sum under a root is of, so that the expansion stops there."""
    node = editor.producer(name)
    operands = () if node is None else node.inputs
    makers = {operand: editor.producer(operand) for operand in operands}
    return {
        operand
        for operand, made in makers.items()
        if made is not None and (_is_mean(made) or _is_guard(made) or made.is_op("Sub"))
    }


def _is_mean(node: Node) -> bool:
    return node.is_op("ReduceMean", "GlobalAveragePool")


def _is_guard(node: Node) -> bool:
    """Whether a node guards a variance against rounding below zero."""
    return node.is_op("Relu", "Abs")


def _two_pass(editor: Editor, variance: Node) -> tuple[str, str, tuple[int, ...]] | None:
    """Read mean((x - mean(x))^2), or mean(x^2)."""
    squared = _mean_of_square(editor, variance)
    if squared is None:
        return None
    base, axes = squared
    difference = editor.producer(base)
    if difference is not None and difference.is_op("Sub"):
        x, mean = difference.inputs
        if _is_mean_of(editor, mean, x, axes):
            return x, mean, axes
    return base, "", axes


def _one_pass(editor: Editor, variance: Node) -> tuple[str, str, tuple[int, ...]] | None:
    """Read mean(x^2) - mean(x)^2."""
    if not variance.is_op("Sub"):
        return None
    second = editor.producer(variance.inputs[0])
    squared = None if second is None else _mean_of_square(editor, second)
    mean = _square_root(editor, editor.producer(variance.inputs[1]))
    if squared is None or not mean or not _is_mean_of(editor, mean, squared[0], squared[1]):
        return None
    return squared[0], mean, squared[1]


def _mean_of_square(editor: Editor, node: Node) -> tuple[str, tuple[int, ...]] | None:
    axes = _mean_axes(editor, node)
    base = _square_root(editor, editor.producer(node.inputs[0])) if axes else ""
    return (base, axes) if base and axes and 0 not in axes else None


def _square_root(editor: Editor, node: Node | None) -> str:
    """Return the tensor that a node squares; empty where it does not."""
    if node is None:
        return ""
    if node.is_op("Mul") and node.inputs[0] == node.inputs[1]:
        return node.inputs[0]
    return node.inputs[0] if node.is_op("Pow") and editor.scalar(node.inputs[1]) == 2.0 else ""


def _is_mean_of(editor: Editor, name: str, x: str, axes: tuple[int, ...]) -> bool:
    node = editor.producer(name)
    return node is not None and _mean_axes(editor, node) == axes and node.inputs[0] == x


def _mean_axes(editor: Editor, node: Node) -> tuple[int, ...]:
    """Return the axes that a mean reduces to one element; empty where it is not such a mean."""
    if node.is_op("GlobalAveragePool"):
        return tuple(range(2, editor.rank(node.inputs[0]) or 0))
    keeps = node.is_op("ReduceMean") and bool(node.attributes.get("keepdims", 1))
    return (reduced_axes(editor, node) or ()) if keeps else ()


def _affine(editor: Editor, node: Node, deviation: _Deviation) -> _Affine | None:
    """Find the last node up to which everything is the normalised x, scaled and shifted by constants."""
    reciprocal = node.outputs[0]
    symbols = {deviation.x, deviation.mean, reciprocal} - {""}
    inverse = {}
    if node.is_op("Sqrt") or editor.scalar(node.inputs[1]) == 0.5:
        inverse, symbols = {reciprocal: "1/std"}, symbols - {reciprocal}
        reciprocal = "1/std"
    best = None
    for candidate in climb(editor, node.outputs[0]):
        if editor.shape(candidate.outputs[0]) != editor.shape(deviation.x):
            continue
        total = expand(editor, candidate.outputs[0], symbols, inverse)
        found = None if total is None else _parts(editor, total, deviation, reciprocal)
        if found is not None:
            best = _Affine(root=candidate, scale=found[0], shift=found[1])
    return best


def _parts(editor: Editor, total: Sum, deviation: _Deviation, reciprocal: str) -> tuple[str, str] | None:
    """Return scale and shift of a sum of products x r g - m r g + b; None where it is another."""
    constants = {name for product in total for name in product if editor.constant(name) is not None}
    for scale in ("", *sorted(constants)):
        for shift in ("", *sorted(constants - {scale})):
            factors = (reciprocal, scale) if scale else (reciprocal,)
            wanted: Sum = {(deviation.x, *factors): 1.0}
            if deviation.mean:
                wanted.update({(deviation.mean, *factors): -1.0})
            if shift:
                wanted.update({(shift,): 1.0})
            if close(total, wanted):
                return scale, shift
    return None


@_WRITERS.on("LayerNormalization", "RMSNormalization")
def _write_layer(editor: Editor, deviation: _Deviation, affine: _Affine, shape: tuple[int, ...]) -> Declined:
    rank = len(shape)
    trailing = deviation.axes == tuple(range(rank - len(deviation.axes), rank))
    if not trailing and deviation.axes != (1,):
        return NearMiss(
            f"it normalises over axes {list(deviation.axes)}, which are neither the last ones nor the channels alone"
        )
    size = math.prod(shape[axis] for axis in deviation.axes)
    vectors = [_operand(editor, name, shape, deviation.axes, size) for name in (affine.scale, affine.shift)]
    if any(name and vector is None for name, vector in zip((affine.scale, affine.shift), vectors, strict=True)):
        return NearMiss("its scale or shift is not one number per normalised feature")
    patch = NodeBuilder(editor, affine.root)
    order = tuple(range(rank)) if trailing else (0, *range(2, rank), 1)
    x = deviation.x if trailing else patch.add("Transpose", deviation.x, perm=order)
    inside = tuple(shape[axis] for axis in deviation.axes)
    made = _normalise(editor, patch, x, vectors, inside, deviation)
    return patch.apply() if trailing else patch.finish("Transpose", made, perm=inverse(order))


def _channel_of_instances(editor: Editor, deviation: _Deviation, affine: _Affine, shape: tuple[int, ...]) -> int:
    """Return the channel axis where a mean is over all positions of each channel; else 0.

    A signal of three axes without scale and shift is treated as tokens, which are normalised over their features.
    """
    rank, names = len(shape), [name for name in (affine.scale, affine.shift) if name]
    channel = {tuple(range(2, rank)): 1, tuple(range(1, rank - 1)): rank - 1}.get(deviation.axes, 0)
    if rank < 3 or not channel or (rank == 3 and not names):
        return 0
    fits = all(as_vector(editor, name, rank, channel, shape[channel]) is not None for name in names)
    return channel if fits else 0


@_WRITERS.on("InstanceNormalization")
def _write_instances(editor: Editor, deviation: _Deviation, affine: _Affine, shape: tuple[int, ...]) -> Declined:
    rank, channel = len(shape), _channel_of_instances(editor, deviation, affine, shape)
    size = shape[channel]
    scale, shift = (
        as_vector(editor, name, rank, channel, size) if name else None for name in (affine.scale, affine.shift)
    )
    names = _scale_and_shift(editor, scale, shift, size, affine.root.outputs[0])
    return _channels_first(
        NodeBuilder(editor, affine.root), "InstanceNormalization", deviation.x, names, rank=rank, channel=channel,
        epsilon=deviation.epsilon,
    )  # fmt: skip


def _channels_first(
    patch: NodeBuilder, operator: str, x: str, names: list[str], *, rank: int, channel: int, **attributes: Any
) -> Declined:
    """Finish with an operator on channels-first maps, between Transposes where the channels are the last axis."""
    if channel == 1:
        return patch.finish(operator, x, *names, **attributes)
    turned = patch.add("Transpose", x, perm=(0, rank - 1, *range(1, rank - 1)))
    made = patch.add(operator, turned, *names, **attributes)
    return patch.finish("Transpose", made, perm=(0, *range(2, rank), 1))


def _scale_and_shift(
    editor: Editor, scale: Constant | None, shift: Constant | None, size: int, output: str
) -> list[str]:
    """Add scale and shift; missing ones are ones and zeros without parameter role."""
    return [
        editor.add_array(np.full(size, neutral, dtype=np.float32), f"{output}/{label}")
        if vector is None
        else editor.add_constant(vector, f"{output}/{label}")
        for label, vector, neutral in (("scale", scale, 1.0), ("shift", shift, 0.0))
    ]


@_WRITERS.on("GroupNormalization")
def _write_groups(editor: Editor, deviation: _Deviation, affine: _Affine, groups: tuple[int, ...]) -> Declined:
    """GroupNormalization of Keras and Flax: on (batch, *positions, groups, channels of a group), between Reshapes."""
    before, after = editor.producer(deviation.x), editor.sole_reader(affine.root.outputs[0])
    if before is None or not before.is_op("Reshape") or after is None or not after.is_op("Reshape"):
        return NearMiss("no Reshape directly before and after it divides the channels into groups and joins them again")
    shape = editor.shape(before.inputs[0])
    if shape != (*groups[:-2], groups[-2] * groups[-1]) or shape != editor.shape(after.outputs[0]):
        return NearMiss(_OTHER_RESHAPES)
    rank, size = len(shape), shape[-1]
    inside: list[Constant | None] = []
    for name in (affine.scale, affine.shift):
        constant = editor.constant(name) if name else None
        if constant is not None and (constant.elements != size or constant.shape[-2:] not in (groups[-2:], (size,))):
            return NearMiss("its scale or shift is not one number per channel")
        inside.append(None if constant is None else reshaped(constant, (size,)))
    found = Affine(root=after, scale=inside[0], shift=inside[1])
    if inside == [None, None]:
        found = affine_after(editor, after, rank - 1)
    names = _scale_and_shift(editor, found.scale, found.shift, size, found.root.outputs[0])
    return _channels_first(
        NodeBuilder(editor, found.root), "GroupNormalization", before.inputs[0], names, rank=rank, channel=rank - 1,
        num_groups=groups[-2], epsilon=deviation.epsilon,
    )  # fmt: skip


def _normalise(
    editor: Editor,
    patch: NodeBuilder,
    x: str,
    vectors: list[Constant | None],
    inside: tuple[int, ...],
    deviation: _Deviation,
) -> str:
    scale, shift = vectors
    if scale is None:
        names = [editor.add_array(np.ones(inside, dtype=np.float32), f"{x}/ones")]
    else:
        names = [editor.add_constant(reshaped(scale, inside), f"{x}/scale")]
    if shift is not None:
        names.append(editor.add_constant(reshaped(shift, inside), f"{x}/shift"))
    if deviation.mean:
        return patch.add("LayerNormalization", x, *names, axis=-len(inside), epsilon=deviation.epsilon)
    normalised = patch.add("RMSNormalization", x, names[0], axis=-len(inside), epsilon=deviation.epsilon)
    return normalised if shift is None else patch.add("Add", normalised, names[1])


def _operand(editor: Editor, name: str, shape: tuple[int, ...], axes: tuple[int, ...], size: int) -> Constant | None:
    """Return a scale or shift as a vector of `size` elements over the normalised axes; None where it is not one."""
    constant = editor.constant(name) if name else None
    if constant is None:
        return None
    if len(axes) == 1:
        return as_vector(editor, name, len(shape), axes[0], size)
    inside = tuple(shape[axis] for axis in axes)
    padded = (1,) * (len(shape) - len(constant.shape)) + constant.shape
    outside = padded[: len(shape) - len(axes)]
    fits = padded[len(shape) - len(axes) :] == inside and all(size == 1 for size in outside)
    return reshaped(constant, (size,)) if fits else None


@ending_at("InstanceNormalization", result="GroupNormalization")
def _group_normalisation(editor: Editor, node: Node) -> Declined:
    """An instance normalisation between reshapes that divide the channels into groups and join them again."""
    before, after = editor.producer(node.inputs[0]), editor.sole_reader(node.outputs[0])
    if before is None or not before.is_op("Reshape") or after is None or not after.is_op("Reshape"):
        return "it does not work on groups"
    shape, groups = editor.shape(before.inputs[0]), editor.shape(node.inputs[0])
    if shape is None or groups is None or len(groups) != 3 or len(shape) < 3:
        return "it does not work on groups of channels"
    if shape != editor.shape(after.outputs[0]):
        return NearMiss(_OTHER_RESHAPES)
    if groups[0] != shape[0] or shape[1] % groups[1] or math.prod(shape[1:]) != groups[1] * groups[2]:
        return NearMiss("the Reshape before it does not divide the channels into groups")
    ones, zeros = (editor.array(name) for name in node.inputs[1:3])
    if ones is None or zeros is None or (ones != 1.0).any() or zeros.any():
        return NearMiss("it scales or shifts each group, not each channel")
    affine = affine_after(editor, after, 1)
    output = affine.root.outputs[0]
    names = _scale_and_shift(editor, affine.scale, affine.shift, shape[1], output)
    return NodeBuilder(editor, affine.root).finish(
        "GroupNormalization", before.inputs[0], *names, num_groups=groups[1],
        epsilon=node.attributes.get("epsilon", 1e-5),
    )  # fmt: skip


@ending_at("Unsqueeze", "Reshape")
def _axes_given_back(editor: Editor, node: Node) -> Declined:
    """Statistics computed without the axes of their means, which are added last (jax.numpy), keep the axes."""
    kept = editor.shape(node.outputs[0])
    means = _means_below(editor, node.inputs[0], _DEPTH)
    if kept is None or not means:
        return "it gives no axes back to means"
    for mean in means:
        shape, axes = editor.shape(mean.inputs[0]), reduced_axes(editor, mean)
        if shape is None or not axes or kept != tuple(1 if a in axes else size for a, size in enumerate(shape)):
            return "it gives back other axes"
    if not all(reader in ELEMENTWISE for reader in editor.readers(node.outputs[0])):
        return "what follows is no arithmetic"
    patch = NodeBuilder(editor, node)
    _with_axes(editor, patch, node.inputs[0], node.outputs[0])
    return patch.apply()


def _means_below(editor: Editor, name: str, depth: int) -> list[Node]:
    """Return the means without their axes that a tensor is computed from; nothing where anything else is in it."""
    node = editor.producer(name)
    if node is None or depth == 0:
        return []
    if node.is_op("ReduceMean"):
        return [] if node.attributes.get("keepdims", 1) else [node]
    if node not in ELEMENTWISE:
        return []
    found = [_means_below(editor, operand, depth - 1) for operand in node.inputs if editor.scalar(operand) is None]
    return [mean for means in found for mean in means] if all(found) else []


def _with_axes(editor: Editor, patch: NodeBuilder, name: str, output: str = "") -> str:
    """Rewrite arithmetic on means, on means with their axes."""
    node = editor.producer(name)
    if node is None:
        return name
    is_mean = node.is_op("ReduceMean")
    for other in editor.readers(node.inputs[0]) if is_mean and not output else ():
        same = _mean_axes(editor, other) == reduced_axes(editor, node)
        if same and other.is_op("ReduceMean") and editor.position(other) < editor.position(patch.node):
            return other.outputs[0]
    inputs = node.inputs if is_mean else [_with_axes(editor, patch, operand) for operand in node.inputs]
    attributes = {**node.attributes, "keepdims": 1} if is_mean else node.attributes
    return patch.add(node.op_type, *inputs, output=output, version=node.version, attributes=attributes)


@ending_at("LayerNormalization", "InstanceNormalization", "GroupNormalization")
def _scaled_after(editor: Editor, node: Node) -> Declined:
    """A normalisation with a scale of ones and a shift of zeros, and scale and shift per channel behind it."""
    rank = editor.rank(node.inputs[0]) or 0
    scale, shift = (editor.array(name) if name else None for name in (node.input(1), node.input(2)))
    if scale is None or (node.input(2) and shift is None) or scale.ndim != 1:
        return "its scale or shift is no vector that is known"
    if (scale != 1.0).any() or (shift is not None and shift.any()):
        return "it scales or shifts itself"
    affine = affine_after(editor, node, rank - 1 if node.is_op("LayerNormalization") else 1)
    if affine.scale is None or affine.shift is None:
        return "no scale and shift follow"
    output = affine.root.outputs[0]
    names = _scale_and_shift(editor, affine.scale, affine.shift, affine.scale.elements, output)
    return NodeBuilder(editor, affine.root).finish(
        node.op_type, node.inputs[0], *names, version=node.version, name=node.name,
        attributes=node.attributes,
    )  # fmt: skip


def _normalisations() -> Iterator[Rewrite]:
    for operator in _WRITERS:
        yield ending_at("Sqrt", "Pow", result=operator)(partial(_normalisation, operator))


REWRITES: tuple[Rewrite, ...] = (_axes_given_back, *_normalisations(), _group_normalisation, _scaled_after)
