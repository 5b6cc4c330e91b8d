"""Cut a network back to float outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from shlex import quote

from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.ir.toposort import live_nodes
from aznas_onnx.operators.sets import KEEPS_VALUES, MOVES_DATA, SHAPE_QUERIES

__all__ = ["float_outputs", "gaps"]

_MOST_NAMED = 6


def float_outputs(graph: Graph, infos: TensorInfos) -> tuple[Graph, tuple[str, ...]]:
    """Replace outputs that are not floats (labels, indices, maps) by the floats that they are computed from.

    ::

        logits --> Softmax --> probabilities        an output
             \\-> ArgMax --> Gather --> label        left out: `probabilities` needs `logits` already

    Returns
    -------
    graph
        The given one where every output is computed from floats, or none is.
    changes
        The removed outputs, in words for the user.
    """
    labels = _labels(graph, infos)
    others = [name for name in graph.outputs if name in labels]
    if not others:
        return graph, ()
    computed = _computed(graph)
    kept = [name for name in graph.outputs if name not in labels]
    made_of = _frontier(graph, others, lambda name: name in computed and name not in labels)
    ends = _last((*kept, *made_of), graph)
    if not ends:
        return graph, ()
    ends = tuple(dict.fromkeys((*kept, *ends)))
    left_out = " and ".join(f"{name!r} ({_type(infos, name)})" for name in others[:_MOST_NAMED])
    change = f"left out what is no float among the outputs: {left_out}; scored up to {_listed(ends)}"
    shorter = replace(graph, outputs=ends)
    return replace(shorter, nodes=tuple(live_nodes(shorter.nodes, ends))), (change,)


def _labels(graph: Graph, infos: TensorInfos) -> set[str]:
    """Return the tensors that are not floats, or that were cast to floats."""
    found = {name for name, info in infos.items() if info.dtype.kind != "f"}
    for node in graph.nodes:
        if node.input(0) in found and node in KEEPS_VALUES:
            found.update(node.outputs)
    return found


def gaps(graph: Graph, infos: TensorInfos, primary: str, own: Collection[str]) -> tuple[str, ...]:
    """Return why a graph cannot run, and the option that helps; one sentence per kind of node.

    These are unknown nodes, and nodes with results of data-dependent size.

    - `graph`, `infos`: Of a walk.
    - `primary`: The input with the samples.
    - `own`: The tensors that the file names.
    """
    unknown = _unknown_nodes(graph, infos)
    first = {node.operator: node for node in reversed(unknown)}
    kinds = [node for node in unknown if first[node.operator] is node]
    sentences = [_reason(node) + _remedy(graph, infos, node, unknown, primary, own) for node in kinds[:_MOST_NAMED]]
    more = len(kinds) - len(sentences)
    return (
        *sentences,
        *([f"the same holds for {more} further operators, such as {kinds[-1].operator}"] if more else []),
    )


def _reason(node: Node) -> str:
    if node.unknown:
        return node.unknown
    made = "is not scored: what it makes is not known" if node.domain else "makes a tensor whose shape depends on data"
    return f"node {node.name!r} ({node.operator}) {made}"


def _unknown_nodes(graph: Graph, infos: TensorInfos) -> list[Node]:
    """Return the nodes that outputs depend on of which nothing is known, or where a size begins that data decides."""

    def is_open(names: Iterable[str]) -> bool:
        return any(infos[name].shape is None for name in names if name)

    if all(info.shape is not None for info in infos.values()) and not any(node.unknown for node in graph.nodes):
        return []
    return [
        node
        for node in live_nodes(graph.nodes, graph.outputs)
        if node.unknown or (is_open(node.outputs) and not is_open(node.inputs))
    ]


def _remedy(
    graph: Graph, infos: TensorInfos, node: Node, unknown: Sequence[Node], primary: str, own: Collection[str]
) -> str:
    steering = _steering(graph, infos, node)
    if steering and primary not in steering:
        options = " ".join(f"--value {quote(name)}=..." for name in steering)
        return f"; what decides is input {_listed(steering)}: give {options}"
    computed = _computed(graph)
    doubtful = _behind(graph, unknown)

    def is_fit(name: str) -> bool:
        info = infos[name]
        is_known = info.shape is not None and info.dtype.kind == "f" and name not in doubtful
        return is_known and name in computed and name in own

    def is_whole(name: str) -> bool:
        return is_fit(name) and graph.producers[name] not in MOVES_DATA

    found = _frontier(graph, graph.outputs, is_fit)
    if len(found) > _MOST_NAMED:  # such as the split of the boxes by class
        found = _frontier(graph, graph.outputs, is_whole)
    others = frozenset(found)
    ends = _last([name for name in found if not _is_trifle(graph, name, others)], graph)
    without = "" if ";" in node.unknown else "; export the model without it"  # or it names the remedy already
    before = live_nodes(graph.nodes, ends)
    if not any(_has_weights(graph, one) for one in before) or len(ends) > _MOST_NAMED:
        return without
    return f"{without}, or end the network before it: {' '.join(f'--cut-at {quote(name)}' for name in ends)}"


def _steering(graph: Graph, infos: TensorInfos, node: Node) -> list[str]:
    """Return the inputs of the graph that decide on a node: those that its integers and truth values follow from."""
    sources = {value.name for value in graph.inputs}
    decisive = [name for name in node.inputs if name and infos[name].dtype.kind in "iub"]
    return [
        name
        for name in _frontier(graph, decisive, lambda name: name in sources or infos[name].value is not None)
        if name in sources
    ]


def _frontier(graph: Graph, names: Iterable[str], is_end: Callable[[str], bool]) -> list[str]:
    """Return the first tensors that are ends on the ways back from some tensors, these included."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = list(names)[::-1]
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        if is_end(name):
            found[name] = None
        elif name in graph.producers:
            waiting.extend(reversed(graph.producers[name].inputs))
    return list(found)


def _is_trifle(graph: Graph, name: str, others: Collection[str]) -> bool:
    """Whether a tensor follows from one of some others alone, without weights: a part of it, a sum, another layout."""
    maker = graph.producers.get(name)
    while maker is not None and not _has_weights(graph, maker):
        read = dict.fromkeys(graph.activations(maker))
        if len(read) != 1:
            return False
        (name,) = read
        if name in others:
            return True
        maker = graph.producers.get(name)
    return False


def _has_weights(graph: Graph, node: Node) -> bool:
    """Whether a node reads a matrix of floats."""
    constants = (graph.constants[name] for name in node.inputs if name in graph.constants)
    return any(constant.is_float and sum(size > 1 for size in constant.shape) > 1 for constant in constants)


def _last(ends: Sequence[str], graph: Graph) -> tuple[str, ...]:
    """Return those of some tensors that no other of them is computed from."""
    needed = {name for node in live_nodes(graph.nodes, ends) for name in node.inputs}
    return tuple(name for name in dict.fromkeys(ends) if name not in needed)


def _computed(graph: Graph) -> set[str]:
    """Return the tensors that nodes compute from the values of a float input, not from its shape."""
    reached = {value.name for value in graph.inputs if value.dtype.kind == "f"}
    made: set[str] = set()
    for node in graph.nodes:
        if node not in SHAPE_QUERIES and not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
            made.update(node.outputs)
    return made


def _behind(graph: Graph, nodes: Iterable[Node]) -> set[str]:
    """Return the tensors that follow from some nodes."""
    found = {name for node in nodes for name in node.outputs if name}
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(filter(None, node.outputs))
    return found


def _type(infos: TensorInfos, name: str) -> str:
    dtype = infos[name].dtype
    return "no numbers" if dtype.kind == "O" else dtype.name


def _listed(names: Sequence[str]) -> str:
    shown = [repr(name) for name in names]
    return " and ".join(shown) if len(shown) <= _MOST_NAMED else f"{shown[0]} and {len(shown) - 1} others"
