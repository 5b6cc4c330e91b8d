"""Rewrites of a graph into canonical form.

Three entry points, in the order of the pipeline: :func:`decompose` before shapes are known, :func:`canonicalise` after
constants are folded, :func:`restore_normalisation` last. The lists below are the table of contents; each rewrite
returns the reason where it does not apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from aznas_onnx.errors import UnsupportedOperatorError
from aznas_onnx.graph.constants.provenance import Provenance
from aznas_onnx.graph.ir.graph import AttributeValue, Graph
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.rewrite.canonical import (
    activations,
    data_movement,
    linear,
    normalization,
    padding,
    pooling,
    reshape_targets,
    splitting,
)
from aznas_onnx.graph.rewrite.canonical.duplicates import merge_duplicates
from aznas_onnx.graph.rewrite.canonical.transposes import turn_regions
from aznas_onnx.graph.rewrite.decompose import contrib_ops, integer_arithmetic, preprocessing, training
from aznas_onnx.graph.rewrite.decompose.preprocessing import strip_preprocessing
from aznas_onnx.graph.rewrite.decompose.quantization import (
    FAKE_QUANTISATION,
    QUANTISED_WEIGHTS,
    dequantise_tables,
    strip_fake_quantisation,
)
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.restore import batchnorm
from aznas_onnx.graph.rewrite.restore.unfold_batchnorm import unfold_batch_normalisation
from aznas_onnx.graph.rewrite.rule import Rewrite, apply, counted
from aznas_onnx.graph.shapes.control_flow import captured

__all__ = [
    "CANONICALISATIONS",
    "DECOMPOSITIONS",
    "RewrittenGraph",
    "canonicalise",
    "decompose",
    "lost_quantisation",
    "restore_normalisation",
]

DECOMPOSITIONS: tuple[Rewrite, ...] = (
    *training.REWRITES,
    *contrib_ops.REWRITES,
    *preprocessing.REWRITES,
)

# Activations before normalisations and pooling, which look for none of them; linear layers after reshapes are plain.
CANONICALISATIONS: tuple[Rewrite, ...] = (
    *reshape_targets.REWRITES,
    *activations.REWRITES,
    *normalization.REWRITES,
    *padding.REWRITES,
    *batchnorm.REWRITES,
    *pooling.REWRITES,
    *data_movement.REWRITES,
    *splitting.REWRITES,
    *linear.REWRITES,
)
_ROUNDS = 4
_QUANTISED_OPERATORS = "quantised operators taken as the float ones that they stand for"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrittenGraph:
    """A graph after a list of rewrites.

    - `graph`: One that computes the same; the given one where there was nothing to do.
    - `infos`: For every tensor of that graph.
    - `changes`: What was done, and on what evidence, in words for the user.
    - `doubts`: What the file leaves open, in words for the user.
    - `near_misses`: What was nearly done, and why not.
    """

    graph: Graph
    infos: TensorInfos
    changes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()


def decompose(graph: Graph, *, keep_quantisation: bool = False) -> tuple[Graph, tuple[str, ...]]:
    """Replace fused and fake-quantised nodes by standard ones, before shapes are known.

    - `graph`: The lowered graph.
    - `keep_quantisation`: Keep fake quantisation of activations and standardisation of inputs: the computation of the
      file, not the network that it approximates.

    - Returns `graph`: The given one where nothing changed. A node of a known ONNX Runtime operator that standard
      operators cannot express is marked as unknown.
    - Returns `changes`: The changes, in words for the user.
    """
    editor = Editor(graph, protected={name for node in graph.nodes if node.attributes for name in captured(node)})
    quantised = apply(editor, integer_arithmetic.REWRITES)
    _refuse_integers(editor)
    dequantise_tables(editor)
    changes: tuple[str, ...] = ()
    if quantised:
        changes = (f"{_QUANTISED_OPERATORS}: {counted(quantised.items())}",)
    if not keep_quantisation:
        changes = (*changes, *strip_preprocessing(editor), *strip_fake_quantisation(editor))
    made = apply(editor, DECOMPOSITIONS)
    declined = _declined(editor)
    decomposed = _decompose_bodies(_marked(editor.finish(), declined), made)
    written = counted(made.items())
    return decomposed, (*changes, *((f"written as standard operators: {written}",) if written else ()))


def _refuse_integers(editor: Editor) -> None:
    """Refuse the first node whose integers cannot be dequantised.

    Raises UnsupportedOperatorError with the reason.
    """
    for rewrite in integer_arithmetic.REWRITES:
        for node in editor.nodes(*rewrite.operators):
            raise UnsupportedOperatorError(
                f"node {node.name!r}: operator {node.operator} cannot be turned back into the one on floats that it "
                f"stands for, because {rewrite.attempt(editor, node)}; export the float model, before quantisation"
            )


def _declined(editor: Editor) -> dict[str, str]:
    """Return why each remaining fused node cannot be decomposed, by name; later passes cannot run it."""
    found = {}
    for rewrite in DECOMPOSITIONS:
        if not editor.has(*rewrite.operators):
            continue
        for node in editor.nodes(*rewrite.operators):
            reason = rewrite.attempt(editor, node) if node.domain else None
            if reason is not None:
                found[node.name] = (
                    f"node {node.name!r}: operator {node.operator} cannot be written as standard operators, because "
                    f"{reason}; give the model as it was before ONNX Runtime's optimiser, or export it again"
                )
    return found


def _marked(graph: Graph, unknown: Mapping[str, str]) -> Graph:
    if not unknown:
        return graph
    return replace(graph, nodes=tuple(replace(node, unknown=unknown.get(node.name, "")) for node in graph.nodes))


def _decompose_bodies(graph: Graph, made: Counter[str]) -> Graph:
    """Replace fused nodes in the branches and bodies of control flow, which are resolved later; add to `made`."""
    if not any(isinstance(value, Graph) for node in graph.nodes for value in node.attributes.values()):
        return graph
    nodes = tuple(
        replace(node, attributes=MappingProxyType({k: _decompose_body(v, made) for k, v in node.attributes.items()}))
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def _decompose_body(value: AttributeValue, made: Counter[str]) -> AttributeValue:
    if not isinstance(value, Graph):
        return value
    editor = Editor(value, protected={name for node in value.nodes for name in captured(node)})
    made.update(apply(editor, (*integer_arithmetic.REWRITES, *DECOMPOSITIONS)))
    return _decompose_bodies(editor.finish(), made)


def lost_quantisation(changes: Iterable[str]) -> bool:
    """Whether the changes of a graph have made floats of what its file quantises."""
    return any(change.startswith((_QUANTISED_OPERATORS, FAKE_QUANTISATION, QUANTISED_WEIGHTS)) for change in changes)


def canonicalise(graph: Graph, infos: TensorInfos, *, protected: Collection[str] = ()) -> RewrittenGraph:
    """Rewrite patterns with several spellings to one form.

    - `graph`, `infos`: A folded graph and its infos, at a batch size that no other axis has if possible: where an axis
      can be the batch or another axis of that size, rewrites decline.
    - `protected`: Tensors with a fixed name, which stay the output of a node; the graph's outputs always do.
    """
    editor = Editor(graph, infos, protected)
    made = Counter[str]()
    for _ in range(_ROUNDS):
        misses = dict[NearMiss, None]()  # of the last round, which finds nothing
        found = apply(editor, CANONICALISATIONS, misses)
        tidied = turn_regions(editor) + merge_duplicates(editor)
        made.update(found)
        if not found and not tidied:
            break
    written = counted(made.items())
    changes = (f"recognised as one operator each: {written}",) if written else ()
    return _rewritten(editor, infos, changes=changes, near_misses=tuple(misses))


def restore_normalisation(graph: Graph, infos: TensorInfos, *, protected: Collection[str] = ()) -> RewrittenGraph:
    """Restore batch normalisation that the exporter folded into convolutions, and biases that it removed."""
    editor = Editor(graph, infos, protected)
    changes, doubts, near_misses = unfold_batch_normalisation(editor, Provenance(graph))
    return _rewritten(editor, infos, changes=changes, doubts=doubts, near_misses=near_misses)


def _rewritten(editor: Editor, infos: TensorInfos, **record: tuple[Any, ...]) -> RewrittenGraph:
    graph = editor.finish()
    return RewrittenGraph(graph=graph, infos=editor.infos(graph) if editor.modified else infos, **record)
