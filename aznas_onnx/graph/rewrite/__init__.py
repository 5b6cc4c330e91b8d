"""Rewrites of a graph into canonical form.

Three entry points, in the order in which a model meets them: :func:`decompose` before shapes are known,
:func:`canonicalise` after constants are folded, :func:`restore_normalisation` last. The lists below are the table
of contents; each rewrite says why it declines where it does not apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from types import MappingProxyType

from aznas_onnx.errors import UnsupportedOperatorError
from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import AttributeValue, Graph, Node
from aznas_onnx.graph.rewrite import (
    activations,
    batchnorm,
    linear,
    microsoft,
    normalisation,
    padding,
    pooling,
    shapes,
    splitting,
    targets,
    training,
)
from aznas_onnx.graph.rewrite.duplicates import merge_duplicates
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.quantisation import strip_fake_quantisation
from aznas_onnx.graph.rewrite.restore import restore_folded
from aznas_onnx.graph.rewrite.rewriting import Rewrite, apply, counted
from aznas_onnx.graph.rewrite.transposes import turn_regions

__all__ = ["CANONICALISATIONS", "DECOMPOSITIONS", "canonicalise", "decompose", "restore_normalisation"]

DECOMPOSITIONS: tuple[Rewrite, ...] = (
    *training.REWRITES,
    *microsoft.REWRITES,
)

# Activations before normalisations and pooling, which look for none of them; linear layers after reshapes are plain.
CANONICALISATIONS: tuple[Rewrite, ...] = (
    *targets.REWRITES,
    *activations.REWRITES,
    *normalisation.REWRITES,
    *padding.REWRITES,
    *batchnorm.REWRITES,
    *pooling.REWRITES,
    *shapes.REWRITES,
    *splitting.REWRITES,
    *linear.REWRITES,
)
_ROUNDS = 4


def decompose(graph: Graph, *, keep_quantisation: bool = False) -> tuple[Graph, tuple[str, ...]]:
    """Replace fused and fake-quantised nodes by standard ones, before shapes are known.

    Parameters
    ----------
    graph
        As it was lowered.
    keep_quantisation
        Leave fake quantisation of activations where it is: what the file computes, instead of the network behind it.

    Returns
    -------
    graph
        The given one where there was nothing to do.
    changes
        What was done, in words for the user.

    Raises
    ------
    UnsupportedOperatorError
        If an operator of ONNX Runtime is known, but a node of it does what standard operators cannot say.
    """
    editor = Editor(graph, protected=set(_captured(graph.nodes)))
    changes = () if keep_quantisation else strip_fake_quantisation(editor)
    made = apply(editor, DECOMPOSITIONS)
    _refuse_declined(editor)
    decomposed = _decompose_bodies(editor.finish(), made)
    written = counted(made.items())
    return decomposed, (*changes, *((f"written as standard operators: {written}",) if written else ()))


def _refuse_declined(editor: Editor) -> None:
    """Say of the first fused node that cannot be written out why not; nothing after this could run it."""
    for rewrite in DECOMPOSITIONS:
        for node in editor.nodes(*rewrite.operators):
            reason = rewrite.attempt(editor, node) if node.domain else None
            if reason is not None:
                raise UnsupportedOperatorError(
                    f"node {node.name!r}: operator {node.operator} cannot be written as standard operators, because "
                    f"{reason}; give the model as it was before ONNX Runtime's optimiser, or export it again"
                )


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
    editor = Editor(value, protected=set(_captured(value.nodes)))
    made.update(apply(editor, DECOMPOSITIONS))
    return _decompose_bodies(editor.finish(), made)


def _captured(nodes: tuple[Node, ...]) -> Iterator[str]:
    """Yield what the bodies of control flow read from the graph around them."""
    for node in nodes:
        for value in node.attributes.values():
            for body in value if isinstance(value, tuple) else (value,):
                if isinstance(body, Graph):
                    yield from body.outputs
                    yield from (name for inner in body.nodes for name in inner.inputs if name)
                    yield from _captured(body.nodes)


def canonicalise(
    graph: Graph, facts: Facts, *, protected: Collection[str] = ()
) -> tuple[Graph, Facts, tuple[str, ...]]:
    """Bring patterns that exporters write in several ways into one form.

    Parameters
    ----------
    graph, facts
        A folded graph and what is known about it, at a batch size that no other axis has if possible: where an axis
        may be the batch or something else of that size, rewrites decline.
    protected
        Tensors that keep their name and stay the output of a node; the graph's outputs always do.

    Returns
    -------
    graph
        One that computes the same; the given one where there was nothing to do.
    facts
        For every tensor of that graph.
    changes
        What was recognised, in words for the user.
    """
    editor = Editor(graph, facts, protected)
    made = Counter[str]()
    for _ in range(_ROUNDS):
        found = apply(editor, CANONICALISATIONS)
        tidied = turn_regions(editor) + merge_duplicates(editor)
        made.update(found)
        if not found and not tidied:
            break
    if not editor.modified:
        return graph, facts, ()
    canonical = editor.finish()
    written = counted(made.items())
    return canonical, editor.facts(canonical), (f"recognised as one operator each: {written}",) if written else ()


def restore_normalisation(
    graph: Graph, facts: Facts, *, protected: Collection[str] = ()
) -> tuple[Graph, Facts, tuple[str, ...], tuple[str, ...]]:
    """Put batch normalisation back where the exporter folded it into a convolution, and biases that it removed.

    Returns
    -------
    graph
        The given one where there was nothing to do.
    facts
        For every tensor of that graph.
    changes
        What was done and on what evidence, in words for the user.
    doubts
        What the file leaves open, in words for the user.
    """
    editor = Editor(graph, facts, protected)
    changes, doubts = restore_folded(editor)
    if not editor.modified:
        return graph, facts, (), doubts
    restored = editor.finish()
    return restored, editor.facts(restored), changes, doubts
