"""Run the passes that lead from a path to a :class:`~aznas_onnx.graph.model.Model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from aznas_onnx.errors import AznasError, ModelError
from aznas_onnx.escaping import printable
from aznas_onnx.graph.files.input_values import Value
from aznas_onnx.graph.files.load import Loaded, Source, source_name
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.model import Model
from aznas_onnx.graph.pipeline import FILE_PASSES, GRAPH_PASSES, Draft, ReadOptions, apply_passes, start
from aznas_onnx.graph.rewrite.folding import fold
from aznas_onnx.graph.shapes.infos_at_batch import rebatched
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.limits import Limits, reading
from aznas_onnx.zoo import is_name

__all__ = ["error_context", "prepare", "rebatch", "specialise"]

_MESSAGE_LENGTH = 1000


def prepare(
    source: Source | Loaded,
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
        :class:`~aznas_onnx.graph.building.builder.GraphBuilder` built, which is not checked again. A file that
        :func:`~aznas_onnx.graph.files.load.load` has read is not read again, and ends where that cut it.
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
    options = ReadOptions(
        input_shapes={key: tuple(shape) for key, shape in (input_shapes or {}).items()},
        cut_at=tuple(cut_at),
        values=values or {},
        keep_graph=keep_graph,
        partial=partial,
        limits=limits or Limits(),
    )
    with error_context(name), reading(options.limits):
        passes = GRAPH_PASSES if isinstance(source, Graph) else (*FILE_PASSES, *GRAPH_PASSES)
        return _finished(apply_passes(start(source, name, options), passes), name)


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


def _finished(draft: Draft, name: str) -> Model:
    return Model(
        name=name if draft.folder is None or is_name(name) else Path(name).stem,
        source=name,
        graph=draft.graph,
        infos=draft.infos,
        inputs=draft.plan,
        layout=draft.layout,
        changes=draft.changes,
        warnings=(*draft.warnings, *(f"counts are incomplete: {gap}" for gap in draft.unknown)),
        fixed_batch=draft.fixed_batch,
        declared_blocks=draft.declared,
        near_misses=draft.near_misses,
        data_files=draft.data_files,
        interface=draft.interface,
    )


def specialise(model: Model, batch_size: int, limits: Limits | None = None) -> Model:
    """Return a model at a batch size: its tensor infos there, and all shape arithmetic folded.

    Raises ModelError if the file has a fixed batch size that cannot be changed.
    """
    plan = model.inputs
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
            graph, infos = fold(graph, infos, protected=model.declared_blocks, keeps_layers=True)
    return replace(model, graph=graph, infos=infos)


def rebatch(model: Model, batch_size: int) -> Model | None:
    """Return a model at a smaller batch size, with the same graph; None where the graph must be walked for that.

    - `model`: Its graph has no shape arithmetic that was folded at its batch size.
    """
    shapes = model.inputs.shapes(batch_size)
    if batch_size > model.infos.batch_size or any(value.value is not None for value in model.graph.inputs):
        return None
    outputs = rebatched(model.graph, model.infos, batch_size, shapes)
    if outputs is None:
        return None
    inputs = {value.name: TensorInfo(shapes[value.name], value.dtype) for value in model.graph.inputs}
    return replace(model, infos=TensorInfos({**model.infos, **inputs, **outputs}, batch_size))


def _is_folded(graph: Graph, infos: TensorInfos) -> bool:
    """Whether every node computes on activations and has no known output."""
    fixed = {"", *graph.constants}
    known = {name for name, info in infos.items() if info.value is not None}
    return not any(fixed.issuperset(node.inputs) or not known.isdisjoint(node.outputs) for node in graph.nodes)
