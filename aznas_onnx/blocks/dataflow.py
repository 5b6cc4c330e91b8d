"""The data graph: the nodes between samples and output, and the main path among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from aznas_onnx.blocks.operator_roles import is_weighted
from aznas_onnx.blocks.recurrence import reads_weights_again, with_recurrent_layers
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.model import Model

__all__ = ["INPUT", "DataGraph", "data_graph", "main_path", "recurrent_weights"]

INPUT = -1  # the graph's input, as a node index


@dataclass(frozen=True, kw_only=True, eq=False)
class DataGraph:
    """Nodes on paths from the samples to the output; constants, shape arithmetic and other inputs are left out.

    - `model`: Model of the nodes.
    - `output`: The graph output that the data graph leads to.
    - `nodes`: In topological order; a node is named by its index here, :data:`INPUT` is the graph's input.
    - `parents`: For each node the nodes that it reads, in the order of its inputs, each once.
    - `layers`: For each node of an unrolled recurrent layer, by name, the nodes of the graph.
    """

    model: Model
    output: str
    nodes: tuple[Node, ...]
    parents: tuple[tuple[int, ...], ...]
    layers: Mapping[str, tuple[Node, ...]] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The graph that the nodes are from."""
        return self.model.graph

    @property
    def infos(self) -> TensorInfos:
        """Shapes of the tensors."""
        return self.model.infos

    def tensor(self, index: int) -> str:
        """Return the tensor that a node makes and that is read, the largest where it makes several."""
        if index == INPUT:
            return self.model.inputs.primary
        return max(self.made(index), key=lambda name: self.infos[name].elements)

    def made(self, index: int) -> tuple[str, ...]:
        """Return the tensors that a node makes and that the data graph reads."""
        outputs = self.nodes[index].outputs
        return outputs if len(outputs) == 1 else tuple(name for name in outputs if name in self._read)

    @cached_property
    def carried(self) -> frozenset[str]:
        """The tensors through which the samples go."""
        made = (name for node in self.nodes for name in node.outputs if name and _carries_data(name, self.infos))
        return frozenset((self.model.inputs.primary, *made))

    @cached_property
    def _read(self) -> frozenset[str]:
        return frozenset((self.output, *(name for node in self.nodes for name in node.inputs if name)))

    def behind(self, index: int) -> tuple[Node, ...]:
        """Return the graph's nodes of a node: itself, or all steps of a recurrent layer."""
        return self.layers.get(self.nodes[index].name, (self.nodes[index],))

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a node's output; empty where it depends on data."""
        return self.infos[self.tensor(index)].shape or ()

    def channels(self, index: int) -> int | None:
        """Return the width of a node's output, None where its channel axis is not known."""
        return self.channels_of(self.tensor(index))

    def positions(self, index: int) -> int | None:
        """Return how many positions a sample has in a node's output, None where that is not known."""
        return self.positions_of(self.tensor(index))

    def leading_to(self, last: int, within: int) -> int:
        """Return the set of nodes of `within` that lead to `last` through nodes of `within`, itself included.

        Sets of nodes are integers used as bit sets: bit `i` is node `i`.
        """
        if last == INPUT or not within >> last & 1:
            return 0
        found, waiting = 1 << last, [last]
        while waiting:
            for parent in self.parents[waiting.pop()]:
                if parent != INPUT and within >> parent & 1 and not found >> parent & 1:
                    found |= 1 << parent
                    waiting.append(parent)
        return found

    def channels_of(self, tensor: str) -> int | None:
        """Return the width of a tensor, None where its channel axis is not known."""
        axis = self.model.layout.channel_axes.get(tensor)
        shape = self.infos[tensor].shape or ()
        return shape[axis] if axis is not None and axis < len(shape) else None

    def positions_of(self, tensor: str) -> int | None:
        """Return how many positions a sample has in a tensor, None where that is not known."""
        width = self.channels_of(tensor)
        return None if not width else max(self.infos[tensor].elements // (width * self.infos.batch_size), 1)


def data_graph(model: Model) -> DataGraph | None:
    """Extract the data graph of the main output; None where no output depends on the samples.

    The main output is the one that most weighted operators lead to, the first of equals.
    """
    graph, infos = model.graph, model.infos
    forward = _reached(graph, infos, [model.inputs.primary])
    reachable = {name for node in forward for name in node.outputs}
    candidates = [name for name in graph.outputs if name in reachable]
    if not candidates:
        return None
    found = [(_leading_to(forward, name, infos), name) for name in candidates]
    nodes, output = max(found, key=lambda item: sum(is_weighted(node, graph) for node in item[0]))
    data = {
        model.inputs.primary,
        *(name for node in nodes for name in node.outputs if name and _carries_data(name, infos)),
    }
    unrolled = with_recurrent_layers(nodes, graph, infos, data, output)
    parents = _parents(unrolled.nodes, model.inputs.primary, infos)
    return DataGraph(model=model, output=output, nodes=unrolled.nodes, parents=parents, layers=unrolled.members)


def _carries_data(name: str, infos: TensorInfos) -> bool:
    """Whether a tensor is a float that is not known: integers are shapes and indices."""
    info = infos.get(name)
    return info is not None and info.value is None and info.dtype.kind == "f"


def recurrent_weights(graph: Graph, infos: TensorInfos) -> dict[str, int]:
    """Return the weights of recurrent layers that are written out step by step, and the width of each one's state."""
    if not reads_weights_again(graph):
        return {}
    sources = [value.name for value in graph.inputs]
    nodes = _reached(graph, infos, sources)
    data = {*sources, *(name for node in nodes for name in node.outputs if name and _carries_data(name, infos))}
    unrolled = with_recurrent_layers(nodes, graph, infos, data, graph.outputs[0])
    return {
        name: unrolled.widths[layer]
        for layer, members in unrolled.members.items()
        for node in members
        if is_weighted(node, graph)
        for name in node.inputs
        if name in graph.constants
    }


def _reached(graph: Graph, infos: TensorInfos, sources: Iterable[str]) -> list[Node]:
    reached = {*sources}
    found = []
    for node in graph.nodes:
        if any(name in reached for name in node.inputs):
            made = [name for name in node.outputs if name and _carries_data(name, infos)]
            if made:
                reached.update(made)
                found.append(node)
    return found


def _leading_to(forward: list[Node], output: str, infos: TensorInfos) -> list[Node]:
    needed = {output}
    found = []
    for node in reversed(forward):
        if any(name in needed for name in node.outputs):
            needed.update(node.inputs)
            found.append(node)
    return found[::-1]


def _parents(nodes: Sequence[Node], source: str, infos: TensorInfos) -> tuple[tuple[int, ...], ...]:
    """Find the nodes that each node reads.

    A Concat contains its inputs: a later reader of an input that depends on the Concat anyway is treated as a reader of
    the Concat. Where all inputs of a Concat are read again, it is the stream itself: the dense layers of a DenseNet
    follow each other also where every layer concatenates all features again, and so do the blocks of a dual-path
    network, which read the two parts of the stream separately and together.
    """
    made_by = {source: INPUT}
    for at, node in enumerate(nodes):
        made_by.update((name, at) for name in node.outputs if name and _carries_data(name, infos))
    read = [[name for name in dict.fromkeys(node.inputs) if name in made_by] for node in nodes]
    joins = [at for at, node in enumerate(nodes) if node.is_op("Concat") and len(read[at]) > 1]
    before = _ancestors([[made_by[name] for name in names] for names in read]) if joins else []
    readers: dict[str, list[int]] = {}
    for at, names in enumerate(read):
        for name in names:
            readers.setdefault(name, []).append(at)
    held: dict[str, list[int]] = {}  # the streams that a tensor is part of
    for at in joins:
        if all(any(before[reader] >> at & 1 for reader in readers[name]) for name in read[at]):
            for name in read[at]:
                held.setdefault(name, []).append(at)

    def place(name: str, reader: int) -> int:
        while True:
            stream = next((at for at in reversed(held.get(name, ())) if before[reader] >> at & 1), None)
            if stream is None:
                return made_by[name]
            name = nodes[stream].outputs[0]

    return tuple(tuple(dict.fromkeys(place(name, at) for name in names)) for at, names in enumerate(read))


def _ancestors(parents: Sequence[Sequence[int]]) -> list[int]:
    """Return for each node the set of the nodes that it depends on."""
    found: list[int] = []
    for above in parents:
        joined = 0
        for parent in above:
            joined |= 0 if parent == INPUT else found[parent] | 1 << parent
        found.append(joined)
    return found


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
