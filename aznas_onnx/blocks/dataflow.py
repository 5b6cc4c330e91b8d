"""The data graph: the nodes through which the samples reach the output, and the main path among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aznas_onnx.blocks.operators import is_weighted
from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import Graph, Node
from aznas_onnx.graph.model import Model

__all__ = ["INPUT", "DataGraph", "data_graph", "main_path"]

INPUT = -1  # stands for the graph's input where a node index is expected


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataGraph:
    """Nodes on paths from the samples to the output; constants, shape arithmetic and other inputs are left out.

    Attributes
    ----------
    model
        Where the nodes are from.
    output
        The graph output that the data graph leads to.
    nodes
        In topological order; a node is named by its index here, :data:`INPUT` is the graph's input.
    parents
        For each node those that it reads, in the order of its inputs, each once.
    """

    model: Model
    output: str
    nodes: tuple[Node, ...]
    parents: tuple[tuple[int, ...], ...]

    @property
    def graph(self) -> Graph:
        """The graph that the nodes are from."""
        return self.model.graph

    @property
    def facts(self) -> Facts:
        """Shapes of the tensors."""
        return self.model.facts

    def tensor(self, index: int) -> str:
        """Return the (first) tensor that a node makes."""
        return self.model.inputs.primary if index == INPUT else self.nodes[index].outputs[0]

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a node's first output; empty where it depends on data."""
        return self.facts[self.tensor(index)].shape or ()

    def channels(self, index: int) -> int | None:
        """Return the width of a node's first output, None where its channel axis is not known."""
        axis = self.model.channel_axes.get(self.tensor(index))
        shape = self.shape(index)
        return shape[axis] if axis is not None and axis < len(shape) else None

    def positions(self, index: int) -> int | None:
        """Return how many positions a sample has in a node's first output, None where that is not known."""
        width = self.channels(index)
        elements = self.facts[self.tensor(index)].elements
        return None if not width else max(elements // (width * self.facts.batch_size), 1)


def data_graph(model: Model) -> DataGraph | None:
    """Extract the data graph of the main output; None where no output depends on the samples.

    The main output is the one that most weighted operators lead to, the first of equals.
    """
    graph, facts = model.graph, model.facts
    forward = _reached(graph, facts, model.inputs.primary)
    reachable = {name for node in forward for name in node.outputs}
    candidates = [name for name in graph.outputs if name in reachable]
    if not candidates:
        return None
    found = [(_leading_to(forward, name, facts), name) for name in candidates]
    nodes, output = max(found, key=lambda item: sum(is_weighted(node, graph) for node in item[0]))
    return DataGraph(model=model, output=output, nodes=tuple(nodes), parents=_parents(nodes, model.inputs.primary, facts))


def _carries_data(name: str, facts: Facts) -> bool:
    """Whether a tensor is a float that is not known: integers are shapes and indices."""
    fact = facts.get(name)
    return fact is not None and fact.value is None and fact.dtype.kind == "f"


def _reached(graph: Graph, facts: Facts, source: str) -> list[Node]:
    reached = {source}
    found = []
    for node in graph.nodes:
        if any(name in reached for name in node.inputs):
            made = [name for name in node.outputs if name and _carries_data(name, facts)]
            if made:
                reached.update(made)
                found.append(node)
    return found


def _leading_to(forward: list[Node], output: str, facts: Facts) -> list[Node]:
    needed = {output}
    found = []
    for node in reversed(forward):
        if any(name in needed for name in node.outputs):
            needed.update(node.inputs)
            found.append(node)
    return found[::-1]


def _parents(nodes: list[Node], source: str, facts: Facts) -> tuple[tuple[int, ...], ...]:
    """Find whom each node reads.

    A Concat holds its inputs: whoever reads one of them after the Concat, and depends on the Concat anyway, might as
    well read it there. Taken so, the dense layers of a DenseNet follow each other also where every layer
    concatenates all features anew, and so do the blocks of a dual-path network, which use the two parts of the
    stream both apart and together.
    """
    made_by = {source: INPUT}
    holders: dict[str, list[int]] = {}
    ancestors: list[int] = []  # bit sets
    parents: list[tuple[int, ...]] = []
    for index, node in enumerate(nodes):
        inputs = [name for name in dict.fromkeys(node.inputs) if name in made_by]
        before = 0
        for name in inputs:
            maker = made_by[name]
            before |= 0 if maker == INPUT else ancestors[maker] | 1 << maker
        ancestors.append(before)
        read = [made_by[_held_by(name, before, holders, nodes)] for name in inputs]
        parents.append(tuple(dict.fromkeys(read)))
        if node.is_op("Concat"):
            for name in inputs:
                holders.setdefault(name, []).append(index)
        made_by.update((name, index) for name in node.outputs if name and _carries_data(name, facts))
    return tuple(parents)


def _held_by(name: str, before: int, holders: Mapping[str, list[int]], nodes: list[Node]) -> str:
    holder = next((at for at in reversed(holders.get(name, ())) if before >> at & 1), None)
    return name if holder is None else _held_by(nodes[holder].outputs[0], before, holders, nodes)


def main_path(data: DataGraph, weights: list[int]) -> list[int]:
    """Return the path from input to output with the most weight, :data:`INPUT` first.

    Of equal paths the one with more nodes is taken, then the one through the earlier input of a node: never a
    name, and never the order in which the file lists the nodes.
    """
    best: list[tuple[int, int]] = []
    chosen: list[int] = []
    for index, parents in enumerate(data.parents):
        parent = max(parents, key=lambda at: best[at] if at != INPUT else (0, 0), default=INPUT)
        weight, length = best[parent] if parent != INPUT else (0, 0)
        best.append((weight + weights[index], length + 1))
        chosen.append(parent)
    return list(_walk_back(chosen))[::-1]


def _walk_back(chosen: list[int]) -> Iterator[int]:
    at = len(chosen) - 1
    while at != INPUT:
        yield at
        at = chosen[at]
    yield INPUT
