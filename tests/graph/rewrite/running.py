"""What tests of rewrites share: a folded graph, running it, and comparing with ONNX Runtime on the file as it was."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from aznas_onnx.graph import Graph, Limits, TensorInfos
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.files.inputs import plan_inputs
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.pipeline import FILE_PASSES, GRAPH_PASSES, Draft, ReadOptions, apply_passes
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.passes import RewrittenGraph, canonicalise
from aznas_onnx.graph.rewrite.rule import Attempt
from aznas_onnx.graph.shapes.constant_evaluation import evaluate

Array = npt.NDArray[Any]


def drafted(model: onnx.ModelProto, last: str, protected: Collection[str] = ()) -> Draft:
    """Lower a model, which may be one that no file could hold, and apply all passes up to the last one."""
    draft = Draft(options=ReadOptions(), graph=deserialize(model, None, "test", Limits()), declared=tuple(protected))
    passes = (*FILE_PASSES, *GRAPH_PASSES)
    return apply_passes(draft, passes[: [one.name for one in passes].index(last) + 1])


def decomposed(model: onnx.ModelProto) -> tuple[Graph, tuple[str, ...]]:
    """Lower a model and decompose it."""
    draft = drafted(model, "decompose")
    return draft.graph, draft.changes


def folded(model: onnx.ModelProto, protected: Collection[str] = ()) -> tuple[Graph, TensorInfos]:
    """Bring a model to where `prepare` hands it to `canonicalise`."""
    draft = drafted(model, "fold constants", protected)
    return draft.graph, draft.infos


def canonical(model: onnx.ModelProto, protected: Collection[str] = ()) -> RewrittenGraph:
    """Canonicalise a model, and check that its infos are complete and true."""
    done = canonicalise(*folded(model, protected), protected=protected)
    check_infos(done.graph, done.infos)
    return done


def operators(graph: Graph) -> list[str]:
    """Return the operators of a graph in order."""
    return [node.operator for node in graph.nodes]


def run(graph: Graph, batch_size: int) -> dict[str, Array]:
    """Run a graph node by node on seeded normal inputs, and return all its tensors."""
    values = {name: constant.read() for name, constant in graph.constants.items() if constant.read is not None}
    values.update(feeds(graph, batch_size))
    for node in graph.nodes:
        made = evaluate(node, [values[name] if name else None for name in node.inputs])
        values.update((name, array) for name, array in zip(node.outputs, made, strict=True) if name)
    return values


def feeds(graph: Graph, batch_size: int) -> dict[str, Array]:
    """Return seeded normal values for the inputs of a graph."""
    random = np.random.default_rng(7)
    shapes = plan_inputs(graph, {}).shapes(batch_size)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def check_infos(graph: Graph, infos: TensorInfos) -> None:
    """Check that there is an info for every tensor, and that each is true."""
    values = run(graph, infos.batch_size)
    assert {name: (infos[name].shape, infos[name].dtype) for name in values} == {
        name: (array.shape, array.dtype) for name, array in values.items()
    }
    assert set(infos) == set(values)


def computes_the_same(
    graph: Graph, model: onnx.ModelProto, *, batch_sizes: tuple[int, ...] = (2, 3), tolerance: float = 2e-5
) -> bool:
    """Whether a graph gives the outputs that ONNX Runtime gives for the model, at several batch sizes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: constants that a test does not use are not worth a warning
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch_size in batch_sizes:
        expected = session.run(None, feeds(graph, batch_size))
        found = run(graph, batch_size)
        for name, array in zip(graph.outputs, expected, strict=True):
            if found[name].shape != array.shape:
                return False
            if not np.allclose(found[name], array, rtol=tolerance, atol=tolerance * float(np.abs(array).max())):
                return False
    return True


def outcome(
    model: onnx.ModelProto, attempt: Attempt, operator: str, prepare: Callable[[onnx.ModelProto], Any] = folded
) -> str | None:
    """Return why an attempt declines the first node of an operator; None where it rewrites it."""
    declined = _attempted(model, attempt, operator, prepare)
    return None if declined is None else str(declined)


def near_miss(model: onnx.ModelProto, attempt: Attempt, operator: str) -> str | None:
    """Return why an attempt declines what is nearly its pattern; None where it is another pattern altogether."""
    declined = _attempted(model, attempt, operator, folded)
    return declined.reason if isinstance(declined, NearMiss) else None


def _attempted(
    model: onnx.ModelProto, attempt: Attempt, operator: str, prepare: Callable[[onnx.ModelProto], Any]
) -> NearMiss | str | None:
    graph, infos = prepare(model)
    editor = Editor(graph, infos)
    return attempt(editor, next(editor.nodes(operator)))
