"""What tests of rewrites share: a folded graph, running it, and comparing with ONNX Runtime on the file as it was."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from aznas_onnx.graph import Graph, Limits, TensorInfos
from aznas_onnx.graph.files.deserialize import lower
from aznas_onnx.graph.files.inputs import plan_inputs
from aznas_onnx.graph.files.precision import to_float32
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.folding import fold
from aznas_onnx.graph.rewrite.passes import canonicalise, decompose
from aznas_onnx.graph.rewrite.rule import Attempt
from aznas_onnx.graph.shapes.constant_evaluation import evaluate
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.graph.shapes.make_batch_dynamic import probe_batch

__all__ = ["Rewritten", "canonical", "computes_the_same", "decomposed", "folded", "operators", "outcome", "run"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rewritten:
    """A graph after a rewrite, with its facts and what the rewrite says that it did."""

    graph: Graph
    infos: TensorInfos
    changes: tuple[str, ...]


def decomposed(model: onnx.ModelProto) -> tuple[Graph, tuple[str, ...]]:
    """Lower a model and decompose it."""
    graph, _ = to_float32(lower(model, None, "test", Limits()))
    return decompose(graph)


def folded(model: onnx.ModelProto, protected: Collection[str] = ()) -> tuple[Graph, TensorInfos]:
    """Bring a model to where the graph room hands it to `canonicalise`."""
    graph, _ = decomposed(model)
    plan, limits = plan_inputs(graph, {}), Limits()
    graph, infos = interpret(graph, plan.declared_batch, plan.shapes(plan.declared_batch), limits)
    size = probe_batch(infos)
    graph, probe = interpret(graph, size, plan.shapes(size), limits, infos, repair=True)
    graph, infos = interpret(graph, plan.declared_batch, plan.shapes(plan.declared_batch), limits)
    return fold(graph, probe, infos, protected=protected)


def canonical(model: onnx.ModelProto, protected: Collection[str] = ()) -> Rewritten:
    """Canonicalise a model, and check that its facts are complete and true."""
    graph, infos, changes = canonicalise(*folded(model, protected), protected=protected)
    check_facts(graph, infos)
    return Rewritten(graph, infos, changes)


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


def check_facts(graph: Graph, infos: TensorInfos) -> None:
    """Check that there is a fact for every tensor, and that each is true."""
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
    graph, infos = prepare(model)
    editor = Editor(graph, infos)
    return attempt(editor, next(editor.nodes(operator)))
