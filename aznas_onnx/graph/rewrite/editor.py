"""Edit a graph: nodes stay sorted, unused ones are removed, and tensor infos stay complete.

A new node gets the position of the node that it replaces, so the order stays topological as long as a rewrite replaces
the last node of its pattern: all inputs of the pattern come earlier. Unread nodes are removed at once, so a rewrite can
test "has one reader" at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from aznas_onnx.graph.constants.provenance import listed_parameters
from aznas_onnx.graph.ir.graph import Array, Constant, Graph, Node, Storage
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.shapes.constant_evaluation import is_cheap
from aznas_onnx.graph.shapes.shape_inference import infer
from aznas_onnx.limits import spend

__all__ = ["Editor"]

_READ_ELEMENTS = 4096  # constants up to this size are read; larger ones are weights


class Editor:
    """A graph during a rewrite.

    Parameters
    ----------
    graph
        Never changed; :meth:`finish` returns a new one.
    infos
        Infos of `graph`; None before shapes are known, and then new nodes get none.
    protected
        Tensors with a fixed name, which stay the output of a node; the graph's outputs always do.
    """

    def __init__(self, graph: Graph, infos: TensorInfos | None = None, protected: Collection[str] = ()) -> None:
        self._graph = graph
        self._batch_size = 0 if infos is None else infos.batch_size
        self._facts: dict[str, TensorInfo] | None = None if infos is None else dict(infos.items())
        self._constants = dict(graph.constants)
        self._protected = {*protected, *graph.outputs}
        self._slots: list[list[Node]] = [[node] for node in graph.nodes]
        self._slot: dict[Node, int] = {node: index for index, node in enumerate(graph.nodes)}
        self._updated: dict[Node, Node] = {}
        self._counts: dict[str, int] = {}  # requests per name, so that each fresh name is found at once
        self.modified = False

    # What there is

    @property
    def metadata(self) -> Mapping[str, str]:
        """The model's metadata."""
        return self._graph.metadata

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters that the file lists; none where it lists none."""
        return listed_parameters(self.metadata)

    @property
    def batch_size(self) -> int:
        """The batch size that shapes are for."""
        return self._batch_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(value.name for value in self._graph.inputs)

    def nodes(self, *operators: str) -> Iterator[Node]:
        """Yield the nodes of these operators (with their domain, as messages print it), as they are now.

        Nodes that a rewrite removes or adds meanwhile are left out. Without arguments all nodes are yielded, in
        graph order.
        """
        if not operators:
            found = [node for slot in self._slots for node in slot]
        else:
            found = [node for operator in operators for node in self._by_operator.get(operator, ())]
            found.sort(key=self._slot.__getitem__)
        for node in found:
            spend(node, 1 + len(node.inputs))
            if node in self._slot:
                yield node
                continue
            current = self.current(node)
            if current is not None and (not operators or current.operator in operators):
                yield current

    def current(self, node: Node) -> Node | None:
        """Return the current state of a node after rewrites of others; None where it was removed."""
        while node in self._updated:
            node = self._updated[node]
        return node if node in self._slot else None

    def has(self, *operators: str) -> bool:
        """Whether there is any node of these operators."""
        return any(self._by_operator.get(operator) for operator in operators)

    def producer(self, name: str) -> Node | None:
        """Return the node that makes a tensor; None for inputs and constants."""
        return self._producers.get(name)

    def readers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that read a tensor."""
        found = tuple(self._readers.get(name, ()))
        spend(None, len(found))
        return found

    def position(self, node: Node) -> tuple[int, int]:
        """Return the position of a node in topological order."""
        slot = self._slot[node]
        return slot, self._slots[slot].index(node)

    def sole_reader(self, name: str) -> Node | None:
        """Return the one node that reads a tensor; None where several do, none does, or the tensor is protected."""
        readers = self._readers.get(name, ())
        return next(iter(readers)) if len(readers) == 1 and name not in self._protected else None

    def is_private(self, name: str) -> bool:
        """Whether a tensor may disappear once its one reader does."""
        return self.sole_reader(name) is not None

    def is_protected(self, name: str) -> bool:
        """Whether a tensor has a fixed name."""
        return name in self._protected

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, or None where it is not known."""
        info = None if self._facts is None else self._facts.get(name)
        if info is not None:
            return info.shape
        constant = self._constants.get(name)
        return None if constant is None else constant.shape

    def rank(self, name: str) -> int | None:
        """Return the number of axes of a tensor, or None where it is not known."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def declared_rank(self, name: str) -> int | None:
        """Return the number of axes that the file declares for an input of the graph; None for anything else."""
        shape = next((value.shape for value in self._graph.inputs if value.name == name), None)
        return None if shape is None else len(shape)

    def is_float(self, name: str) -> bool:
        """Whether a tensor is known to be of a float type."""
        info = None if self._facts is None else self._facts.get(name)
        return info is not None and info.dtype.kind == "f"

    def constant(self, name: str) -> Constant | None:
        """Return a constant, or None where the tensor is something else."""
        return self._constants.get(name)

    def array(self, name: str) -> Array | None:
        """Return the data of a small constant; None for anything else."""
        constant = self._constants.get(name)
        if constant is None or constant.read is None or constant.elements > _READ_ELEMENTS or not is_cheap(constant):
            return None
        return constant.read()

    def value(self, name: str) -> Array | None:
        """Return the value of any tensor that is known at the batch size at hand, constant or not."""
        info = None if self._facts is None else self._facts.get(name)
        return None if info is None else info.value

    def scalar(self, name: str) -> float | None:
        """Return the value of a constant of one element, else None.

        A vector whose elements are all equal is not a scalar: it can be an untrained scale.
        """
        value = self.array(name)
        if value is None or value.size != 1 or value.dtype.kind not in "fiu":
            return None
        return float(value.reshape(())[()])

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return an integer constant as a tuple; None for anything else."""
        value = self.array(name)
        return None if value is None or value.dtype.kind not in "iu" else tuple(int(v) for v in value.reshape(-1))

    # Changes

    def assume(self, name: str, like: str) -> None:
        """Declare that a new tensor has the info of a known one, which saves shape inference."""
        if self._facts is not None and like in self._facts:
            info = self._facts[like]
            self._facts[name] = TensorInfo(info.shape, info.dtype)

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
        if self._facts is not None:
            value = self.array(name) if constant.elements <= _READ_ELEMENTS else None
            self._facts[name] = TensorInfo(constant.shape, constant.dtype, value)
        return name

    def add_array(self, array: Array, hint: str) -> str:
        """Add an array as a constant without parameter role (shape operand, scalar) and return its name."""
        return self.add_constant(replace(Constant.of(array), storage=Storage.NOWHERE), hint)

    def add_integers(self, values: Sequence[int], hint: str) -> str:
        """Add an int64 vector and return its name."""
        return self.add_array(np.array(values, dtype=np.int64), hint)

    def replace(self, node: Node, *new: Node) -> None:
        """Replace a node by nodes that together compute all of its outputs that are read."""
        self.modified = True
        slot = self._slot[node]
        place = self._slots[slot].index(node)
        self._slots[slot][place : place + 1] = new
        self._unregister(node)
        for added in new:
            self._slot[added] = slot
            self._register(added)
            self._infer(added)
        for name in dict.fromkeys(node.inputs):
            self._prune(name)
        self._forget(node)

    def insert(self, node: Node, *new: Node) -> None:
        """Put nodes in front of one."""
        self.modified = True
        slot = self._slot[node]
        place = self._slots[slot].index(node)
        self._slots[slot][place:place] = new
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

        Returns
        -------
        bool
            False, without effect, where both names are fixed.
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
        assert self._facts is not None, "the editor was made without facts"
        names = [*graph.constants, *(value.name for value in graph.inputs)]
        names += [name for node in graph.nodes for name in node.outputs if name]
        return TensorInfos({name: self._facts[name] for name in names}, self._batch_size)

    # Book-keeping. Entries that were neither requested nor changed are those of the graph.

    @cached_property
    def _by_operator(self) -> dict[str, dict[Node, None]]:
        found: dict[str, dict[Node, None]] = {}
        for node in self._graph.nodes:
            found.setdefault(node.operator, {})[node] = None
        return found

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return dict(self._graph.producers)

    @cached_property
    def _readers(self) -> dict[str, dict[Node, None]]:
        found: dict[str, dict[Node, None]] = {}
        for node in self._graph.nodes:
            for name in node.inputs:
                if name in found:
                    found[name][node] = None
                elif name:
                    found[name] = {node: None}
        return found

    def _register(self, node: Node) -> None:
        self._by_operator.setdefault(node.operator, {})[node] = None
        for name in node.outputs:
            if name:
                self._producers[name] = node
        for name in node.inputs:
            if name:
                self._readers.setdefault(name, {})[node] = None

    def _unregister(self, node: Node) -> None:
        del self._slot[node]
        del self._by_operator[node.operator][node]
        for name in node.outputs:
            if self._producers.get(name) is node:
                del self._producers[name]
        for name in dict.fromkeys(node.inputs):
            if name:
                del self._readers[name][node]

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
        if self._facts is None or all(name in self._facts for name in node.outputs if name):
            return
        inputs = [self._facts[name] if name else None for name in node.inputs]
        for name, info in zip(node.outputs, infer(node, inputs), strict=True):
            if name:
                self._facts.setdefault(name, info)

    def _forget(self, node: Node) -> None:
        """Check the contract: every tensor that is read has a maker."""
        missing = [name for name in node.outputs if name and name not in self._producers and self._readers.get(name)]
        assert not missing, f"{node.name} was replaced, but {missing} is still read"
