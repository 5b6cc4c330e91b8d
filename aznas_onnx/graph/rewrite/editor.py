"""Edit a graph: nodes stay sorted, unused ones are removed, and tensor infos stay complete.

A new node gets the position of the node that it replaces, so the order stays topological as long as a rewrite replaces
the last node of its pattern: all inputs of the pattern come earlier. Unread nodes are removed at once, so a rewrite can
test "has one reader" at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Array, Constant, Graph, Node, Storage
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.rewrite.graph_index import READ_ELEMENTS, GraphIndex
from aznas_onnx.graph.shapes.shape_inference import infer

__all__ = ["Editor"]


class Editor(GraphIndex):
    """A graph during a rewrite.

    - `graph`: Never changed; :meth:`finish` returns a new one.
    - `infos`: Infos of `graph`; None before shapes are known, and then new nodes get none.
    - `protected`: Tensors with a fixed name, which stay the output of a node; the graph's outputs always do.
    """

    def __init__(self, graph: Graph, infos: TensorInfos | None = None, protected: Collection[str] = ()) -> None:
        super().__init__(graph, infos, protected)
        self._counts: dict[str, int] = {}  # requests per name, so that each fresh name is found at once
        self.modified = False

    def assume(self, name: str, like: str) -> None:
        """Declare that a new tensor has the info of a known one, which saves shape inference."""
        if self._infos is not None and like in self._infos:
            info = self._infos[like]
            self._infos[name] = TensorInfo(info.shape, info.dtype)

    @cached_property
    def _names(self) -> set[str]:
        """The names that the graph had, and those that were taken since."""
        outputs = (name for node in self._graph.nodes for name in node.outputs if name)
        return {*outputs, *self._graph.constants, *(node.name for node in self._graph.nodes), *self.inputs}

    def unique(self, hint: str) -> str:
        """Return a name that nothing has yet, and take it."""
        name, count = hint, self._counts.get(hint, 1)
        while name in self._names:
            count += 1
            name = f"{hint}#{count}"
        self._names.add(name)
        self._counts[hint] = count
        return name

    def add_constant(self, constant: Constant, hint: str) -> str:
        """Add a constant and return its name."""
        name = self.unique(hint)
        self._constants[name] = constant if constant.sources else replace(constant, sources=frozenset({name}))
        if self._infos is not None:
            value = self.array(name) if constant.elements <= READ_ELEMENTS else None
            self._infos[name] = TensorInfo(constant.shape, constant.dtype, value)
        return name

    def add_array(self, array: Array, hint: str) -> str:
        """Add an array as a constant without parameter role (shape operand, scalar) and return its name."""
        return self.add_constant(replace(Constant.of(array), storage=Storage.NOWHERE), hint)

    def add_integers(self, values: Sequence[int], hint: str) -> str:
        """Add an int64 vector and return its name."""
        return self.add_array(np.array(values, dtype=np.int64), hint)

    def replace(self, node: Node, *new: Node) -> None:
        """Replace a node by others, which together make every output of it that is read."""
        self._put(node, new, is_replaced=True)
        for name in dict.fromkeys(node.inputs):
            self._prune(name)
        missing = [name for name in node.outputs if name and name not in self._producers and self._readers.get(name)]
        assert not missing, f"{node.name} was replaced, but {missing} is still read"

    def insert(self, node: Node, *new: Node) -> None:
        """Insert nodes before one."""
        self._put(node, new, is_replaced=False)

    def _put(self, node: Node, new: Sequence[Node], *, is_replaced: bool) -> None:
        self.modified = True
        slot = self._slot[node]
        place = self._slots[slot].index(node)
        self._slots[slot][place : place + is_replaced] = new
        if is_replaced:
            self._unregister(node)
        for added in new:
            self._slot[added] = slot
            self._register(added)
            self._infer(added)

    def remove(self, *nodes: Node) -> None:
        """Remove nodes whose outputs another one is about to make."""
        self.modified = True
        for node in nodes:
            self._slots[self._slot[node]].remove(node)
            self._unregister(node)
            for name in node.inputs:
                self._prune(name)

    def substitute(self, node: Node, name: str) -> bool:
        """Replace the first output of `node` by tensor `name`, and remove the node.

        Where the output has a fixed name, `name` is renamed instead.

        Returns: False, without effect, where both names are fixed.
        """
        output = node.outputs[0]
        producer = self._producers.get(name)
        if output in self._protected and (name in self._protected or producer is None):
            return False
        self.modified = True
        if output not in self._protected:
            self._redirect(output, name)
            self._prune(output)
            return True
        assert producer is not None
        self._slots[self._slot[node]].remove(node)
        self._unregister(node)
        renamed = tuple(output if out == name else out for out in producer.outputs)
        self.update(producer, outputs=renamed)
        self._redirect(name, output)
        for operand in node.inputs:
            self._prune(operand)
        return True

    def _redirect(self, old: str, new: str) -> None:
        for reader in self.readers(old):
            self.update(reader, inputs=tuple(new if name == old else name for name in reader.inputs))

    def update(self, node: Node, **changes: Any) -> Node:
        """Change fields of a node that leave the shapes of its outputs as they are; return what takes its place."""
        self.modified = True
        changed = replace(node, **changes)
        slot = self._slot[node]
        self._slots[slot][self._slots[slot].index(node)] = changed
        self._unregister(node)
        self._updated[node] = changed
        self._slot[changed] = slot
        self._register(changed)
        if changed.inputs != node.inputs:
            kept = set(changed.inputs)
            for name in dict.fromkeys(name for name in node.inputs if name not in kept):
                self._prune(name)
        return changed

    def finish(self) -> Graph:
        """Return the graph as it is now; the given one where nothing was changed."""
        if not self.modified:
            return self._graph
        nodes = tuple(node for slot in self._slots for node in slot)
        used = {name for node in nodes for name in node.inputs} | self._protected
        roots = {root for name in used if name in self._constants for root in self._constants[name].sources}
        constants = {name: constant for name, constant in self._constants.items() if name in used or name in roots}
        return replace(self._graph, nodes=nodes, constants=MappingProxyType(constants))

    def infos(self, graph: Graph) -> TensorInfos:
        """Return the infos of the graph that :meth:`finish` returned."""
        assert self._infos is not None, "the editor was made without infos"
        names = [*graph.constants, *(value.name for value in graph.inputs)]
        names += [name for node in graph.nodes for name in node.outputs if name]
        return TensorInfos({name: self._infos[name] for name in names}, self._batch_size)

    def _prune(self, name: str) -> None:
        """Remove the node of an unread tensor, and nodes that only it read."""
        pending = [name]
        while pending:
            node = self._producers.get(pending.pop())
            if node is None or any(out in self._protected or self._readers.get(out) for out in node.outputs if out):
                continue
            slot = self._slots[self._slot[node]]
            slot.remove(node)
            self._unregister(node)
            pending.extend(name for name in node.inputs if name)

    def _infer(self, node: Node) -> None:
        if self._infos is None or all(name in self._infos for name in node.outputs if name):
            return
        inputs = [self._infos[name] if name else None for name in node.inputs]
        for name, info in zip(node.outputs, infer(node, inputs), strict=True):
            if name:
                self._infos.setdefault(name, info)
