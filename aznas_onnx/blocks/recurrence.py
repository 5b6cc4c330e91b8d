"""Unrolled recurrent layers as one node each, as LSTM, GRU and RNN are.

Exporters unroll a cell (a loop over cells, Keras on PyTorch, `unroll=True`), and loops are unrolled when a model is
read. In such a layer every step reads one weight, applied to the result of the step before, and reads new data:

    x_1     x_2     x_3
     |       |       |
    h_1 -R-> h_2 -R-> h_3        R is one weight

Equal layers in a row without new data (ALBERT), or with the same data in each step (refinement), are not such a layer.
The layer includes all nodes between its steps, the parts that its first and its last step share with the others, the
product with its inputs, and the concatenation of its states.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aznas_onnx.blocks.operator_roles import OperatorRole, is_recurrent, is_weighted, role_of
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["Unrolled", "reads_weights_again", "with_recurrent_layers"]

_INPUT = -1
_MOST_VISITS = 10_000_000  # limit on nodes; beyond it steps are not merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrolled:
    """Nodes of a data graph, in topological order, with each unrolled layer as one node.

    - `nodes`: A layer is a node of the operator RNN, with the name of one of its members.
    - `members`: For each such node, by name, its members.
    - `widths`: For each such node, by name, the width of its state.
    """

    nodes: tuple[Node, ...]
    members: Mapping[str, tuple[Node, ...]] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)


def reads_weights_again(graph: Graph) -> bool:
    """Whether several nodes read one weight, as the steps of an unrolled layer do."""
    weights = [weight for node in graph.nodes if (weight := _weight_of(node, graph)) is not None]
    return len({*weights}) < len(weights)


def with_recurrent_layers(
    nodes: Sequence[Node], graph: Graph, infos: TensorInfos, data: Collection[str], output: str
) -> Unrolled:
    """Find unrolled recurrent layers.

    - `nodes`: Of a data graph, in topological order.
    - `graph`, `infos`: The graph of the nodes, and its infos.
    - `data`: The tensors that depend on the samples.
    - `output`: The tensor that the data graph leads to.
    """
    current = Unrolled(nodes=tuple(nodes))
    rejected: set[Hashable] = set()
    visits = 0
    weights = [_weight_of(node, graph) for node in nodes]
    steps: _Steps | None = None
    while visits < _MOST_VISITS:
        uses = Counter(weight for weight in weights if weight is not None)
        key = next((key for key, count in uses.items() if count > 1 and key not in rejected), None)
        if key is None:
            break
        steps = steps or _Steps(current.nodes, weights, graph, infos, data)
        layer = steps.layer(key)
        visits += len(nodes) * (8 if layer else 1)
        if layer:
            current = _contracted(current, layer, steps.width(key), graph, data, output)
            weights, steps = [_weight_of(node, graph) for node in current.nodes], None
        else:
            rejected.add(key)
    return current


def _weight_of(node: Node, graph: Graph) -> Hashable:
    """Return the identity of a node's weight: its roots, because each step can transpose it again."""
    if is_weighted(node, graph) and not is_recurrent(node):
        for name in node.inputs:
            constant = graph.constants.get(name)
            if constant is not None and constant.is_float and len(constant.shape) > 1:
                return (constant.sources or name, constant.shape, node.op_type)
    return None


class _Steps:
    """The nodes of a data graph as a graph of indices."""

    def __init__(
        self,
        nodes: Sequence[Node],
        weights: Sequence[Hashable],
        graph: Graph,
        infos: TensorInfos,
        data: Collection[str],
    ) -> None:
        self._nodes = nodes
        self._weights = weights
        self._graph = graph
        self._infos = infos
        self._made_by = {name: at for at, node in enumerate(nodes) for name in node.outputs if name in data}
        self._reads = [
            {name: self._made_by.get(name, _INPUT) for name in node.inputs if name in data} for node in nodes
        ]
        self._readers: dict[int, list[int]] = defaultdict(list)
        for at, reads in enumerate(self._reads):
            for parent in dict.fromkeys(reads.values()):
                self._readers[parent].append(at)

    def layer(self, key: Hashable) -> set[int]:
        """Return the nodes of the layer whose steps read a weight; none where they make no layer."""
        uses = [at for at, weight in enumerate(self._weights) if weight == key]
        step = self._numbered(uses)
        last = step[uses[-1]]
        if last < 2 or len({self._infos[self._nodes[at].outputs[0]].shape for at in uses}) > 1:
            return set()
        layer = self._between({*uses}) | {*uses}
        tail = self._last_step(layer, uses, step)
        fed = self._own_inputs(layer | tail, step, made=self._below({*uses}) | {*uses})
        if len(fed) < max(last - 1, 2):
            return set()
        chains = [[self._traced(name) for name in names] for names in fed.values()]
        layer |= tail | self._first_step(layer, chains)
        layer |= self._between(layer)
        self._take_in_states(layer)
        self._take_in_inputs(layer, chains)
        return layer | self._between(layer)

    def width(self, key: Hashable) -> int:
        """Return the width of the state that the last step with a weight reads from the steps before it."""
        uses = [at for at, weight in enumerate(self._weights) if weight == key]
        made = self._below({*uses}) | {*uses}
        states = {name for name, maker in self._reads[uses[-1]].items() if maker in made}
        for name in tuple(states):
            maker = self._made_by[name]
            if self._nodes[maker].is_op("Concat"):  # with the step's own data
                states |= {part for part, above in self._reads[maker].items() if above in made}
                states.discard(name)
        return sum((self._infos[name].shape or (0,))[-1] for name in states)

    def _numbered(self, uses: Iterable[int]) -> list[int]:
        """Return for each node how many uses of a weight lie in a row on the way to it, itself included."""
        chosen = set(uses)
        found: list[int] = []
        for at, reads in enumerate(self._reads):
            found.append(max((found[above] for above in reads.values() if above >= 0), default=0) + (at in chosen))
        return found

    def _below(self, ends: set[int]) -> set[int]:
        """Return the nodes that depend on a set."""
        found: set[int] = set()
        for at in range(min(ends), len(self._nodes)):
            if any(above in ends or above in found for above in self._reads[at].values()):
                found.add(at)
        return found

    def _above(self, ends: set[int]) -> set[int]:
        """Return the nodes that a set depends on."""
        found: set[int] = set()
        for at in range(max(ends), -1, -1):
            if any(below in ends or below in found for below in self._readers[at]):
                found.add(at)
        return found

    def _between(self, ends: set[int]) -> set[int]:
        """Return the nodes on the paths from one node of a set to another."""
        return self._below(ends) & self._above(ends)

    def _own_inputs(self, layer: set[int], step: Sequence[int], made: set[int]) -> dict[int, set[str]]:
        """Return for each step the tensors that it alone reads and that no step computes."""
        found: dict[int, set[str]] = defaultdict(set)
        made = made | layer
        for at in layer:
            reads = self._reads[at]
            found[step[at]].update(name for name in self._floats(at) if reads.get(name, _INPUT) not in made)
        readers = Counter(name for names in found.values() for name in names)
        own = {number: {name for name in names if readers[name] == 1} for number, names in found.items()}
        return {number: names for number, names in sorted(own.items()) if number and names}

    def _floats(self, at: int) -> Iterator[str]:
        """Yield the non-constant tensors that a node reads, data of other inputs included."""
        for name in self._nodes[at].inputs:
            info = self._infos.get(name) if name and name not in self._graph.constants else None
            if info is not None and info.value is None and info.dtype.kind == "f":
                yield name

    def _last_step(self, layer: set[int], uses: Sequence[int], step: Sequence[int]) -> set[int]:
        """Return the nodes behind the last use of the weight that do what those behind the use before it do."""
        last = step[uses[-1]]
        before = dict.fromkeys(sorted(at for at in layer if step[at] == last - 1))
        numbered = [[at for at in uses if step[at] == number] for number in (last - 1, last)]
        twins = dict(zip(*numbered, strict=False))
        found: set[int] = set()
        for at in before:
            above = [one for one in self._reads[at].values() if one in before]
            if at not in twins and above and all(one in twins for one in above):
                readers = (other for other in self._readers[twins[above[0]]] if other not in found)
                twin = next((other for other in readers if self._is_twin(at, other, above[0], twins[above[0]])), None)
                if twin is not None:
                    twins[at] = twin
                    found.add(twin)
        return found

    def _is_twin(self, at: int, other: int, above: int, twin: int) -> bool:
        """Whether two nodes do the same with the same weight to the same operand from above."""
        if self._nodes[at].op_type != self._nodes[other].op_type or self._place(at, above) != self._place(other, twin):
            return False
        return self._weights[at] == self._weights[other]

    def _place(self, at: int, above: int) -> tuple[int, int]:
        """Return which operand of a node is which output of another."""
        outputs = self._nodes[above].outputs
        name = next(name for name, maker in self._reads[at].items() if maker == above)
        return self._nodes[at].inputs.index(name), outputs.index(name)

    def _traced(self, name: str) -> list[int]:
        """Return the nodes that a step's own data comes through: one after the other, each with one operand of data."""
        at = self._made_by.get(name, _INPUT)
        chain = [at]
        while at != _INPUT and len(self._reads[at]) == 1 and self._may_be_input(at):
            at = next(iter(self._reads[at].values()))
            chain.append(at)
        return chain

    def _may_be_input(self, at: int) -> bool:
        """Whether a node can be part of the product of a layer with its inputs, or precede it."""
        node = self._nodes[at]
        return not is_recurrent(node) and role_of(node, self._graph) in (
            OperatorRole.SHAPE,
            OperatorRole.AFFINE,
            OperatorRole.WEIGHT,
        )

    def _first_step(self, layer: set[int], chains: Sequence[Sequence[Sequence[int]]]) -> set[int]:
        """Return the nodes from each step's own data on; a first step can lack the weight."""
        source = self._source(chains)
        if source is None:
            return set()
        heads = {chain[chain.index(source) - 1] for step in chains for chain in step if source in chain[1:]}
        operators = {self._nodes[at].op_type for at in heads}
        parts = source != _INPUT and len(self._nodes[source].outputs) > 1
        above = self._above(layer)
        starts = {at for at in self._readers[source] if at in above and (parts or self._nodes[at].op_type in operators)}
        return starts | (self._below(starts) & above) if starts else set()

    def _source(self, chains: Sequence[Sequence[Sequence[int]]]) -> int | None:
        """Return the node that most steps have their data from, the nearest of several."""
        uses = Counter(at for step in chains for at in {at for chain in step for at in chain})
        least = max(len(chains) - 1, 2)
        return next((at for chain in chains[-1] for at in chain if uses[at] >= least), None)

    def _take_in_states(self, layer: set[int]) -> None:
        """Add the concatenations of the steps' outputs."""
        moved: dict[int, set[int]] = {}
        for at in range(min(layer), len(self._nodes)):
            above = set(self._reads[at].values())
            if at in layer or not above or role_of(self._nodes[at], self._graph) is not OperatorRole.SHAPE:
                continue
            if all(one in layer or one in moved for one in above):
                moved[at] = {at}.union(*(moved.get(one, ()) for one in above))
                if self._nodes[at].is_op("Concat") and len(above) > 1:
                    layer |= moved.pop(at)

    def _take_in_inputs(self, layer: set[int], chains: Sequence[Sequence[Sequence[int]]]) -> None:
        """Add the product with the inputs, of each step or of all at once, and what moves its operands and results."""
        own = Counter(at for step in chains for at in {at for chain in step for at in chain})
        keys = {self._weights[at] for at in layer} - {None}
        is_multiplied = False
        for at in range(max(layer), -1, -1):
            readers = self._readers[at]
            if at in layer or not readers or not layer.issuperset(readers) or not self._may_be_input(at):
                continue
            key = self._weights[at]
            if key is None or key in keys or own[at] == 1 or not is_multiplied:
                layer.add(at)
                is_multiplied |= key is not None and key not in keys


def _contracted(
    current: Unrolled, layer: set[int], width: int, graph: Graph, data: Collection[str], output: str
) -> Unrolled:
    """Return the nodes with a layer, whose state has a width, as one."""
    inside = [current.nodes[at] for at in sorted(layer)]
    outside = [node for at, node in enumerate(current.nodes) if at not in layer]
    made = dict.fromkeys(name for node in inside for name in node.outputs if name in data)
    wanted = {output, *(name for node in outside for name in node.inputs)}
    read = dict.fromkeys(name for node in inside for name in node.inputs if name in data or name in graph.constants)
    first = next(node for node in inside if is_weighted(node, graph))
    whole = Node(
        op_type="RNN",
        inputs=tuple(name for name in read if name not in made),
        outputs=tuple(name for name in reversed(made) if name in wanted),  # the state of the last step in front
        version=first.version,
        name=first.name,
    )
    taken = {node.name for node in inside}
    members = {name: nodes for name, nodes in current.members.items() if name not in taken}
    members[whole.name] = tuple(member for node in inside for member in current.members.get(node.name, (node,)))
    widths = {name: width for name, width in current.widths.items() if name not in taken} | {whole.name: width}
    return Unrolled(nodes=tuple(_sorted([*outside, whole])), members=members, widths=widths)


def _sorted(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield nodes in topological order, and else in the order in which they are given."""
    made_by = {name: at for at, node in enumerate(nodes) for name in node.outputs if name}
    needs = [{made_by[name] for name in node.inputs if name in made_by} for node in nodes]
    readers: dict[int, list[int]] = defaultdict(list)
    for at, above in enumerate(needs):
        for one in above:
            readers[one].append(at)
    missing = [len(above) for above in needs]
    ready = [at for at, count in enumerate(missing) if not count]
    while ready:
        at = heapq.heappop(ready)
        yield nodes[at]
        for reader in readers[at]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
