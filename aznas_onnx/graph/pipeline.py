"""The passes from a file to a canonical graph, in their order, each with what it requires and what it ensures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph.files.deserialize import deserialize, with_filled_weights
from aznas_onnx.graph.files.input_values import Value, with_values
from aznas_onnx.graph.files.inputs import InputPlan, plan_inputs, read_inputs
from aznas_onnx.graph.files.interface import Interface
from aznas_onnx.graph.files.load import Loaded, Source, load
from aznas_onnx.graph.files.precision import to_float32
from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.batch_axis import Reading, find_batch, grown_axes
from aznas_onnx.graph.meaning.channel_axes import ChannelAxes, layout
from aznas_onnx.graph.meaning.constant_roles import role_doubts
from aznas_onnx.graph.meaning.embeddings import replace_lookups
from aznas_onnx.graph.meaning.float_outputs import gaps
from aznas_onnx.graph.meaning.learned_queries import with_queries_for_each_sample
from aznas_onnx.graph.meaning.sequence_lengths import with_lengths
from aznas_onnx.graph.meaning.shared_constants import split_shared_constants
from aznas_onnx.graph.rewrite.folding import fold
from aznas_onnx.graph.rewrite.passes import canonicalise, decompose, restore_normalisation
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.graph.shapes.make_batch_dynamic import USUAL_PROBE
from aznas_onnx.limits import Limits
from aznas_onnx.operators.sets import SHAPE_QUERIES

__all__ = ["FILE_PASSES", "GRAPH_PASSES", "Draft", "Guarantee", "Pass", "ReadOptions", "apply_passes", "start"]

_NO_PLAN = InputPlan(
    primary="", declared_batch=0, sample_shapes={}, batch_axes={}, batch_is_free=True, sampled=frozenset()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """The arguments of :func:`aznas_onnx.graph.prepare`, which explains them."""

    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cut_at: tuple[str, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)
    keep_graph: bool = False
    partial: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A model between two passes.

    - `options`: How to read it.
    - `graph`, `infos`: The graph, and what is known of its tensors; empty before the batch is found.
    - `walks`: Infos at several batch sizes, which the graph is folded by.
    - `plan`, `batch_size`, `fixed_batch`: Shapes of the inputs, the batch size that the model ends at, and why it runs
      at no other.
    - `folder`: Of the file; None for a graph or a ModelProto.
    - `data_files`, `interface`: As in :class:`~aznas_onnx.graph.model.Model`.
    - `is_built`: Whether the graph was built in memory, and holds no batch size.
    - `declared`: Outputs of the declared blocks, which keep their names.
    - `layout`: What the axes of activations hold.
    - `unknown`: Gaps in what is known of the nodes, which only a partial reading accepts.
    - `changes`, `warnings`, `near_misses`: As in :class:`~aznas_onnx.graph.model.Model`, so far.
    """

    options: ReadOptions
    graph: Graph
    infos: TensorInfos = field(default_factory=lambda: TensorInfos({}, 0))
    walks: tuple[TensorInfos, ...] = ()
    plan: InputPlan = _NO_PLAN
    batch_size: int = 0
    fixed_batch: str = ""
    folder: Path | None = None
    data_files: tuple[str, ...] = ()
    interface: Interface = field(default_factory=Interface)
    is_built: bool = False
    declared: tuple[str, ...] = ()
    layout: ChannelAxes = field(default_factory=ChannelAxes)
    unknown: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()

    def after(self, *, changes: Iterable[str] = (), warnings: Iterable[str] = (), **fields: Any) -> Draft:
        """Return the draft with some fields replaced, and more changes and warnings."""
        return replace(self, changes=(*self.changes, *changes), warnings=(*self.warnings, *warnings), **fields)


class Guarantee(Enum):
    """A property of the graph that a pass ensures and every later pass preserves."""

    FLOAT32 = "floats are float32"
    STANDARD_OPERATORS = "a composite operator is one that is marked as unknown"
    COMPLETE_INFOS = "there are infos for every tensor, and for nothing else"
    FOLDED = "every node computes on the input or on the batch size, and something is read of it"
    CANONICAL = "no rewrite applies any more"


@dataclass(frozen=True, slots=True)
class Pass:
    """A step from one draft to the next, with what must hold before it and what holds from it on."""

    name: str
    run: Callable[[Draft], Draft]
    requires: tuple[Guarantee, ...] = ()
    ensures: tuple[Guarantee, ...] = ()


def start(source: Source | Loaded, name: str, options: ReadOptions) -> Draft:
    """Read a file as a typed graph; a graph is taken as it is."""
    if isinstance(source, Graph):
        is_built = not any(node in SHAPE_QUERIES for node in source.nodes)
        declared = declared_blocks(source.metadata)
        return Draft(options=options, graph=source, is_built=is_built, declared=declared)
    loaded = (
        source if isinstance(source, Loaded) else load(source, options.limits, cut_at=options.cut_at, leaves_data=True)
    )
    absent = [value.name for value in loaded.model.graph.input if value.type.HasField("optional_type")]
    graph = deserialize(loaded.model, loaded.folder, name, options.limits, loaded.nodes, loaded.stored)
    return Draft(
        options=options,
        graph=with_filled_weights(graph, options.limits),
        folder=loaded.folder,
        data_files=loaded.data_files,
        interface=loaded.interface,
        declared=declared_blocks(graph.metadata),
        warnings=(*loaded.warnings, *(f"input {name!r} is optional, and is left out" for name in absent)),
    )


def apply_passes(draft: Draft, passes: Iterable[Pass]) -> Draft:
    """Apply passes, one after another."""
    for graph_pass in passes:
        draft = graph_pass.run(draft)
    return draft


def _use_float32(draft: Draft) -> Draft:
    graph, changes = to_float32(draft.graph)
    return draft.after(graph=graph, changes=changes)


def _decompose(draft: Draft) -> Draft:
    graph, changes = decompose(draft.graph, keep_quantisation=draft.options.keep_graph)
    return draft.after(graph=graph, changes=changes)


def _set_values(draft: Draft) -> Draft:
    graph, changes, unknown = with_values(draft.graph, draft.options.values)
    return draft.after(graph=graph, changes=changes, warnings=unknown)


def _replace_lookups(draft: Draft) -> Draft:
    graph, changes = replace_lookups(draft.graph)
    return draft.after(graph=graph, changes=changes)


def _find_batch(draft: Draft) -> Draft:
    """Find the batch axis, and infer shapes at several batch sizes; a built network needs one."""
    options = draft.options
    if draft.is_built:
        plan = plan_inputs(draft.graph, options.input_shapes)
        graph, infos = interpret(draft.graph, USUAL_PROBE, plan.shapes(USUAL_PROBE), options.limits)
        return draft.after(
            graph=graph, infos=infos, walks=(infos,), plan=plan, batch_size=USUAL_PROBE, warnings=plan.warnings
        )
    own = {name for node in draft.graph.nodes for name in node.outputs}

    def read(graph: Graph) -> Reading:
        return find_batch(graph, read_inputs(graph, options.input_shapes), options.limits)

    found = with_queries_for_each_sample(draft.graph, read(draft.graph), read)
    plan = with_lengths(found.plan, found.graph, found.walks[-1])
    unknown = gaps(found.graph, found.walks[-1], plan.primary, own)
    if unknown and not options.partial:
        raise UnsupportedOperatorError(unknown[0])
    one_by_one = () if plan.has_batch else (f"{found.fixed_batch}: one sample is scored at a time",)
    return draft.after(
        graph=found.graph,
        infos=found.walks[0],
        walks=found.walks,
        plan=plan,
        batch_size=plan.declared_batch,
        fixed_batch=found.fixed_batch,
        unknown=unknown,
        changes=found.changes,
        warnings=(*plan.warnings, *one_by_one),
    )


def _fold(draft: Draft) -> Draft:
    graph, infos = fold(draft.graph, *draft.walks, protected=draft.declared)
    _check_computes(graph, draft.plan.primary)
    return draft.after(graph=graph, infos=infos, walks=())


def _check_computes(graph: Graph, primary: str) -> None:
    """Refuse a model without a path of nodes from the samples to an output."""
    reached = {primary}
    for node in graph.nodes:
        if not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
    if not any(name in reached and name in graph.producers for name in graph.outputs):
        raise ModelError(f"no output is computed from input {primary!r}: there is nothing to score")


def _canonicalise(draft: Draft) -> Draft:
    done = canonicalise(draft.graph, draft.infos, protected=draft.declared)
    return draft.after(graph=done.graph, infos=done.infos, changes=done.changes, near_misses=done.near_misses)


def _restore_normalisation(draft: Draft) -> Draft:
    if draft.options.keep_graph:
        return draft
    done = restore_normalisation(draft.graph, draft.infos, protected=draft.declared)
    return draft.after(
        graph=done.graph,
        infos=done.infos,
        changes=done.changes,
        warnings=done.doubts,
        near_misses=(*draft.near_misses, *done.near_misses),
    )


def _split_shared_constants(draft: Draft) -> Draft:
    graph, infos = split_shared_constants(draft.graph, draft.infos)
    return draft.after(graph=graph, infos=infos, warnings=role_doubts(graph))


def _find_layout(draft: Draft) -> Draft:
    return draft.after(layout=layout(draft.graph, draft.infos, draft.plan.batch_axes))


def _take_own_batch(draft: Draft) -> Draft:
    batch, probe, axes = draft.batch_size, draft.infos, draft.layout
    if probe.batch_size == batch:
        return draft
    graph, infos = interpret(draft.graph, batch, draft.plan.shapes(batch), draft.options.limits, probe)
    batch_axes = MappingProxyType({**axes.batch_axes, **grown_axes(probe, infos)})
    return draft.after(graph=graph, infos=infos, layout=replace(axes, batch_axes=batch_axes))


_FLOATS = (Guarantee.FLOAT32, Guarantee.STANDARD_OPERATORS)
_TYPED = (Guarantee.COMPLETE_INFOS,)
_FOLDED = (*_TYPED, Guarantee.FOLDED)
_CANONICAL = (*_FOLDED, Guarantee.CANONICAL)

FILE_PASSES: tuple[Pass, ...] = (
    Pass("use float32", _use_float32, ensures=(Guarantee.FLOAT32,)),
    Pass("decompose", _decompose, ensures=(Guarantee.STANDARD_OPERATORS,)),
    Pass("set values of inputs", _set_values),
)
"""Passes for files only: a built graph has standard operators on float32."""

GRAPH_PASSES: tuple[Pass, ...] = (
    Pass("replace embedding look-ups", _replace_lookups, requires=_FLOATS),
    Pass("find the batch", _find_batch, requires=_FLOATS, ensures=_TYPED),
    Pass("fold constants", _fold, requires=_TYPED, ensures=_FOLDED),
    Pass("canonicalise", _canonicalise, requires=_FOLDED, ensures=_CANONICAL),
    Pass("restore normalisation", _restore_normalisation, requires=_CANONICAL),
    Pass("split shared constants", _split_shared_constants, requires=_FOLDED),
    Pass("find the layout", _find_layout, requires=_CANONICAL),
    Pass("take the file's batch size", _take_own_batch, requires=_TYPED),
)
