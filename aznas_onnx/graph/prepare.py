"""The pipeline from a path to a :class:`~aznas_onnx.graph.model.Model`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from aznas_onnx.errors import AznasError, ModelError, UnsupportedOperatorError
from aznas_onnx.escaping import printable
from aznas_onnx.graph.files.deserialize import lower, with_filled_weights
from aznas_onnx.graph.files.input_values import Value, with_values
from aznas_onnx.graph.files.inputs import InputPlan, plan_inputs, read_inputs
from aznas_onnx.graph.files.load import Source, load, source_name
from aznas_onnx.graph.files.precision import to_float32
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.batch_axis import Reading, find_batch, grown_axes
from aznas_onnx.graph.meaning.channel_axes import layout
from aznas_onnx.graph.meaning.constant_roles import role_doubts
from aznas_onnx.graph.meaning.embeddings import replace_lookups
from aznas_onnx.graph.meaning.float_outputs import gaps
from aznas_onnx.graph.meaning.learned_queries import with_queries_for_each_sample
from aznas_onnx.graph.meaning.sequence_lengths import with_lengths
from aznas_onnx.graph.meaning.shared_constants import split_shared_constants
from aznas_onnx.graph.model import Model
from aznas_onnx.graph.rewrite.folding import fold
from aznas_onnx.graph.rewrite.passes import canonicalise, decompose, restore_normalisation
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.graph.shapes.make_batch_dynamic import USUAL_PROBE
from aznas_onnx.limits import Limits, reading

__all__ = ["BLOCKS_KEY", "declared_blocks", "error_context", "prepare", "specialise"]

BLOCKS_KEY = "aznas.blocks"  # metadata key: JSON list of the tensors that are the primary blocks' outputs, in order

_READ_SHAPES = frozenset("Shape Size".split())
_MESSAGE_LENGTH = 1000
_MOST_BLOCKS = 4096


def prepare(
    source: Source,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    cut_at: Sequence[str] = (),
    values: Mapping[str, Value] | None = None,
    keep_graph: bool = False,
    partial: bool = False,
    limits: Limits | None = None,
) -> Model:
    """Read, check and canonicalise a model.

    Parameters
    ----------
    source
        Path of an ONNX file, a ModelProto, or the typed graph of a network that
        :class:`~aznas_onnx.graph.building.builder.GraphBuilder` built, which is not checked again.
    input_shapes
        Shapes of inputs with open dimensions; the name ``""`` is the input with the samples.
    cut_at
        Tensors or nodes that end the network, instead of the file's outputs.
    values
        Values of inputs that steer the network (a length, a sample rate, a flag), by name: one number for all elements,
        or one for each along the last axis.
    keep_graph
        Keep folded normalisation folded, and fake quantisation in place.
    partial
        Accept unknown nodes with a warning instead of an error: the known part of the model can be counted, and the
        model cannot run.
    limits
        Limits on the model.

    Returns
    -------
    Model
        With infos at the file's own batch size, or at another where it is open.

    Raises
    ------
    ModelError
        If the model cannot be read, is invalid, or does not fit its shapes.
    UnsupportedOperatorError
        If an operator is unknown, or control flow or a shape depends on data.
    SettingsError
        If an argument has an unknown name, or does not fit the model.
    """
    name = source_name(source)
    request = _Request(
        input_shapes={key: tuple(shape) for key, shape in (input_shapes or {}).items()},
        cut_at=tuple(cut_at),
        values=values or {},
        keep_graph=keep_graph,
        partial=partial,
        limits=limits or Limits(),
    )
    with error_context(name), reading(request.limits):
        return _prepare(source, name, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The arguments of :func:`prepare`."""

    input_shapes: Mapping[str, tuple[int, ...]]
    cut_at: tuple[str, ...]
    values: Mapping[str, Value]
    keep_graph: bool
    partial: bool
    limits: Limits


@contextmanager
def error_context(name: str) -> Iterator[None]:
    """Add the model's name to every error, in one printable sentence."""
    try:
        yield
    except AznasError as error:
        text = str(error)
        known = (name, printable(name), f"{Path(name).stem}: ")
        raise type(error)(_printable(text if text.startswith(known) else f"{name}: {text}")) from error
    except (MemoryError, RecursionError) as error:
        raise ModelError(_printable(f"{name} asks for more memory or deeper nesting than there is")) from error


def _printable(text: str) -> str:
    shown = printable(text)
    half = _MESSAGE_LENGTH // 2
    return shown if len(shown) <= _MESSAGE_LENGTH else f"{shown[: half - 3]}...{shown[-half:]}"


def _prepare(source: Source, name: str, request: _Request) -> Model:
    limits = request.limits
    typed = _typed(source, name, request)
    graph = typed.graph
    declared = declared_blocks(graph.metadata)
    ended: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    if isinstance(source, Graph) and not any(node.op_type in _READ_SHAPES for node in graph.nodes):
        # A built network has no fixed batch size: one walk is enough.
        plan = plan_inputs(graph, request.input_shapes)
        graph, infos = interpret(graph, USUAL_PROBE, plan.shapes(USUAL_PROBE), limits)
        graph, infos = fold(graph, infos, protected=declared)
        batch, fixed_batch = USUAL_PROBE, ""
    else:
        own = {name for node in graph.nodes for name in node.outputs}

        def read(graph: Graph) -> Reading:
            return find_batch(graph, read_inputs(graph, request.input_shapes), limits)

        found = with_queries_for_each_sample(graph, read(graph), read)
        plan = with_lengths(found.plan, found.graph, found.walks[-1])
        ended, fixed_batch = found.changes, found.fixed_batch
        batch = plan.declared_batch
        unknown = gaps(found.graph, found.walks[-1], plan.primary, own)
        if unknown and not request.partial:
            raise UnsupportedOperatorError(unknown[0])
        graph, infos = fold(found.graph, *found.walks, protected=declared)
    _check_computes(graph, plan.primary)
    graph, infos, fused = canonicalise(graph, infos, protected=declared)
    restored: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    if not request.keep_graph:
        graph, infos, restored, doubts = restore_normalisation(graph, infos, protected=declared)
    graph, infos = split_shared_constants(graph, infos)
    doubts = (*doubts, *role_doubts(graph, infos))
    axes = layout(graph, infos, plan.batch_axes)
    if infos.batch_size != batch:
        probe = infos
        graph, infos = interpret(graph, batch, plan.shapes(batch), limits, probe)
        axes = replace(axes, batch_axes=MappingProxyType({**axes.batch_axes, **grown_axes(probe, infos)}))
    one_by_one = () if plan.has_batch else (f"{fixed_batch}: one sample is scored at a time",)
    return Model(
        name=Path(name).stem if typed.folder is not None else name,
        path=Path(name) if typed.folder is not None else None,
        graph=graph,
        infos=infos,
        inputs=plan,
        layout=axes,
        changes=(*typed.changes, *ended, *fused, *restored),
        warnings=(
            *typed.warnings,
            *plan.warnings,
            *one_by_one,
            *doubts,
            *(f"counts are incomplete: {gap}" for gap in unknown),
        ),
        fixed_batch=fixed_batch,
    )


class _Typed(NamedTuple):
    """The typed graph in float32 and without composite operators, the file's folder, what was changed, and doubts."""

    graph: Graph
    folder: Path | None = None
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _typed(source: Source, name: str, request: _Request) -> _Typed:
    if isinstance(source, Graph):
        return _Typed(source)
    limits = request.limits
    loaded = load(source, limits, cut_at=request.cut_at)
    absent = [value.name for value in loaded.model.graph.input if value.type.HasField("optional_type")]
    doubts = tuple(f"input {name!r} is optional, and is left out" for name in absent)
    lowered = lower(loaded.model, loaded.folder, name, limits, loaded.nodes)
    graph, changes = to_float32(with_filled_weights(lowered, limits))
    graph, decomposed = decompose(graph, keep_quantisation=request.keep_graph)
    graph, given, unknown = with_values(graph, request.values)
    graph, cut = replace_lookups(graph)
    return _Typed(graph, loaded.folder, (*changes, *decomposed, *given, *cut), (*loaded.warnings, *unknown, *doubts))


def _check_computes(graph: Graph, primary: str) -> None:
    """Refuse a model without a path of nodes from the samples to an output."""
    reached = {primary}
    for node in graph.nodes:
        if not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
    if not any(name in reached and name in graph.producers for name in graph.outputs):
        raise ModelError(f"no output is computed from input {primary!r}: there is nothing to score")


def specialise(model: Model, batch_size: int, limits: Limits | None = None) -> Model:
    """Return a model at a batch size: its tensor infos there, and all shape arithmetic folded.

    Raises ModelError if the file has a fixed batch size that cannot be changed.
    """
    plan: InputPlan = model.inputs
    if model.fixed_batch and batch_size != plan.declared_batch:
        if not plan.has_batch:
            raise ModelError(f"{model.name}: {model.fixed_batch}; score one sample at a time, with --batch-size 1")
        raise ModelError(
            f"{model.name}: the model works at batch size {plan.declared_batch} only ({model.fixed_batch}); "
            f"score it with --batch-size {plan.declared_batch}"
        )
    limits = limits or Limits()
    with error_context(model.name), reading(limits):
        graph, infos = interpret(model.graph, batch_size, plan.shapes(batch_size), limits, model.infos)
        if not _is_folded(graph, infos):
            graph, infos = fold(graph, infos, protected=declared_blocks(graph.metadata), keeps_layers=True)
    return replace(model, graph=graph, infos=infos)


def _is_folded(graph: Graph, infos: TensorInfos) -> bool:
    """Whether every node computes on activations and has no known output."""
    fixed = {"", *graph.constants}
    known = {name for name, info in infos.items() if info.value is not None}
    return not any(fixed.issuperset(node.inputs) or not known.isdisjoint(node.outputs) for node in graph.nodes)


def declared_blocks(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the block outputs that a model's metadata declares, in order; empty where it declares none.

    Raises ModelError if the entry is not a JSON list of strings, or of too many.
    """
    text = metadata.get(BLOCKS_KEY)
    if text is None:
        return ()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, a number of a million digits, nested too deep
        raise ModelError(f"metadata {BLOCKS_KEY!r} is not JSON; a list of tensor names was expected") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"metadata {BLOCKS_KEY!r} is not a list of tensor names")
    if len(names) > _MOST_BLOCKS:
        raise ModelError(f"metadata {BLOCKS_KEY!r} names {len(names):,} blocks, above the limit of {_MOST_BLOCKS:,}")
    return tuple(names)
