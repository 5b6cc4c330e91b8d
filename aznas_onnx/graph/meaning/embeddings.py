"""Replace embedding look-ups of token ids by float inputs.

Samples are Gaussian, and a network that looks ids up in a table has no input that could be fed any. With random weights
its first features are rows of a Gaussian table, so a float input replaces the look-up::

    tokens = Gather(table, input_ids)    (batch, tokens) -> (batch, tokens, width)
    tokens                               an input of floats, (batch, tokens, width)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from aznas_onnx.graph.ir.graph import Constant, Graph, GraphInput, LookUp, Node
from aznas_onnx.operators.sets import BROADCASTING, KEEPS_VALUES

__all__ = ["replace_lookups"]

_KINDS = 16  # rows of a table of types, languages and the like


def replace_lookups(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Return a graph with float inputs in place of its look-ups by token ids, and the changes in words.

    Look-ups in small tables stay: they are of token types, and all tokens have one type. In a graph without float
    inputs the largest table is always replaced.
    """
    found = list(_look_ups(graph))
    kept = [entry for entry in found if entry[2].shape[0] > _KINDS]
    if not kept and not any(value.dtype.kind == "f" for value in graph.inputs):
        largest = max((table for _, _, table in found), key=lambda table: table.elements, default=None)
        kept = [entry for entry in found if entry[2] is largest]
    if not kept:
        return graph, ()
    tokens = {name: value for name, value, _ in kept}
    nodes = tuple(node for node in graph.nodes if tokens.keys().isdisjoint(node.outputs))
    ids = dict.fromkeys(repr(value.replaces.ids) for value in tokens.values() if value.replaces is not None)
    sizes = dict.fromkeys(" x ".join(f"{length:,}" for length in table.shape) for _, _, table in kept)
    looked_up = f"{' and '.join(ids)} in {'a table' if len(sizes) == 1 else 'tables'} of {' and '.join(sizes)}"
    change = f"scored from the embedded tokens on, instead of looking up {looked_up}"
    return replace(graph, nodes=nodes, inputs=(*graph.inputs, *tokens.values())), (change,)


def _look_ups(graph: Graph) -> Iterator[tuple[str, GraphInput, Constant]]:
    """Yield the look-ups in tables by inputs, cast or not: the tensor, the new input, and the table."""
    ids = {
        value.name: value
        for value in graph.inputs
        if value.shape and value.value is None and (value.dtype.kind in "iu" or _is_only_looked_up(value.name, graph))
    }
    if not ids:
        return
    tables = {name: (name, constant) for name, constant in graph.constants.items()}
    for node in graph.nodes:
        if node in KEEPS_VALUES:
            if node.inputs[0] in ids:
                ids[node.outputs[0]] = ids[node.inputs[0]]
            if node.inputs[0] in tables:
                tables[node.outputs[0]] = tables[node.inputs[0]]
        elif node.is_op("Reshape") and node.inputs[0] in ids and _keeps_shape(node, ids[node.inputs[0]], graph):
            ids[node.outputs[0]] = ids[node.inputs[0]]  # GPT-2 reshapes ids to one axis beside the batch
        elif _computes_ids(node) and not ids.keys().isdisjoint(node.inputs):
            of_one = {ids[name].name for name in node.inputs if name in ids}
            if len(of_one) == 1 and all(name in ids or _is_scalar(name, graph) for name in node.inputs):
                ids[node.outputs[0]] = next(ids[name] for name in node.inputs if name in ids)
        elif node.is_op("Gather") and node.inputs[0] in tables and node.inputs[1] in ids:
            name, table = tables[node.inputs[0]]
            read = ids[node.inputs[1]]
            if (
                table.is_float
                and len(table.shape) == 2
                and table.elements
                and node.attributes.get("axis", 0) in (0, -2)
            ):
                look_up = LookUp(node=node.name, ids=read.name, table=name, constant=table)
                shape = (*(read.shape or ()), table.shape[1])
                made = node.outputs[0]
                yield made, GraphInput(name=made, dtype=np.dtype(np.float32), shape=shape, replaces=look_up), table


def _computes_ids(node: Node) -> bool:
    """Whether a node can compute ids from ids: negative ids count from the end of a table."""
    return node in BROADCASTING or node.is_op("Not")


def _is_scalar(name: str, graph: Graph) -> bool:
    constant = graph.constants.get(name)
    return constant is not None and constant.elements == 1


def _is_only_looked_up(name: str, graph: Graph) -> bool:
    """Whether a float input has ids, as in Keras: cast to integers and looked up."""
    first = next((node for node in graph.nodes if name in node.inputs), None)
    if first is None or not (first.is_op("Gather") or _computes_ids(first) or first in KEEPS_VALUES):
        return False  # most inputs; the index of readers is not needed for it
    waiting, seen, found = [name], {name}, False
    while waiting:
        one = waiting.pop()
        for node in graph.consumers.get(one, ()):
            if node.is_op("Gather"):
                if node.inputs[1] != one or node.inputs[0] not in graph.constants:
                    return False
                found = True
            elif _computes_ids(node) or node in KEEPS_VALUES:
                waiting += [output for output in node.outputs if output not in seen]
                seen.update(node.outputs)
            else:
                return False
    return found and seen.isdisjoint(graph.outputs)


def _keeps_shape(reshape: Node, ids: GraphInput, graph: Graph) -> bool:
    """Whether a Reshape of ids has no effect, as far as its target is constant."""
    target = graph.constants.get(reshape.inputs[1])
    shape = ids.shape or ()
    if target is None:
        maker = graph.producers.get(reshape.inputs[1])
        return maker is not None and maker.is_op("Concat") and len(maker.inputs) == len(shape)
    if target.read is None or target.elements != len(shape):
        return False
    first, *others = target.read().reshape(-1).tolist()
    return first in (-1, 0, shape[0]) and all(
        made in (-1, 0, size) for made, size in zip(others, shape[1:], strict=True)
    )


def _rank(value: GraphInput) -> int:
    return len(value.shape or ())
