"""Find the channel and batch axis of each tensor, and products that separate positions.

Every axis of every tensor is followed through the graph as a product of factors
(`axis_factors`): a Reshape cuts and joins them, a Transpose permutes them, a convolution or a matrix
product makes new ones. So the channels are still known after windows were cut out of a map, or heads out of a
token, and put together again. Which axis of the graph's input is which shows when the first weight reads it; until
then its axes are open questions, answered for all tensors at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.axis_factors import (
    BATCH,
    CHANNEL,
    POSITION,
    UNKNOWN,
    Axes,
    Axis,
    axis_of,
    is_open,
    open_kind,
    regroup,
)
from aznas_onnx.operators import OPERATORS, Family, Rules
from aznas_onnx.operators.sets import CONVOLUTIONS, LAYER_NORMALIZATIONS, POOLS, RECURRENT, REDUCTIONS, TENSOR_PRODUCTS

__all__ = ["ChannelAxes", "layout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAxes:
    """Channel and batch axes of a graph's activations.

    - `channel_axes`: For each tensor its channel axis. A tensor is absent where no axis or several have channels:
      inside attention, where they are split over heads, or after a Flatten.
    - `batch_axes`: For each tensor the axis with the batch, alone or joined with positions. A tensor is absent where
      that is unknown, or where it has no batch.
    - `per_position`: Names of the products of two activations with a separate result for each position (the weighted
      sum over the experts of a mixture). Those of attention mix positions.
    """

    channel_axes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    batch_axes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    per_position: frozenset[str] = frozenset()


def layout(graph: Graph, infos: TensorInfos, batch_axes: Mapping[str, int]) -> ChannelAxes:
    """Find the channel and batch axes of a graph's activations.

    - `graph`, `infos`: A canonical graph and its infos.
    - `batch_axes`: Of the graph's inputs.
    """
    walk = _AxisWalk(graph, infos, batch_axes)
    for node in graph.nodes:
        walk.visit(node)
    return ChannelAxes(
        channel_axes=MappingProxyType(walk.channels()),
        batch_axes=MappingProxyType(walk.batches()),
        per_position=frozenset(node.name for node in graph.nodes if walk.is_per_position(node)),
    )


class _AxisWalk:
    def __init__(self, graph: Graph, infos: TensorInfos, batch_axes: Mapping[str, int]) -> None:
        self._constants = graph.constants
        self._infos = infos
        self._axes: dict[str, Axes] = {}
        self._answers: dict[str, str] = {}
        self._opened = 0
        for value in graph.inputs:
            shape = infos[value.name].shape or ()
            batch = batch_axes.get(value.name) if value.dtype.kind == "f" else None
            self._axes[value.name] = self.opened(shape, batch)

    def batch_of(self, shape: Sequence[int]) -> int | None:
        """Return the axis of a shape that has the size of the batch: the first, or else the only one."""
        size = self._infos.batch_size
        if size in shape[:1]:
            return 0
        return shape.index(size) if shape.count(size) == 1 else None

    def opened(self, shape: Sequence[int], batch: int | None) -> Axes:
        """Return axes whose meaning the first weight that reads them decides, but for the batch."""
        self._opened += 1
        return tuple(
            axis_of(BATCH if axis == batch else open_kind(100 * self._opened + axis), size)
            for axis, size in enumerate(shape)
        )

    def visit(self, node: Node) -> None:
        rule = _RULES.get(node.op_type, _inherit) if node.is_standard else _inherit
        for index, name in enumerate(node.outputs):
            info = self._infos[name] if name else None
            if info is not None and info.shape is not None and info.dtype.kind == "f":
                axes = rule(self, node, info.shape, index)
                self._axes[name] = axes if len(axes) == len(info.shape) else _unknown(info.shape)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._infos[name].shape or ()

    def integers(self, node: Node, attribute: str, index: int) -> tuple[int, ...] | None:
        """Return a list of integers that is an attribute in old versions and input `index` in newer ones."""
        given = node.attributes.get(attribute)
        if given is not None:
            return tuple(given) if isinstance(given, tuple) else (int(given),)  # type: ignore[arg-type]
        value = self._infos.value(node.input(index)) if node.input(index) else None
        return None if value is None else tuple(int(v) for v in value.reshape(-1))

    def axes(self, name: str) -> Axes | None:
        """Return the axes of an activation; None for a constant or an omitted input."""
        if not name or name in self._constants:
            return None
        known = self._axes.get(name)
        return _unknown(self.shape(name)) if known is None else known

    def activations(self, node: Node) -> list[Axes]:
        return [axes for axes in map(self.axes, node.inputs) if axes is not None]

    def first(self, node: Node) -> Axes:
        """Return the axes of the first input with data."""
        for name in node.inputs:
            if name in self._axes:
                return self._axes[name]
        found = self.activations(node)
        return found[0] if found else ()

    def kind(self, axis: Axis) -> str:
        """Return the one kind of an axis's factors; unknown where it has none or several."""
        if len(axis) == 1:
            return self._answers.get(axis[0][0], axis[0][0])
        contents = {self._answers.get(kind, kind) for kind, _ in axis}
        return contents.pop() if len(contents) == 1 else UNKNOWN

    def answer(self, axis: Axis, kind: str) -> None:
        """Decide the meaning of an axis of the graph's input, if it is still open."""
        found = self.kind(axis)
        if is_open(found):
            self._answers[found] = kind

    def has_channels(self, axes: Sequence[Axis]) -> bool:
        return any(self._answers.get(kind, kind) == CHANNEL for axis in axes for kind, _ in axis)

    def contracted(self, axes: Axes, at: int) -> str:
        """Return the meaning of the axis that a weight sums over: channels, or positions that it mixes."""
        kind = self.kind(axes[at])
        if kind == POSITION and self.has_channels(axes[:at] + axes[at + 1 :]):
            return POSITION  # the token mixing of an MLP-Mixer
        others = (factor for other, axis in enumerate(axes) if other != at for factor in axis)
        if not any(other == kind for other, _ in others):  # or a patch of the axis that also indexes the patches
            self.answer(axes[at], CHANNEL)
        return CHANNEL

    def channels(self) -> dict[str, int]:
        return self._places(self._channel_axis)

    def batches(self) -> dict[str, int]:
        """Return for each tensor the one axis with the batch in it."""
        return self._places(_batch_axis)

    def _places(self, find: Callable[[Axes], int | None]) -> dict[str, int]:
        """Find an axis of each tensor, where it has one; many tensors have equal axes."""
        places = {axes: find(axes) for axes in {*self._axes.values()}}
        found = ((name, places[axes]) for name, axes in self._axes.items())
        return {name: place for name, place in found if place is not None}

    def is_per_position(self, node: Node) -> bool:
        """Whether a node multiplies two activations as matrices over axes of channels alone.

        Rows, columns and the inner axis are then channels (experts among them), and positions are among the axes that
        both operands share.
        """
        if node not in TENSOR_PRODUCTS:
            return False
        operands = [self.axes(name) for name in node.inputs[:2]]
        if len(operands) != 2 or None in operands:
            return False
        own = list(_own_axes(node, [axes for axes in operands if axes is not None]))
        shared_positions = any(self._holds_positions(axis) for axes in operands if axes for axis in axes)
        mixed = (all(self._holds_positions(axis) for axis in same) for same in own)
        return bool(own) and shared_positions and not any(mixed)

    def _holds_positions(self, axis: Axis) -> bool:
        """Whether an axis can have positions: unknown axes, and axes that no weight has read, can."""
        return any(size > 1 and self._answers.get(kind, kind) not in (CHANNEL, BATCH) for kind, size in axis)

    def _channel_axis(self, axes: Axes) -> int | None:
        """Return the one axis of channels, None where there is none or several."""
        holders = [
            index
            for index, axis in enumerate(axes)
            if any(size > 1 and self._answers.get(kind, kind) == CHANNEL for kind, size in axis)
        ]
        if len(holders) != 1 or self.kind(axes[holders[0]]) != CHANNEL:
            return None
        # Features on the first axis, as in a product of a weight with samples in columns, have the batch behind them.
        behind = any(kind == BATCH for axis in axes[1:] for kind, _ in axis)
        return holders[0] if holders[0] or behind else None


_Rule: TypeAlias = Callable[[_AxisWalk, Node, Sequence[int], int], Axes]
_RULES: Rules[_Rule] = Rules()
_CHANNELS_FIRST = OPERATORS.family(Family.GLOBAL_POOLING, Family.NORMALIZATION)


def _batch_axis(axes: Axes) -> int | None:
    holders = [index for index, axis in enumerate(axes) if any(kind == BATCH for kind, _ in axis)]
    return holders[0] if len(holders) == 1 else None


def _unknown(shape: Sequence[int]) -> Axes:
    return tuple(axis_of(UNKNOWN, size) for size in shape)


def _own_axes(node: Node, operands: Sequence[Axes]) -> Iterator[Sequence[Axis]]:
    """Yield each axis that a product sums over, as both operands have it, or that one operand alone has."""
    if node.is_op("MatMul"):
        left, right = (((),) * (2 - len(axes)) + axes for axes in operands)
        yield from ((left[-2],), (left[-1], right[-2]), (right[-1],))
        return
    terms, _, result = str(node.attributes.get("equation", "")).replace(" ", "").partition("->")
    first, _, second = terms.partition(",")
    found: dict[str, list[Axis]] = {}
    for term, axes in zip((first, second), operands, strict=True):
        for letter, axis in zip(term, axes, strict=False):
            found.setdefault(letter, []).append(axis)
    shared = set(first) & set(second) & set(result)
    yield from (axes for letter, axes in found.items() if letter not in shared)


def _resized(walk: _AxisWalk, axes: Axes, shape: Sequence[int]) -> Axes:
    """Return `axes` for a tensor of the same rank, some of whose axes have other sizes."""
    if len(axes) == len(shape) and all(map(_fits, axes, shape)):
        return axes
    return tuple(
        axis if _size(axis) == size else axis_of(walk.kind(axis), size) for axis, size in zip(axes, shape, strict=False)
    )


def _size(axis: Axis) -> int:
    if len(axis) == 1:
        return axis[0][1]
    product = 1
    for _, size in axis:
        product *= size
    return product


def _inherit(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    """Elementwise operators, aligned from the right; other operators preserve axes of unchanged rank."""
    inputs = walk.activations(node)
    if len(inputs) == 1:
        axes = inputs[0]
        if len(axes) != len(shape):
            return ((),) * (len(shape) - len(axes)) + axes if len(axes) < len(shape) else _unknown(shape)
        return _resized(walk, axes, shape)
    if inputs and all(axes == inputs[0] for axes in inputs) and tuple(map(_size, inputs[0])) == tuple(shape):
        return inputs[0]  # they agree, so there is nothing to settle
    result: list[Axis] = []
    for place, size in enumerate(shape, start=-len(shape)):
        found = [axes[place] for axes in inputs if len(axes) >= -place and _size(axes[place]) == size and axes[place]]
        contents = [walk.kind(axis) for axis in found]
        settled = next((i for i, kind in enumerate(contents) if kind != UNKNOWN and not is_open(kind)), 0)
        for axis in found:
            walk.answer(axis, contents[settled])
        result.append(found[settled] if found else axis_of(UNKNOWN, size))
    return tuple(result)


def _fits(axis: Axis, size: int) -> bool:
    return _size(axis) == size


@_RULES.on("Attention", "ScatterND", "ScatterElements", "GatherElements")
def _same_rank(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    axes = walk.first(node)
    return _resized(walk, axes, shape) if len(axes) == len(shape) else _unknown(shape)


@_RULES.on(*CONVOLUTIONS, "Col2Im")
def _convolution(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    """Channels on axis 1: convolutions and their kin."""
    axes = walk.first(node)
    if len(axes) < 2:
        return _unknown(shape)
    mixed = walk.contracted(axes, 1)
    if mixed == POSITION:  # a Conv1d over tokens
        return (axes[0], axis_of(POSITION, shape[1]), *_resized(walk, axes[2:], shape[2:]))
    for axis in axes[2:]:
        walk.answer(axis, POSITION)
    return (axes[0], axis_of(CHANNEL, shape[1]), *(axis_of(POSITION, size) for size in shape[2:]))


@_RULES.on(*POOLS, *_CHANNELS_FIRST, "Resize", "Upsample", "GridSample", "DepthToSpace", "SpaceToDepth", "PRelu")
def _channels_first(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    """Operators with channels on axis 1 that process each separately: pooling, normalisation, resizing."""
    axes = walk.first(node)
    if len(axes) != len(shape) or len(axes) < 2:
        return _unknown(shape)
    if not walk.has_channels(axes):
        walk.answer(axes[1], CHANNEL)
        if walk.kind(axes[1]) == UNKNOWN:
            axes = (axes[0], axis_of(CHANNEL, shape[1]), *axes[2:])
    return _resized(walk, axes, shape)


@_RULES.on(*LAYER_NORMALIZATIONS)
def _channels_last(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    """Normalisation over the trailing axes."""
    axes = walk.first(node)
    axis = node.attributes.get("axis", -1)
    if axes and axis in (-1, len(axes) - 1) and not walk.has_channels(axes):
        walk.answer(axes[-1], CHANNEL)
    return _same_rank(walk, node, shape, index) if index == 0 else _unknown(shape)


@_RULES.on("MatMul")
def _matrix_product(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    left, right = walk.axes(node.input(0)), walk.axes(node.input(1))
    if right is None and left:
        if len(walk.shape(node.input(1))) == 1:
            return left[:-1]
        batched = len(walk.shape(node.input(1))) > 2  # a weight per head: the inner axis has its channels
        kind = CHANNEL if batched else walk.contracted(left, len(left) - 1)
        return (*_leading(walk, left[:-1], shape[:-1], CHANNEL), axis_of(kind, shape[-1]))
    if left is None and right and len(right) > 1:
        kind = walk.contracted(right, len(right) - 2)
        return (*_leading(walk, right[:-2], shape[:-2], CHANNEL), axis_of(kind, shape[-2]), right[-1])
    if not left or not right or len(left) < 2 or len(right) < 2:
        return _unknown(shape)
    longer = left if len(left) >= len(right) else right
    return (*_leading(walk, longer[:-2], shape[:-2]), left[-2], right[-1])


def _leading(walk: _AxisWalk, axes: Axes, shape: Sequence[int], added: str = UNKNOWN) -> Axes:
    """Return the leading axes of a product: those of the activation, aligned from the right.

    Where it has none, or one of size 1, the other operand has `added` one: a weight adds heads or experts, which are
    channels.
    """
    padded = ((),) * (len(shape) - len(axes)) + axes
    pairs = zip(padded, shape, strict=False)
    return tuple(axis if _size(axis) == size else axis_of(UNKNOWN if axis else added, size) for axis, size in pairs)


@_RULES.on("Gemm")
def _gemm(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    axes = walk.axes(node.input(0))
    if not axes or len(axes) != 2:
        return _unknown(shape)
    summed = 0 if node.attributes.get("transA") else 1
    return (axes[1 - summed], axis_of(walk.contracted(axes, summed), shape[1]))


@_RULES.on("Expand", "Tile")
def _expand(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    """Copies along axes. The first weight that reads a constant copied for each sample decides its meaning."""
    axes = walk.axes(node.input(0))
    return walk.opened(shape, walk.batch_of(shape)) if axes is None else _leading(walk, axes, shape)


@_RULES.on("Transpose")
def _transpose(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    axes = walk.first(node)
    permutation = node.attributes.get("perm")
    order: Sequence[int] = permutation if isinstance(permutation, tuple) else range(len(axes) - 1, -1, -1)
    return tuple(axes[place] for place in order) if len(axes) == len(order) else _unknown(shape)


@_RULES.on("Reshape", "Flatten")
def _reshape(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    return regroup(walk.first(node), shape)


@_RULES.on("Squeeze")
def _squeeze(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    axes = walk.first(node)
    given = walk.integers(node, "axes", 1)
    if given is None:
        return regroup(axes, shape)
    dropped = {place % len(axes) for place in given} if axes else set()
    return tuple(axis for place, axis in enumerate(axes) if place not in dropped)


@_RULES.on("Unsqueeze")
def _unsqueeze(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    given = walk.integers(node, "axes", 1)
    axes = iter(walk.first(node))
    if given is None:
        return regroup(axes, shape)
    added = {place % len(shape) for place in given}
    return tuple(() if place in added else next(axes, ()) for place in range(len(shape)))


@_RULES.on(*REDUCTIONS)
def _reduce(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    axes = walk.first(node)
    if len(axes) == len(shape):
        return _resized(walk, axes, shape)
    given = walk.integers(node, "axes", 1)
    dropped = {place % len(axes) for place in given} if given and axes else set(range(len(axes)))
    return tuple(axis for place, axis in enumerate(axes) if place not in dropped)


@_RULES.on("Concat")
def _concat(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    place = node.attributes["axis"]
    inputs = [axes for axes in walk.activations(node) if len(axes) == len(shape)]
    if not inputs or not isinstance(place, int):
        return _unknown(shape)
    place %= len(shape)
    joined = axis_of(walk.kind(inputs[0][place]), shape[place])
    return tuple(
        joined if at == place else next((axes[at] for axes in inputs if walk.kind(axes[at]) != UNKNOWN), axis)
        for at, axis in enumerate(inputs[0])
    )


@_RULES.on("Gather")
def _gather(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    axes = walk.axes(node.input(0))
    place = node.attributes.get("axis", 0)
    if not axes or not isinstance(place, int):
        return _unknown(shape)
    place %= len(axes)
    kind = walk.kind(axes[place])
    chosen = shape[place : place + len(shape) - len(axes) + 1]
    return (*axes[:place], *(axis_of(kind, size) for size in chosen), *axes[place + 1 :])


@_RULES.on(*RECURRENT)
def _recurrent(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    axes = walk.axes(node.input(0))
    if not axes or len(axes) != 3 or len(shape) < 3:
        return _unknown(shape)
    batch_first = node.attributes.get("layout", 0) == 1
    walk.answer(axes[2], CHANNEL)
    features = axis_of(CHANNEL, shape[-1])
    if len(shape) == 4:
        return (axes[0], axes[1], (), features) if batch_first else (axes[0], (), axes[1], features)
    return (axes[0], (), features) if batch_first else ((), axes[1], features)


@_RULES.on("Einsum")
def _einsum(walk: _AxisWalk, node: Node, shape: Sequence[int], index: int) -> Axes:
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms, _, result = equation.partition("->")
    if not result or "." in equation:
        return _unknown(shape)
    found: dict[str, Axis] = {}
    for term, name in zip(terms.split(","), node.inputs, strict=False):
        axes = walk.axes(name)
        for place, letter in enumerate(term) if axes is not None else ():
            if axes is not None and place < len(axes) and walk.kind(found.get(letter, ())) == UNKNOWN:
                if letter not in result:
                    walk.answer(axes[place], CHANNEL)
                found[letter] = axes[place]
    return tuple(found.get(letter, axis_of(CHANNEL, size)) for letter, size in zip(result, shape, strict=False))
