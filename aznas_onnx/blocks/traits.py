"""Traits of the nodes of a data graph, as sets of nodes.

Sets of nodes are integers used as bit sets: bit `i` is node `i`. Unions and counts over hundreds of nodes then take
nanoseconds, and the finder needs thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aznas_onnx.blocks.dataflow import INPUT, DataGraph
from aznas_onnx.blocks.operator_roles import is_depthwise, is_pointwise, is_product, is_recurrent, is_weighted
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.operators.sets import GLOBAL_POOLS, REDUCTIONS, SELECTS

__all__ = ["Traits", "bits", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Sets of nodes of a data graph.

    - `collapsed`: Nodes whose output has no positions left: after global pooling, a Flatten, or the choice of one
      token. Empty for a network of vectors, which has no positions.
    - `weighted`: Nodes with weights that are not collapsed; this excludes gates of squeeze-and-excitation and the
      classifier.
    - `depthwise`, `pointwise`: Nodes of `weighted` that process each channel, or each position, separately.
    - `recurrent`: Nodes of `weighted` that are recurrent layers.
    - `products`: Nodes that multiply two activations as matrices and thereby mix positions, except to pool them.
    """

    collapsed: int
    weighted: int
    depthwise: int
    pointwise: int
    recurrent: int
    products: int


def bits(nodes: int) -> list[int]:
    """Return the indices in a set of nodes, in topological order."""
    found = []
    while nodes:
        lowest = nodes & -nodes
        found.append(lowest.bit_length() - 1)
        nodes ^= lowest
    return found


def survey(data: DataGraph) -> Traits:
    """Find the traits of all nodes."""
    weighted = _select(data, lambda node: is_weighted(node, data.graph))
    collapsed, queried = _collapsed(data)
    if not weighted & ~collapsed:
        collapsed = queried = 0
    weighted &= ~collapsed
    depthwise = pointwise = 0
    for index in bits(weighted):
        depthwise |= int(is_depthwise(data.nodes[index], data.infos)) << index
        pointwise |= int(is_pointwise(data.nodes[index], data.infos)) << index
    per_position = data.model.layout.per_position
    mixing = _select(data, lambda node: is_product(node, data.graph) and node.name not in per_position)
    return Traits(
        collapsed=collapsed,
        weighted=weighted,
        depthwise=depthwise,
        pointwise=pointwise,
        recurrent=weighted & _select(data, is_recurrent),
        products=mixing & ~collapsed | queried,
    )


def _select(data: DataGraph, chosen: Callable[[Node], bool]) -> int:
    found = 0
    for index, node in enumerate(data.nodes):
        if chosen(node):
            found |= 1 << index
    return found


def _collapsed(data: DataGraph) -> tuple[int, int]:
    """Follow the samples tensor by tensor: one output of a Split can be the class token, the other the positions.

    - Returns `collapsed`: Nodes without positions.
    - Returns `queried`: Collapsed nodes in which a class token attends to the positions.
    """
    if len(data.shape(INPUT)) < 3:
        return 0, 0
    collapsed = {data.model.inputs.primary: False}
    found = queried = 0
    for index, node in enumerate(data.nodes):
        inputs = [name for name in node.inputs if name in collapsed]
        inherited = all(collapsed[name] for name in inputs)
        if not inherited and is_product(node, data.graph):
            inherited = collapsed.get(node.inputs[0], False) or _asks_once(data, node)
            queried |= int(inherited) << index
        outputs = [name for name in node.outputs if name and name in data.infos]
        for name in outputs:
            collapsed[name] = inherited or _collapses(data, node, name, inputs)
        if all(collapsed[name] for name in outputs):
            found |= 1 << index
    return found, queried


def _asks_once(data: DataGraph, node: Node) -> bool:
    """Whether one query that does not depend on the samples attends to all positions: pooling by attention."""
    shape = data.infos[node.inputs[0]].shape or ()
    return node.is_op("MatMul") and node.inputs[0] not in data.carried and shape[-2:-1] == (1,)


def _collapses(data: DataGraph, node: Node, output: str, inputs: list[str]) -> bool:
    shape = data.infos[output].shape or ()
    if is_recurrent(node):
        return False  # its last state summarises all steps
    if node in GLOBAL_POOLS:
        return True
    if len(shape) <= 2:  # a Flatten; tokens joined with the batch still have their positions
        return bool(shape) and data.model.keeps_batch(output)
    if data.positions_of(output) != 1 or is_weighted(node, data.graph):
        return False
    if node in REDUCTIONS:
        return data.channels_of(output) == data.channels_of(inputs[0])
    if (node in SELECTS or node.is_op("Concat")) and len(shape) > 3:
        return False  # the corners that patch merging takes from a small map
    return max(data.positions_of(name) or 1 for name in inputs) > 1
