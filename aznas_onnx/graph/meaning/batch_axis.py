"""Find the batch axis of a network's inputs by walks over the graph.

Each axis of the samples that can be the batch is tried, the likeliest first: the graph is walked at two sizes of it,
and repaired where it contains the exporter's size. It is the batch if the second walk succeeds, an output follows it,
and no node mixes values along it (:mod:`aznas_onnx.graph.meaning.sample_mixing`)::

    nn.LSTM, (time, batch, features)      25 x 1 x 16    axis 0: the LSTM runs along it; axis 1: separate
    a graph network, (nodes, features)    20 x 16        axis 0: summed over with the adjacency; axis 1: with a weight

The first axis is the batch unless something shows the opposite. Where every axis is mixed there is no batch, and one
sample is scored at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from aznas_onnx.errors import AznasError, ModelError
from aznas_onnx.graph.files.inputs import InputPlan, InputTable
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.meaning.float_outputs import float_outputs
from aznas_onnx.graph.meaning.sample_mixing import Mixing, find_mixing, named_rows
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.graph.shapes.make_batch_dynamic import lost_batch, probe_batch
from aznas_onnx.graph.shapes.repeated_rows import with_one_row
from aznas_onnx.limits import Limits

__all__ = ["Reading", "find_batch", "grown_axes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A graph with its batch found.

    - `graph`: With control flow resolved, for any batch size unless `fixed_batch` has a reason.
    - `walks`: Infos at two batch sizes, those of the second walk first (no other axis has the size of the batch there);
      at the file's own alone where the batch is fixed.
    - `plan`: Shapes of the inputs, and their batch axes.
    - `fixed_batch`: The reason why the graph runs at its own batch size only; empty where it runs at any.
    - `mixing`: The evidence against the chosen batch axis.
    - `is_walked`: Whether the second walk was complete.
    - `changes`: The removed outputs, in words for the user.
    """

    graph: Graph
    walks: tuple[TensorInfos, ...]
    plan: InputPlan
    fixed_batch: str = ""
    mixing: Mixing | None = None
    is_walked: bool = True
    changes: tuple[str, ...] = ()

    @property
    def is_certainly_wrong(self) -> bool:
        """Whether the chosen axis cannot be the batch."""
        return self.mixing is not None and self.mixing.is_certain


def find_batch(graph: Graph, inputs: InputTable, limits: Limits) -> Reading:
    """Find the batch axis of every input, and free the graph from the batch size that is baked in.

    - `graph`: Lowered.
    - `inputs`: Its inputs as they are declared and given.
    - `limits`: Limits on walks.

    Raises ModelError if the graph does not fit its inputs, or a size is unknown.
    Raises SettingsError if a given shape contradicts the file.
    """
    found = _search(graph, inputs, limits)
    inputs.plan(found.plan.batch_axes)  # raises if the plan does not fit the file, and for unknown sizes
    return found


def _search(graph: Graph, inputs: InputTable, limits: Limits) -> Reading:
    likeliest, *others = inputs.candidates
    first, refusal, against = None, None, ""
    paired = inputs.pairs(likeliest)
    if paired:
        against = f"input {paired!r} has two axes of the same symbol as axis {likeliest}"
    else:
        try:
            first = _best(graph, inputs, likeliest, limits)
        except AznasError as error:
            refusal = error
    if first is not None and _is_accepted(inputs, likeliest, first):
        return first
    for axis in others:
        reading = None if inputs.pairs(axis) else _tried(graph, inputs, axis, limits)
        if reading is not None and not reading.fixed_batch and reading.mixing is None:
            return reading
    if refusal is not None:
        inputs.plan(next(inputs.ways(likeliest)))  # raises if a size is unknown
        raise refusal
    if first is not None and first.mixing is not None and first.is_certainly_wrong and inputs.batch_size(likeliest) > 1:
        against = first.mixing.text
    if against:
        return _without_batch(graph, inputs, against, limits)
    assert first is not None  # or it was refused, or something speaks against it
    return first


def _tried(graph: Graph, inputs: InputTable, axis: int, limits: Limits) -> Reading | None:
    """Return the reading with the batch on an axis; None where the graph cannot be read so."""
    with suppress(AznasError):
        return _best(graph, inputs, axis, limits)
    return None


def _is_accepted(inputs: InputTable, axis: int, first: Reading) -> bool:
    """Whether the likeliest axis is the batch without testing the others."""
    if inputs.is_settled:
        return True
    if first.is_certainly_wrong:
        return False
    is_open = first.plan.batch_is_free and first.is_walked
    return not first.fixed_batch or is_open or inputs.batch_size(axis) == 1


def _best(graph: Graph, inputs: InputTable, axis: int, limits: Limits) -> Reading:
    """Return the reading with the batch on an axis of the samples, shared by the other inputs in the way that fits."""
    best, refusal = None, None
    for way in inputs.ways(axis):
        try:
            reading = _read(graph, inputs.plan(way, guess=True), limits)
        except AznasError as error:
            refusal = refusal or error
            continue
        if not reading.fixed_batch and not reading.is_certainly_wrong:
            return reading
        best = best or reading
    if best is None:
        assert refusal is not None  # there is a way, and each is read or refused
        raise refusal
    return best


def _read(graph: Graph, plan: InputPlan, limits: Limits) -> Reading:
    """Walk a graph at two batch sizes.

    A file with an open batch runs at any, so it is repaired only where it does not: then the exporter left a batch of
    one in constants.
    """
    try:
        resolved, infos, changes = _first_walk(graph, plan, limits)
    except ModelError as error:
        if not plan.batch_is_free:
            raise
        plan = plan.written_for(1)
        try:
            resolved, infos, changes = _first_walk(graph, plan, limits)
        except ModelError:
            raise error from None
    found = _walk_again(resolved, infos, plan, limits, repair=not plan.batch_is_free)
    if found.fixed_batch and plan.batch_is_free:
        found = _walk_again(resolved, infos, plan, limits, repair=True)
    return replace(found, changes=changes)


def _first_walk(graph: Graph, plan: InputPlan, limits: Limits) -> tuple[Graph, TensorInfos, tuple[str, ...]]:
    """Walk at the file's own batch size, and end the graph at outputs that are floats."""
    own = plan.declared_batch
    resolved, infos = interpret(graph, own, plan.shapes(own), limits, around=True)
    sequences = tuple(f"left out output {name!r}, a sequence" for name in graph.outputs if name not in resolved.outputs)
    shorter, ended = float_outputs(resolved, infos)
    return shorter, infos, (*sequences, *ended)


def _walk_again(graph: Graph, infos: TensorInfos, plan: InputPlan, limits: Limits, *, repair: bool) -> Reading:
    own = infos.batch_size
    size = probe_batch(infos, 1 if plan.batch_is_free else own)
    reached: dict[str, TensorInfo] = {}
    copies: dict[str, int] = {}
    try:
        changed, probe = interpret(
            graph, size, plan.shapes(size), limits, infos, repair=repair, reached=reached, copies=copies
        )
        if copies:
            changed, probe = _with_one_row(graph, infos, copies, plan, limits) or (changed, probe)
        if changed is not graph:
            graph, infos = interpret(changed, own, plan.shapes(own), limits)
        lost = lost_batch(graph.nodes, infos, probe, graph.outputs)
        mixing = None if probe.separates_samples else find_mixing(graph, infos, probe, (own, size))
        walks = (infos,) if lost else (probe, infos)
        return Reading(graph=graph, walks=walks, plan=plan, fixed_batch=lost, mixing=mixing)
    except ModelError as error:
        mixing = find_mixing(graph, infos, reached, (own, size))
        return Reading(graph=graph, walks=(infos,), plan=plan, fixed_batch=str(error), mixing=mixing, is_walked=False)


def _with_one_row(
    graph: Graph, infos: TensorInfos, copies: Mapping[str, int], plan: InputPlan, limits: Limits
) -> tuple[Graph, TensorInfos] | None:
    """Return a graph that makes one row of copies for each sample, and its second walk; None where it would differ."""
    own = infos.batch_size
    size = probe_batch(infos, own)
    with suppress(ModelError):
        single = with_one_row(graph, infos, copies)
        changed, probe = interpret(single, size, plan.shapes(size), limits, infos, repair=True)
        _, again = interpret(changed, own, plan.shapes(own), limits)
        if all(again[name].shape == infos[name].shape for name in graph.outputs):
            return changed, probe
    return None


def _without_batch(graph: Graph, inputs: InputTable, against: str, limits: Limits) -> Reading:
    plan = inputs.plan({}, guess=True)
    resolved, infos, changes = _first_walk(graph, plan, limits)
    reason = f"no axis of input {plan.primary!r} is a batch ({against})"
    plan = plan.with_indices(named_rows(resolved, infos))
    return Reading(graph=resolved, walks=(infos,), plan=plan, fixed_batch=reason, changes=changes)


def grown_axes(probe: TensorInfos, infos: TensorInfos) -> Mapping[str, int]:
    """Return the axis of each tensor that follows the batch between two walks, where there is exactly one.

    It has the batch alone, or joined with positions.
    """
    if infos.separates_samples:
        return MappingProxyType({name: 0 for name, info in infos.items() if info.shape != probe[name].shape})
    return MappingProxyType(dict(_grown_axes(probe, infos)))


def _grown_axes(probe: TensorInfos, infos: TensorInfos) -> Iterator[tuple[str, int]]:
    for name, info in infos.items():
        before = probe[name].shape if name in probe else None
        if before is None or info.shape is None or len(before) != len(info.shape):
            continue
        pairs = zip(before, info.shape, strict=True)
        grown = [axis for axis, pair in enumerate(pairs) if pair[0] != pair[1]]
        if len(grown) == 1 and before[grown[0]] * infos.batch_size == info.shape[grown[0]] * probe.batch_size:
            yield name, grown[0]
