"""Restore folded look-ups in position tables, so that the table is initialised and not each look-up.

The attention bias of each pair of tokens is looked up in a table with a row per distance, and folding turns the look-up
into one large constant. Random numbers for each element of that constant would be another network: pairs at one
distance would not share their number, and a sum of two tables would have the variance of one. It would also be slow:
AutoFormer's tables have 3,840 elements per layer and purpose, the folded constants 2.5 million.

    Gather(table_v, index) + Gather(table_h, index), folded: (197, 197, 64)
    spread_out                                             : two Gathers and an Add again, on two (30, 64) tables
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from aznas_onnx.graph.ir.graph import Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, uses
from aznas_onnx.operators.sets import MOVES_DATA

__all__ = ["unfold_tables"]

_ROLES = (ConstantRole.POSITION, ConstantRole.LINEAR_WEIGHT)  # a table on keys or values is the operand of a product
_INDEX_ELEMENTS = 2**22


def unfold_tables(graph: Graph, infos: TensorInfos) -> tuple[Graph, TensorInfos]:
    """Restore the nodes that look up positions in tables, each before the first node that reads its output.

    - `graph`: Canonical; its constants have the nodes that they were folded from.
    - `infos`: Of that graph.

    - Returns `graph`: Computes the same. It has nodes on constants alone, so it is for compiling only.
    - Returns `infos`: Of the new graph.
    """
    names = dict.fromkeys(use.name for use in uses(graph) if use.role in _ROLES)
    restored = _Restored(graph)
    wanted = {name for name in names if restored.add(name)}
    if not wanted:
        return graph, infos
    nodes: list[Node] = []
    for node in graph.nodes:
        for name in node.inputs:
            if name in wanted:
                nodes += restored.taken(name)
        nodes.append(node)
    constants = {name: constant for name, constant in graph.constants.items() if name not in restored.made}
    constants.update(restored.leaves)
    known = {**infos, **restored.infos()}
    return replace(graph, nodes=tuple(nodes), constants=MappingProxyType(constants)), TensorInfos(
        known, infos.batch_size
    )


class _Restored:
    """Nodes that compute constants, by the constant's name, and their operands."""

    def __init__(self, graph: Graph) -> None:
        self.made: dict[str, Constant] = {}
        self.leaves: dict[str, Constant] = {}
        self._graph = graph
        self._pending: dict[str, Node] = {}

    def add(self, name: str) -> bool:
        """Restore a constant, if it was looked up in tables and only moved and added since."""
        made: dict[str, Constant] = {}
        leaves: dict[str, Constant] = {}
        constant = self._graph.constants[name]
        if name in self._graph.outputs or not self._collect(name, constant, made, leaves):
            return False
        if not any(_is_look_up(entry) for entry in made.values()):
            return False
        for made_name, entry in made.items():
            if made_name not in self.made and entry.origin is not None:
                self.made[made_name] = entry
                self._pending[made_name] = entry.origin.node
        self.leaves.update(leaves)
        return True

    def _collect(self, name: str, constant: Constant, made: dict[str, Constant], leaves: dict[str, Constant]) -> bool:
        """Find the nodes that a constant was made by, down to parameters and indices; False where that fails."""
        if name in self._graph.producers or any(name == value.name for value in self._graph.inputs):
            return False
        if not constant.is_float:
            leaves[name] = constant
            return constant.read is not None and constant.elements <= _INDEX_ELEMENTS
        if constant.sources == {name}:
            leaves[name] = constant
            return True
        origin = constant.origin
        # A causal mask can be in the table.
        moves = origin is not None and (origin.node in MOVES_DATA or origin.node.is_op("Add", "Where"))
        if origin is None or not moves or len(origin.node.outputs) > 1:
            return False
        operands = zip(origin.node.inputs, origin.inputs, strict=True)
        if not all(not part or (entry and self._collect(part, entry, made, leaves)) for part, entry in operands):
            return False
        made[name] = constant
        return True

    def taken(self, name: str) -> list[Node]:
        """Return the nodes that make a constant, in order, without those that were returned before."""
        node = self._pending.pop(name, None)
        if node is None:
            return []
        return [*(found for part in node.inputs for found in self.taken(part)), node]

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return the infos of the new tensors."""
        found = {
            name: TensorInfo(constant.shape, constant.dtype) for name, constant in (self.made | self.leaves).items()
        }
        for name, constant in self.leaves.items():
            if not constant.is_float and constant.read is not None:
                found[name] = TensorInfo(constant.shape, constant.dtype, constant.read())
        return found


def _is_look_up(constant: Constant) -> bool:
    """Whether a constant is larger than the table that it was gathered from, or repeats it for each sample."""
    origin = constant.origin
    if origin is None or not origin.node.is_op("Gather", "Tile") or origin.inputs[0] is None:
        return False
    table = origin.inputs[0]
    if origin.node.is_op("Tile"):
        return any(1 < size < made for size, made in zip(table.shape, constant.shape, strict=True))
    return constant.elements > table.elements
