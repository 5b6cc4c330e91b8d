"""Rewrite constants that contain the exporter's batch size, so that the model runs at any.

The interpreter walks the graph at the file's own batch size R first, then at another one with these repairs: constants
that still contain R are rewritten to follow the batch. The batch axis is the one axis that grew between the two walks,
on any position.

    file, R = 1         Reshape(x[1,196,768], [1, 196, 12, 64])
    second walk         x is [13,196,768]: the constant target would fail or, with a -1, silently mix samples
    repaired            Reshape(x, [-1, 196, 12, 64])

A tensor without a batch that meets a batched one in an operator that does not broadcast (a class token in Concat, an
initial state of an LSTM) is expanded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.errors import ModelError
from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.batch_repair import Repair
from aznas_onnx.graph.shapes.big_constants import BigConstants
from aznas_onnx.graph.shapes.repeated_rows import Rows
from aznas_onnx.operators import Rules
from aznas_onnx.operators.sets import BROADCASTING, RECURRENT, SHAPE_QUERIES

__all__ = ["USUAL_PROBE", "BatchRepair", "lost_batch", "probe_batch"]

USUAL_PROBE = 13  # the second batch size that a graph is walked at; a size that no window or head count has
_OTHER_PROBES = (17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


def probe_batch(infos: Mapping[str, TensorInfo], baked: int = 1) -> int:
    """Return a batch size for the second walk that divides no size of the first.

    An axis that is a multiple of it then follows the batch. 65 tokens (64 patches and a class token) must not look like
    five batches of 13. Where every candidate divides a size, the usual one is returned. Where the file has a batch size
    `baked` in, a multiple of that, so that tensors of one batch fit in.
    """
    sizes = {size for info in infos.values() for size in info.shape or () if size}
    fits = (probe for probe in (USUAL_PROBE, *_OTHER_PROBES) if all(size % probe for size in sizes))
    return baked * next(fits, USUAL_PROBE)


def lost_batch(
    nodes: Sequence[Node], reference: Mapping[str, TensorInfo], infos: Mapping[str, TensorInfo], outputs: Sequence[str]
) -> str:
    """Return where the batch was lost between two walks; empty where some output still has it.

    A tensor has the batch if its number of elements follows the batch size.
    """

    def follows(name: str) -> bool:
        return name in reference and name in infos and reference[name].elements != infos[name].elements

    if any(follows(name) for name in outputs):
        return ""
    for node in nodes:
        if node not in SHAPE_QUERIES and any(map(follows, node.inputs)) and not any(map(follows, node.outputs)):
            return f"node {node.name!r} ({node.operator}) gives the same result size for every batch size"
    return "no output depends on the batch size"


_RULES: Rules[Callable[[Any, Node], Repair | None]] = Rules()


class BatchRepair:
    """Rewrites nodes during the second walk.

    - `reference`: Infos of the first walk, at batch size `reference_batch`.
    - `infos`: Infos of the walk in progress, at batch size `batch`; read, never written.
    - `constants`: Of that walk; read, never written.
    - `copies`: Is given the tensors that repeat a row for each sample of the file's own batch, and along which axis.
    """

    def __init__(
        self,
        reference: Mapping[str, TensorInfo],
        reference_batch: int,
        infos: Mapping[str, TensorInfo],
        batch: int,
        constants: Mapping[str, Constant],
        copies: dict[str, int],
    ) -> None:
        self._reference = reference
        self._infos = infos
        self._lookup = BigConstants(infos, constants)
        self._from = reference_batch
        self._to = batch
        self._inner: dict[str, int] = {}
        self._rows = Rows(reference, constants, reference_batch, copies)

    def __call__(self, node: Node) -> Repair | None:
        """Return the replacement of `node`, or None where it can stay."""
        if not node.is_standard:
            return None
        rule = _RULES.get(node.op_type)
        repair = None if rule is None else rule(self, node)
        if repair is None:
            self._lookup.add(node)
        self._rows.add(node)
        self._pass_on(node)
        return repair

    def _pass_on(self, node: Node) -> None:
        """Note what stands before the batch in an axis of an output that is an operand's."""
        if node.op_type in ("Reshape", "Flatten"):
            return
        for name in node.inputs:
            axis = self.batch_axis(name) if name in self._inner else None
            size = None if axis is None else (self._reference[name].shape or ())[axis]
            for output in node.outputs:
                if size in (self._shapes(output)[0] or ()):
                    self._inner[output] = self._inner[name]

    def batch_axis(self, name: str) -> int | None:
        """Return the axis of a tensor that grew with the batch, or None where no axis or several did."""
        before, after = self._shapes(name)
        if before is None or after is None or len(before) != len(after):
            return None
        grown = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        if len(grown) != 1 or before[grown[0]] * self._to != after[grown[0]] * self._from:
            return None
        return grown[0]

    def _moved_axis(self, name: str) -> tuple[int, int] | None:
        """Return the axis of a tensor that follows the batch, or that has one row instead of one per sample.

        The second number replaces the batch size in it.
        """
        axis = self.batch_axis(name)
        if axis is not None:
            return axis, self._to
        before, after = self._shapes(name)
        if before is None or after is None or len(before) != len(after):
            return None
        moved = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        return (moved[0], 1) if len(moved) == 1 and before[moved[0]] == after[moved[0]] * self._from else None

    def _shapes(self, name: str) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        before, after = self._reference.get(name), self._infos.get(name)
        return (None if before is None else before.shape), (None if after is None else after.shape)

    def _fixed_vector(self, name: str) -> list[int] | None:
        """Return the value of a shape operand if it is known and does not follow the batch."""
        if not name or name not in self._reference or name not in self._infos:
            return None
        before, after = self._reference[name].value, self._infos[name].value
        if before is None or after is None or not np.array_equal(before, after):
            return None
        return [int(size) for size in after.reshape(-1)]

    @_RULES.on("Reshape")
    def _reshape(self, node: Node) -> Repair | None:
        target = self._fixed_vector(node.input(1))
        moved = self._moved_axis(node.inputs[0])
        before = self._reference.get(node.inputs[0])
        result = self._reference.get(node.outputs[0])
        if target is None or moved is None or before is None or result is None:
            return None
        if before.shape is None or result.shape is None or 0 in result.shape:
            return None
        axis, size_now = moved
        outer = _product(before.shape[:axis]) * self._inner.get(node.inputs[0], 1)
        right = _product(before.shape) // (outer * self._from)
        place, inner = _batch_place(outer, result.shape, self._from, right)
        if place is None:
            return None
        if inner > 1:
            self._inner[node.outputs[0]] = inner
        wanted = [size * size_now // self._from if i == place else size for i, size in enumerate(result.shape)]
        if self._natural_reshape(node, target) == wanted:
            return None
        repair = Repair(node)
        shape = repair.vector("target", [-1 if i == place else size for i, size in enumerate(result.shape)])
        return repair.update(inputs=(node.inputs[0], shape), attributes=MappingProxyType({}))

    @_RULES.on("Gather")
    def _gather(self, node: Node) -> Repair | None:
        """A gather of everything in order, which is how as_strided is exported, is a reshape."""
        indices = self._infos[node.inputs[1]].value
        before = self._reference[node.inputs[0]].shape
        if before is None or len(before) != 1 or self.batch_axis(node.inputs[0]) != 0 or indices is None:
            return None
        if not np.array_equal(indices.reshape(-1), np.arange(before[0])):
            return None
        place, _ = _batch_place(1, indices.shape, self._from, 1)
        if place is None:
            return None
        repair = Repair(node)
        target = repair.vector("target", [-1 if i == place else size for i, size in enumerate(indices.shape)])
        repair.add("Reshape", [node.inputs[0], target], node.outputs[0])
        return repair

    @_RULES.on("ScatterND")
    def _scatter_nd(self, node: Node) -> Repair | None:
        """An assignment to everything is its right side; one to fixed samples cannot follow the batch.

        PyTorch exports ``attention[:, :, 1:, 1:] += bias`` as a scatter to constant places, sample included.
        """
        axis = self.batch_axis(node.inputs[0])
        indices = self._infos[node.inputs[1]]
        if axis is None or indices.shape is None or self.batch_axis(node.inputs[1]) is not None:
            return None
        if axis >= indices.shape[-1]:
            return None
        before = self._reference[node.inputs[0]].shape
        updates, _ = self._shapes(node.inputs[2])
        is_whole = updates == before and node.attributes.get("reduction", "none") == "none"
        if not is_whole or before is None or not self._visits_all_in_order(node.inputs[1], before):
            raise ModelError(f"node {node.name!r} ({node.operator}) writes to samples that are named one by one")
        repair = Repair(node)
        repair.add("Identity", [node.inputs[2]], node.outputs[0])
        return repair

    def _visits_all_in_order(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether indices name every element of a tensor of some shape once, in row-major order."""
        places = self._lookup.columns(name)
        if places is None or len(places) != len(shape) or any(column.shape != shape for column in places):
            return False
        ranges = (np.arange(size).reshape(-1, *[1] * (len(shape) - axis - 1)) for axis, size in enumerate(shape))
        return all(
            np.array_equal(column, np.broadcast_to(wanted, shape))
            for column, wanted in zip(places, ranges, strict=True)
        )

    def _natural_reshape(self, node: Node, target: list[int]) -> list[int] | None:
        shape = self._infos[node.inputs[0]].shape
        assert shape is not None  # the batch axis was found in it
        if not node.attributes.get("allowzero", 0):
            if any(size == 0 and i >= len(shape) for i, size in enumerate(target)):
                return None
            target = [shape[i] if size == 0 else size for i, size in enumerate(target)]
        elements = _product(shape)
        known = _product([size for size in target if size != -1])
        if -1 in target:
            if known == 0 or elements % known:
                return None
            return [elements // known if size == -1 else size for size in target]
        return target if known == elements else None

    @_RULES.on("Slice")
    def _slice(self, node: Node) -> Repair | None:
        """A slice of the whole batch axis stays whole."""
        axis = self.batch_axis(node.inputs[0])
        starts, ends = self._fixed_vector(node.input(1)), self._fixed_vector(node.input(2))
        if axis is None or starts is None or ends is None:
            return None
        axes = self._fixed_vector(node.input(3)) if node.input(3) else list(range(len(starts)))
        shape = self._reference[node.inputs[0]].shape
        if axes is None or shape is None:
            return None
        changed = [
            2**62 if a % len(shape) == axis and s == 0 and e >= shape[axis] else e
            for s, e, a in zip(starts, ends, axes, strict=True)
        ]
        if changed == ends:
            return None
        repair = Repair(node)
        new_ends = repair.vector("ends", changed)
        return repair.update(inputs=(*node.inputs[:2], new_ends, *node.inputs[3:]))

    @_RULES.on("Squeeze")
    def _squeeze(self, node: Node) -> Repair | None:
        """A squeeze of all axes of size one leaves out the batch axis."""
        axis = self.batch_axis(node.inputs[0])
        if axis is None or "axes" in node.attributes or node.input(1):
            return None
        shape = self._infos[node.inputs[0]].shape
        assert shape is not None  # the batch axis was found in it
        axes = [i for i, size in enumerate(shape) if size == 1]
        repair = Repair(node)
        if node.version < 13:
            return repair.update(attributes=MappingProxyType({"axes": tuple(axes)}))
        return repair.update(inputs=(node.inputs[0], repair.vector("axes", axes)))

    @_RULES.on("Resize")
    def _resize(self, node: Node) -> Repair | None:
        """Sizes that name the batch follow it."""
        axis = self.batch_axis(node.inputs[0])
        sizes = self._fixed_vector(node.input(3))
        if axis is None or sizes is None or "axes" in node.attributes or sizes[axis] != self._from:
            return None
        repair = Repair(node)
        target = repair.shape_with_batch("sizes", sizes, axis, node.inputs[0], axis)
        return repair.update(inputs=(*node.inputs[:3], target))

    @_RULES.on("Expand")
    def _expand(self, node: Node) -> Repair | None:
        before, after = self._shapes(node.inputs[0])
        if before is not None and before == after:
            return self._expand_fixed(node, before)
        return self._expand_batched(node)

    def _expand_batched(self, node: Node) -> Repair | None:
        """An Expand whose target repeats the size of the batch axis (64 windows) does not change that axis."""
        axis = self.batch_axis(node.inputs[0])
        target = self._fixed_vector(node.input(1))
        shape = self._reference[node.inputs[0]].shape
        if axis is None or target is None or shape is None:
            return None
        aligned = axis + len(target) - len(shape)
        if aligned < 0 or target[aligned] == 1 or target[aligned] != shape[axis]:
            return None
        repair = Repair(node)
        changed = repair.vector("target", [1 if i == aligned else size for i, size in enumerate(target)])
        return repair.update(inputs=(node.inputs[0], changed))

    def _expand_fixed(self, node: Node, shape: tuple[int, ...]) -> Repair | None:
        """An Expand of one batch (states of 32 rows) to a target that follows the batch repeats it."""
        target = self._infos[node.inputs[1]].value
        if target is None or target.size != len(shape):
            return None
        pairs = list(zip(shape, target.tolist(), strict=True))
        if all(size == 1 or wanted in (1, size) for size, wanted in pairs) or any(
            wanted % size for size, wanted in pairs
        ):
            return None
        repair = Repair(node)
        repair.tile("repeats", node.inputs[0], shape, node.inputs[1], node.outputs[0])
        return repair

    @_RULES.on("Concat")
    def _concat(self, node: Node) -> Repair | None:
        along: Any = node.attributes.get("axis", 1)
        batched = next(((n, a) for n in node.inputs if (a := self.batch_axis(n)) is not None), None)
        if batched is None:
            return None
        like, axis = batched
        rank = len(self._infos[like].shape or ())
        if along % rank == axis:
            return None
        return self._expand_inputs(node, dict.fromkeys(range(len(node.inputs)), axis), like, axis)

    @_RULES.on(*RECURRENT)
    def _states(self, node: Node) -> Repair | None:
        """Initial states of a recurrent layer have the batch on axis 1 (0 in batch-major layout)."""
        axis = 0 if node.attributes.get("layout", 0) else 1
        return self._like_first(node, {5: axis, 6: axis}, axis)

    @_RULES.on("GridSample")
    def _grid(self, node: Node) -> Repair | None:
        return self._like_first(node, {1: 0}, 0)

    def _like_first(self, node: Node, places: Mapping[int, int], axis: int) -> Repair | None:
        if self.batch_axis(node.inputs[0]) != axis:
            return None
        return self._expand_inputs(node, places, node.inputs[0], axis)

    @_RULES.on(*BROADCASTING)
    def _broadcast(self, node: Node) -> Repair | None:
        """An operand without the batch that has a row for each sample of the file's own meets one that follows it."""
        repair = Repair(node)
        inputs = list(node.inputs)
        followers = [(name, axis) for name in node.inputs if name and (axis := self.batch_axis(name)) is not None]
        for position, name in enumerate(node.inputs):
            before, after = self._shapes(name) if name else (None, None)
            for like, axis in followers if before is not None and before == after else ():
                whole = self._reference[like].shape or ()
                place = axis - len(whole) + len(before or ())
                if before is None or place < 0 or before[place] == 1 or before[place] != whole[axis]:
                    continue
                label = f"input_{position}"
                if whole[axis] == self._from:
                    if self._rows.are_copies(name, place):
                        first = repair.vector(f"{label}/first", [0])
                        inputs[position] = repair.add("Gather", [name, first], f"{node.name}/{label}", axis=place)
                elif self._inner.get(like, 1) == 1:
                    # one for each window, and the windows of a sample stand together
                    target = repair.shape_with_batch(label, before, place, like, axis)
                    inputs[position] = repair.tile(label, name, before, target, f"{node.name}/{label}/expanded")
                break
        if not repair.nodes:
            return None
        return repair.update(inputs=tuple(inputs))

    def _expand_inputs(self, node: Node, places: Mapping[int, int], like: str, like_axis: int) -> Repair | None:
        """Expand those inputs (by position: their batch axis) that have no batch to the batch of `like`."""
        repair = Repair(node)
        inputs = list(node.inputs)
        whole = (self._reference[like].shape or (1,))[like_axis]
        for position, axis in places.items():
            name = node.input(position)
            _, after = self._shapes(name) if name else (None, None)
            if (
                after is None
                or axis >= len(after)
                or self.batch_axis(name) is not None
                or after[axis] not in (1, whole)
            ):
                continue
            if after[axis] == self._from > 1:
                self._rows.are_copies(name, axis)
            label = f"input_{position}"
            target = repair.shape_with_batch(label, after, axis, like, like_axis)
            inputs[position] = repair.tile(
                label, name, after, target, f"{node.name}/{label}/expanded", has_several_rows=after[axis] > 1
            )
        if not repair.nodes:
            return None
        return repair.update(inputs=tuple(inputs))


def _product(sizes: Sequence[int]) -> int:
    return int(np.prod(sizes, dtype=np.int64))


def _batch_place(outer: int, after: Sequence[int], batch: int, right: int) -> tuple[int | None, int]:
    """Return the axis of a reshape's result with the batch, and the number of elements of that axis before it.

    In row-major order exactly `outer` elements precede the batch and `right` follow it, in the operand and in the
    result. With a batch of one that is ambiguous: the first choice is an axis that is the batch alone, then rows of
    features with the batch at the right of a row's axis (token-major attention), then an axis that begins with it::

        x[50, N, 12, 64] -> [50 N, 768]     not [50, 768 N]
    """
    fits = []
    for place, size in enumerate(after):
        before = _product(after[:place])
        if outer % before == 0 and size % (outer // before * batch) == 0:
            fits.append((place, outer // before))
    exact = [(place, inner) for place, inner in fits if inner == 1 and after[place] == batch]
    rows = [
        (place, inner) for place, inner in fits if len(after) == 2 and place == 0 and after[1] == right and inner > 1
    ]
    whole = [(place, inner) for place, inner in fits if inner == 1]
    return next(iter(exact or rows or whole or fits), (None, 1))
