"""Copy learned queries and initial states for each sample, as exporters with an open batch do.

A learned query in attention (DETR, Perceiver, Q-Former) is a parameter of shape 1 x queries x width. Exported with an
open batch it is copied for each sample by an Expand. Exported at batch 1 it is not, and computations on it alone would
be folded: its projections would not be layers, and their MACs would not count. The same holds for the first state of an
unrolled recurrent layer, whose product with the recurrent weight is a layer as in the other steps. In one form, both
are one network:

    q (1 x 16 x 32)                        ->  Expand -> (N x 16 x 32)
    q @ Wq, a constant, @ keys (N x 32 x 50)   q @ Wq, N x 16 x 32,     @ keys
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from aznas_onnx.errors import AznasError
from aznas_onnx.graph.files.inputs import InputPlan
from aznas_onnx.graph.ir.graph import Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.graph.meaning.batch_axis import Reading
from aznas_onnx.graph.shapes.constant_evaluation import is_cheap
from aznas_onnx.operators import OPERATORS, Family
from aznas_onnx.operators.sets import (
    BROADCASTING,
    CONVOLUTIONS,
    LINEAR,
    MATRIX_PRODUCTS,
    PASSES_ON,
    POINTWISE,
    REPEATS,
    SOFTMAXES,
    TENSOR_PRODUCTS,
)

__all__ = ["with_queries_for_each_sample"]

_ONE_OPERAND = OPERATORS.where(
    lambda operator: (
        operator in POINTWISE
        or operator in PASSES_ON
        or operator in SOFTMAXES
        or operator.family in (Family.LAYER_NORMALIZATION, Family.REDUCTION)
    )
)
_VERSION = 17


def with_queries_for_each_sample(graph: Graph, found: Reading, read: Callable[[Graph], Reading]) -> Reading:
    """Copy learned queries for each sample, where the graph then runs at any batch size.

    - `graph`: The graph before the walks.
    - `found`: The graph with its batch found.
    - `read`: Finds the batch of a graph.

    Returns: `found` itself where there are no such queries, or where the graph does not run with copies of them.
    """
    primary, plan = found.plan.primary, found.plan
    if primary not in plan.batch_axes:
        return found
    infos = found.walks[-1]
    made = _constant_nodes(graph)
    queries = list(dict.fromkeys((*_queries(graph, made, infos), *_first_states(graph, made, infos))))
    for axis in (0, 1):
        chosen = {
            name: shape
            for name, shape in queries
            if len(shape) > 1 and (shape[axis] == 1 or _repeats(graph, name, shape, axis, plan.declared_batch))
        }
        if axis == 0 and not chosen:
            chosen = {name: (1, *shape) for name, shape in queries if len(shape) == 2}
        if chosen:
            try:
                reading = read(_copied(graph, chosen, axis, plan))
            except AznasError:
                continue
            if not reading.fixed_batch and reading.plan.batch_axes == plan.batch_axes:
                return reading
    return found


def _queries(graph: Graph, made: Mapping[str, Node], infos: TensorInfos) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the learned queries that attend to the samples, with their shapes."""
    for node in graph.nodes if made else ():
        fixed = [name for name in node.inputs if name in made]
        attends = node in TENSOR_PRODUCTS or node.is_op("Attention")
        if not attends or node.outputs[0] in made or not fixed:
            continue
        if all(name in made or name in graph.constants for name in node.inputs if name):
            continue
        for name in fixed:
            yield from _Cone(graph, made, infos).begins(name, is_left=name == node.inputs[0])


def _first_states(graph: Graph, made: Mapping[str, Node], infos: TensorInfos) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the constants that are multiplied by a weight with which data are multiplied, too, with their shapes."""
    fixed = made.keys() | graph.constants.keys()
    products = [node for node in graph.nodes if node in LINEAR or node.is_op("Conv")]
    if not any(node.inputs[0] in fixed for node in products):
        return
    weights = {node.inputs[1] for node in products if node.inputs[0] not in fixed and node.inputs[1] in fixed}
    for node in products:
        if node.inputs[0] in fixed and node.inputs[1] in weights:
            yield from _Cone(graph, made, infos).states(node.inputs[0])


def _repeats(graph: Graph, name: str, shape: tuple[int, ...], axis: int, batch: int) -> bool:
    """Whether a tensor is a constant copied along an axis for the batch that the file is written for."""
    node = graph.producers.get(name)
    while node is not None and node in PASSES_ON and shape[axis] == batch:
        if node in REPEATS:
            return True
        node = graph.producers.get(node.inputs[0])
    constant = graph.constants.get(name)
    if constant is None or shape[axis] != batch or not constant.is_float or not is_cheap(constant):
        return False
    assert constant.read is not None  # or it would not be cheap
    values = constant.read()
    return bool(np.array_equal(values, np.broadcast_to(values.take([0], axis), values.shape)))


def _constant_nodes(graph: Graph) -> Mapping[str, Node]:
    """Return the nodes that read constants alone, by their outputs."""
    made: dict[str, Node] = {}
    constants = graph.constants
    for node in graph.nodes:
        names = [name for name in node.inputs if name and name not in constants and name not in made]
        if not names and any(node.inputs) and not node.domain:
            made.update((name, node) for name in node.outputs if name)
    return made


class _Cone:
    """The constants that a constant is computed from."""

    def __init__(self, graph: Graph, made: Mapping[str, Node], infos: TensorInfos) -> None:
        self._graph = graph
        self._made = made
        self._infos = infos

    def begins(self, name: str, *, is_left: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield where it begins, if layers of weights were applied to trained constants; a matrix on the left only."""
        found: dict[str, tuple[int, ...]] = {}
        waiting, seen, is_multiplied = [name], {name}, False
        while waiting:
            one = waiting.pop()
            node = self._made.get(one)
            if node is None or self._only_moved(one):
                found[one] = self._shape(one)
                continue
            is_multiplied |= node in CONVOLUTIONS or node in MATRIX_PRODUCTS
            fresh = [above for above in self._operands(node) if above not in seen]
            seen.update(fresh)
            waiting += fresh
        trained = any(self._is_trained(one) for one in found)
        if is_multiplied and trained:
            yield from ((one, shape) for one, shape in found.items() if len(shape) > 2 or (is_left and len(shape) == 2))

    def states(self, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield where the first operand of a product begins, if it is a constant that was only moved."""
        shape = self._shape(name)
        if self._only_moved(name) and len(shape) > 1:
            yield name, shape

    def _shape(self, name: str) -> tuple[int, ...]:
        info = self._infos.get(name)
        return () if info is None or info.shape is None else info.shape

    def _only_moved(self, name: str) -> bool:
        """Whether a tensor is a constant that nodes have moved, or one that a shape made."""
        while name in self._made:
            node = self._made[name]
            if node.op_type == "ConstantOfShape":
                return True
            if node not in PASSES_ON:
                return False
            name = node.inputs[0]
        return True

    def _is_trained(self, name: str) -> bool:
        while name in self._made and self._made[name] in PASSES_ON:
            name = self._made[name].inputs[0]
        constant = self._graph.constants.get(name)
        return constant is not None and constant.is_float and constant.elements > 1

    def _operands(self, node: Node) -> list[str]:
        """Return the operands of a node that are data, not weights."""
        if node in _ONE_OPERAND or node.op_type == "Pow":
            return [node.inputs[0]]
        if node.op_type == "Gemm" or (node.op_type == "MatMul" and len(self._shape(node.inputs[1])) == 2):
            return [node.inputs[0]]
        if node in CONVOLUTIONS or node in MATRIX_PRODUCTS:
            return [name for name in node.inputs if len(self._shape(name)) > 2]
        if node in BROADCASTING:
            largest = max(math.prod(self._shape(name)) for name in node.inputs)
            return [name for name in node.inputs if math.prod(self._shape(name)) == largest]
        return []


def _copied(graph: Graph, queries: Mapping[str, tuple[int, ...]], axis: int, plan: InputPlan) -> Graph:
    """Return a graph with an Expand behind each of some tensors, which its readers read."""
    constants = dict(graph.constants)
    primary, batch_axis = plan.primary, plan.batch_axes[plan.primary]
    is_baked = not plan.batch_is_free and plan.declared_batch > 1  # then the original graph can have one row for each

    def vector(name: str, *values: int) -> str:
        constants[name] = Constant.of(np.array(values, dtype=np.int64))
        return name

    samples = f"{primary}/samples"
    start = _node("Shape", samples, primary, start=batch_axis, end=batch_axis + 1)
    renamed, copies = {name: f"{name}/for each sample" for name in queries}, dict[str, list[Node]]()
    for name, shape in queries.items():
        copy = renamed[name]
        sizes = [
            *([vector(f"{copy}/before", *shape[:axis])] if axis else []),
            samples,
            *([vector(f"{copy}/behind", *shape[axis + 1 :])] if shape[axis + 1 :] else []),
        ]
        ends = [vector(f"{copy}/{end}", value) for end, value in (("first", 0), ("one", 1), ("axis", axis))]
        one = _node("Slice", f"{copy}/once", name, *ends)
        copies[name] = [
            *([one] if is_baked else []),
            _node("Concat", f"{copy}/shape", *sizes, axis=0),
            _node("Expand", copy, one.outputs[0] if is_baked else name, f"{copy}/shape"),
        ]
    nodes = [start, *(node for name, made in copies.items() if name in graph.constants for node in made)]
    for node in graph.nodes:
        nodes.append(replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs)))
        nodes += [one for name in node.outputs for one in copies.get(name, ())]
    return replace(graph, nodes=tuple(nodes), constants=MappingProxyType(constants))


def _node(op_type: str, output: str, *inputs: str, **attributes: int) -> Node:
    return Node(
        op_type=op_type,
        inputs=inputs,
        outputs=(output,),
        version=_VERSION,
        name=output,
        attributes=MappingProxyType(dict(attributes)),
    )
