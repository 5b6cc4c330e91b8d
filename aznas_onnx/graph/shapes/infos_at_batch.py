"""Tensor infos at another batch size without another walk, where every node keeps the batch on axis 0.

A graph needs infos at several batch sizes: the file's own, one that no other axis has, and that of the score. Most
image networks consist of operators that process each sample separately, and whose tensors have the batch on axis 0.
There the infos at another batch size are equal but for axis 0. The rules below admit an operator only where that
follows from its definition at every batch size; agreement at two sizes would be no proof. Graphs with other operators
are walked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.operators import Rules
from aznas_onnx.operators.sets import BROADCASTING, GLOBAL_POOLS, KEEPS_VALUES, POINTWISE, POOLS

__all__ = ["rebatched"]


def rebatched(
    graph: Graph, known: TensorInfos, batch_size: int, input_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, TensorInfo] | None:
    """Return the infos of the nodes' outputs at another batch size.

    Each admitted node has one output.

    - `graph`, `known`: A graph and its infos at some batch size.
    - `batch_size`, `input_shapes`: The other batch size, and the shapes of the inputs there.

    Returns: None where a node can mix samples or have the batch on another axis.
    """
    tensors = _Tensors(graph, known)
    for value in graph.inputs:
        shape = known[value.name].shape
        if not shape or shape[0] != known.batch_size or input_shapes[value.name] != (batch_size, *shape[1:]):
            return None
        tensors.batched.add(value.name)
    found: dict[str, TensorInfo] = {}
    moved: dict[TensorInfo, TensorInfo] = {}  # nodes share infos
    for node in graph.nodes:
        rule = _RULES.get(node.op_type) if node.is_standard else None
        output = node.outputs[0] if len(node.outputs) == 1 else ""
        if rule is None or not output or not rule(node, tensors):
            return None
        info = known[output]
        if info not in moved:
            if not info.shape or info.shape[0] != known.batch_size or info.value is not None:
                return None
            moved[info] = TensorInfo((batch_size, *info.shape[1:]), info.dtype)
        found[output] = moved[info]
        tensors.batched.add(output)
    return found


class _Tensors:
    """Input of the rules: shapes, and the tensors with the batch on axis 0. All other tensors so far are constants."""

    def __init__(self, graph: Graph, infos: TensorInfos) -> None:
        self.batched: set[str] = set()
        self._constants = graph.constants
        self._infos = infos

    def shape(self, name: str) -> tuple[int, ...]:
        return (self._infos[name].shape or ()) if name else ()

    def broadcasts(self, name: str, rank: int) -> bool:
        """Whether an operand gives its elements to samples one by one, or the same to all, in a result of a rank."""
        shape = self.shape(name)
        if name in self.batched:
            return len(shape) == rank
        return name in self._constants and (len(shape) < rank or (len(shape) == rank and shape[0] == 1))

    def target(self, name: str) -> list[int]:
        """Return the target of a Reshape; empty where it is not a known constant."""
        value = self._infos.value(name) if name in self._constants else None
        return [] if value is None else value.reshape(-1).tolist()


_Rule: TypeAlias = Callable[[Node, _Tensors], bool]
_RULES: Rules[_Rule] = Rules()


@_RULES.on("BatchNormalization", "Conv", *KEEPS_VALUES, *POOLS, *GLOBAL_POOLS, *POINTWISE)
def _sample_by_sample(node: Node, tensors: _Tensors) -> bool:
    """Operators that apply constants to each sample of the first operand."""
    return node.inputs[0] in tensors.batched and tensors.batched.isdisjoint(node.inputs[1:])


@_RULES.on(*BROADCASTING)
def _elementwise(node: Node, tensors: _Tensors) -> bool:
    """Arithmetic of tensors aligned from the right; old versions have an attribute for other alignments."""
    if node.attributes or tensors.batched.isdisjoint(node.inputs):
        return False
    ranks = {len(tensors.shape(name)) for name in node.inputs}
    if len(ranks) == 1 and tensors.batched.issuperset(node.inputs):  # most nodes
        return True
    rank = max(ranks)
    return all(tensors.broadcasts(name, rank) for name in node.inputs)


@_RULES.on("LayerNormalization", "Softmax")
def _along_an_axis(node: Node, tensors: _Tensors) -> bool:
    """Operators along one axis, if that is not the batch."""
    axis, rank = node.attributes.get("axis", -1), len(tensors.shape(node.inputs[0]))
    return isinstance(axis, int) and rank > 1 and axis % rank != 0 and _sample_by_sample(node, tensors)


@_RULES.on("Flatten")
def _flatten(node: Node, tensors: _Tensors) -> bool:
    return node.attributes.get("axis", 1) == 1 and _sample_by_sample(node, tensors)


@_RULES.on("Gemm")
def _gemm(node: Node, tensors: _Tensors) -> bool:
    bias = node.input(2)
    fits = not bias or tensors.broadcasts(bias, 2)
    return fits and not node.attributes.get("transA", 0) and _sample_by_sample(node, tensors)


@_RULES.on("MatMul")
def _matmul(node: Node, tensors: _Tensors) -> bool:
    left, right = node.inputs
    rank = len(tensors.shape(left))
    if right in tensors.batched:
        return left in tensors.batched and rank == len(tensors.shape(right)) > 2
    return len(tensors.shape(right)) == 2 <= rank and _sample_by_sample(node, tensors)


@_RULES.on("Transpose")
def _transpose(node: Node, tensors: _Tensors) -> bool:
    order = node.attributes.get("perm")
    return isinstance(order, tuple) and order[:1] == (0,) and _sample_by_sample(node, tensors)


@_RULES.on("Reshape")
def _reshape(node: Node, tensors: _Tensors) -> bool:
    """A target that copies axis 0, or infers it: the size of the batch, as in the result."""
    target = tensors.target(node.input(1))
    if target[:1] not in ([0], [-1]) or node.attributes.get("allowzero", 0):
        return False
    return 0 not in tensors.shape(node.inputs[0]) and _sample_by_sample(node, tensors)


@_RULES.on("Concat")
def _concat(node: Node, tensors: _Tensors) -> bool:
    axis, rank = node.attributes.get("axis", 1), len(tensors.shape(node.inputs[0]))
    return isinstance(axis, int) and tensors.batched.issuperset(node.inputs) and axis % rank != 0
