"""Find products with tables of relative positions and fuse them with those of attention."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from aznas_onnx.convert.optimise.grouped_look_ups import Array, GroupedLookUp, MixWithPositions, ScoresWithPositions
from aznas_onnx.convert.optimise.program_graph import ProgramGraph, Scaled, View
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.graph.ir.graph import Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["with_grouped_positions"]

_INDEX_ELEMENTS = 2**22
_MOST_NESTED = 4  # sums and transposes that make a table of look-ups


def with_grouped_positions(
    program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str], device: torch.device
) -> Program:
    """Return a program whose products with tables of relative positions are made by groups of keys.

    The patterns are, for each sample and head, with l for a query, t for a key, and one or several tables, the look-ups
    in which are added::

        scores[l, t] = q[l] . k[t] + q[l] . table[index[l, t]]                          ScoresWithPositions
        sum over t of weights[l, t] v[t]  and  of  weights[l, t] table[index[l, t]]     MixWithPositions

    written as in AutoFormer: products with the table that are batched over the queries, between transposes and
    reshapes. The sums can be scaled.

    - `program`: Compiled from `graph`, for `device`.
    - `infos`: Shapes of the graph's tensors.
    - `keep`: Tensors needed after the run, besides the program's outputs.
    """
    if not any(node.is_op("Gather") for node in graph.nodes):
        return program
    joined = {step.node: step for step in _TableSearch(program, graph, infos, keep, device).found()}
    if not joined:
        return program
    made = {name for step in joined.values() for name in step.outputs}
    steps = [joined.get(step.node, step) for step in program.steps]
    steps = [step for step in steps if step.node in joined or made.isdisjoint(step.outputs)]
    return replace(program, steps=_needed(steps, {*program.outputs, *keep}))


def _needed(steps: Iterable[Step], wanted: set[str]) -> tuple[Step, ...]:
    """Return the steps that make something that is wanted, or that a step reads that is needed."""
    needed: list[Step] = []
    for step in reversed(tuple(steps)):
        if not wanted.isdisjoint(step.outputs):
            needed.append(step)
            wanted.update(step.inputs)
    return tuple(reversed(needed))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A sum of look-ups for each pair of query and key: (queries, keys, width), or (queries, width, keys)."""

    names: tuple[str, ...]
    indices: tuple[str, ...]
    is_transposed: bool
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByQuery:
    """The first operand of a product that is batched over the queries.

    - `view`: Of (samples, heads, queries, ...).
    - `nodes`: A Transpose and a Reshape that make (queries, samples times heads, ...) of it.
    """

    view: View
    nodes: tuple[str, ...]


class _TableSearch:
    """Matches patterns in a program's nodes."""

    def __init__(
        self, program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str], device: torch.device
    ) -> None:
        self._program = ProgramGraph(program, graph, infos, keep)
        self._graph_constants: Mapping[str, Constant] = graph.constants
        self._device = device
        self._look_ups: dict[tuple[tuple[str, int], ...], GroupedLookUp | None] = {}

    def found(self) -> Iterable[Step]:
        """Yield the steps that take the place of others, each named as the last of those."""
        products = [node for node in self._program.nodes if node.is_op("MatMul")]
        by_head = [node for node in products if self._ranks(node) == {4}]
        mixes = {self._program.view(node.inputs[0]): node for node in by_head}
        for product in products:
            by_query = self._by_query(product.inputs[0]) if self._ranks(product) == {3} else None
            table = self._table(product.inputs[1]) if by_query is not None else None
            look_up = self._look_up(table) if table is not None and by_query is not None else None
            if table is None or by_query is None or look_up is None:
                continue
            if table.is_transposed:
                step = self._scores(product, table, by_query, look_up)
            else:
                step = self._mix(product, table, by_query, look_up, mixes.get(by_query.view))
            if step is not None:
                yield step

    # ---- the two products ---------------------------------------------------------------------------------------
    def _scores(self, product: Node, table: _Table, by_query: _ByQuery, look_up: GroupedLookUp) -> Step | None:
        """Join the product of queries and keys, that of queries and the table, and their sum."""
        program = self._program
        bias, behind = self._by_head(product, by_query)
        position = program.scaled_on(bias)
        addition = program.only_reader(position.name, "Add")
        if addition is None:
            return None
        plain = program.scaled_from(next((name for name in addition.inputs if name != position.name), ""))
        scores = program.maker(plain.name, "MatMul")
        if scores is None or len({program.shape(name) for name in (plain.name, bias, addition.outputs[0])}) > 1:
            return None
        if not self._are_by_head(scores):
            return None
        operands = (Scaled(name=scores.inputs[0]), program.scaled_from(scores.inputs[0]))
        queries = next((operand for operand in operands if program.view(operand.name) == by_query.view), None)
        if queries is None:
            return None
        total = program.scaled_on(addition.outputs[0])
        last = total.nodes[0] if total.nodes else addition.name
        nodes = {*table.nodes, *by_query.nodes, *behind, product.name, scores.name, addition.name}
        nodes.update(*(scaled.nodes for scaled in (position, plain, queries, total)))
        factor = plain.factor * queries.factor
        return Step(
            node=last,
            run=ScoresWithPositions(look_up, scale=factor * total.factor, position_scale=position.factor / factor),
            inputs=(queries.name, scores.inputs[1], *table.names),
            outputs=(total.name,),
            absorbed=program.in_order(nodes - {last}),
        )

    def _mix(
        self, product: Node, table: _Table, by_query: _ByQuery, look_up: GroupedLookUp, mix: Node | None
    ) -> Step | None:
        """Join the product of weights and values and that of weights and the table."""
        if mix is None or not self._are_by_head(mix) or not self._are_added(mix.outputs[0], product.outputs[0]):
            return None
        if self._program.shape(mix.outputs[0])[-1] != self._program.shape(product.outputs[0])[-1]:
            return None
        inputs, outputs = (*mix.inputs, *table.names), (mix.outputs[0], product.outputs[0])
        if not self._program.could_run_at(mix, inputs, outputs):
            return None
        return Step(
            node=mix.name,
            run=MixWithPositions(look_up),
            inputs=inputs,
            outputs=outputs,
            absorbed=self._program.in_order({*table.nodes, *by_query.nodes, product.name}),
        )

    def _are_by_head(self, product: Node) -> bool:
        """Whether both operands have the same samples and heads: none is shared by several."""
        left, right = map(self._program.shape, product.inputs)
        return len(left) == len(right) == 4 and left[:2] == right[:2]

    def _are_added(self, *names: str) -> bool:
        """Whether two tensors are read for their sum only, up to their memory layout.

        Otherwise the output of a block can depend on one of them alone, and would appear to depend on both.
        """
        sums = []
        for name in names:
            while (reader := self._program.only_reader(name, "Transpose", "Reshape")) is not None:
                name = reader.outputs[0]
            sums.append(self._program.only_reader(name, "Add"))
        return sums[0] is not None and sums[0] is sums[1]

    # ---- their operands -----------------------------------------------------------------------------------------
    def _table(self, name: str, nested: int = 0) -> _Table | None:
        """Find the look-ups that a tensor of three axes is the sum of."""
        node = self._program.maker(name, "Gather", "Transpose", "Add")
        if node is None or nested > _MOST_NESTED:
            return None
        if node.is_op("Gather"):
            is_rows = node.attributes.get("axis", 0) == 0 and self._ranks(node) == {2}
            table, index = node.inputs
            return (
                _Table(names=(table,), indices=(index,), is_transposed=False, nodes=(node.name,)) if is_rows else None
            )
        if node.is_op("Transpose"):
            part = self._table(node.inputs[0], nested + 1) if node.attributes.get("perm") == (0, 2, 1) else None
            if part is None:
                return None
            return replace(part, is_transposed=not part.is_transposed, nodes=(*part.nodes, node.name))
        left, right = (self._table(part, nested + 1) for part in node.inputs)
        if left is None or right is None or left.is_transposed != right.is_transposed:
            return None
        if self._program.shape(node.inputs[0]) != self._program.shape(node.inputs[1]):
            return None
        return _Table(
            names=left.names + right.names,
            indices=left.indices + right.indices,
            is_transposed=left.is_transposed,
            nodes=(*left.nodes, *right.nodes, node.name),
        )

    def _look_up(self, table: _Table) -> GroupedLookUp | None:
        """Find the groups of keys; None where they are not known, or too many."""
        rows = [self._program.shape(name)[0] for name in table.names]
        key = tuple(zip(table.indices, rows, strict=True))
        if key not in self._look_ups:
            indices = [index for index in map(self._index, table.indices) if index is not None]
            self._look_ups[key] = GroupedLookUp.of(indices, rows, self._device) if len(indices) == len(rows) else None
        return self._look_ups[key]

    def _index(self, name: str) -> Array | None:
        constant = self._graph_constants.get(name)
        if constant is None or constant.read is None or constant.elements > _INDEX_ELEMENTS:
            return None
        return constant.read()

    def _by_query(self, name: str) -> _ByQuery | None:
        """Recognise (queries, samples times heads, ...), made by a Transpose and a Reshape."""
        reshape = self._program.maker(name, "Reshape")
        transpose = None if reshape is None else self._program.maker(reshape.inputs[0], "Transpose")
        if reshape is None or transpose is None:
            return None
        before, after = self._program.shape(reshape.inputs[0]), self._program.shape(name)
        if len(before) != 4 or after != (before[0], before[1] * before[2], before[3]):
            return None
        view = self._program.view(reshape.inputs[0])
        queries, samples, heads, last = view.axes
        return _ByQuery(
            view=View(root=view.root, axes=(samples, heads, queries, last)), nodes=(transpose.name, reshape.name)
        )

    def _by_head(self, product: Node, by_query: _ByQuery) -> tuple[str, tuple[str, ...]]:
        """Follow a product that is batched over the queries to (samples, heads, queries, ...).

        Returns: The name, "" if the product has other readers, and the nodes on the way.
        """
        transpose = self._program.only_reader(product.outputs[0], "Transpose")
        if transpose is None or transpose.attributes.get("perm") != (1, 0, 2):
            return "", ()
        reshape = self._program.only_reader(transpose.outputs[0], "Reshape")
        if reshape is None:
            return "", ()
        root = self._program.shape(by_query.view.root)
        if self._program.shape(reshape.outputs[0])[:3] != tuple(root[axis] for axis in by_query.view.axes[:3]):
            return "", ()
        return reshape.outputs[0], (transpose.name, reshape.name)

    def _ranks(self, node: Node) -> set[int]:
        """Return the numbers of axes of a node's operands."""
        return {len(self._program.shape(name)) for name in node.inputs}
