"""The index of a graph during rewrites: nodes by operator, producers and readers of tensors, shapes and values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

from aznas_onnx.graph.constants.provenance import listed_parameters
from aznas_onnx.graph.ir.graph import Array, Constant, Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.shapes.constant_evaluation import is_cheap
from aznas_onnx.limits import spend

__all__ = ["READ_ELEMENTS", "GraphIndex"]

_WORK_AT_ONCE = 64  # that is not spent node by node
READ_ELEMENTS = 4096  # constants up to this size are read; larger ones are weights


class GraphIndex:
    """Questions about a graph and its tensors; :class:`~aznas_onnx.graph.rewrite.editor.Editor` adds the changes."""

    def __init__(self, graph: Graph, infos: TensorInfos | None = None, protected: Collection[str] = ()) -> None:
        self._graph = graph
        self._batch_size = 0 if infos is None else infos.batch_size
        self._infos: dict[str, TensorInfo] | None = None if infos is None else dict(infos.items())
        self._constants = dict(graph.constants)
        self._protected = {*protected, *graph.outputs}
        self._slots: list[list[Node]] = [[node] for node in graph.nodes]
        self._slot: dict[Node, int] = {node: index for index, node in enumerate(graph.nodes)}
        self._updated: dict[Node, Node] = {}

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
        work = 0
        for node in found:
            work += 1 + len(node.inputs)
            if work > _WORK_AT_ONCE:
                spend(node, work)
                work = 0
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
        known = self._by_operator
        return not known.keys().isdisjoint(operators) and any(known.get(operator) for operator in operators)

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
        """Whether a tensor can be removed with its one reader."""
        return self.sole_reader(name) is not None

    def is_protected(self, name: str) -> bool:
        """Whether a tensor has a fixed name."""
        return name in self._protected

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, or None where it is not known."""
        info = None if self._infos is None else self._infos.get(name)
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
        info = None if self._infos is None else self._infos.get(name)
        return info is not None and info.dtype.kind == "f"

    def constant(self, name: str) -> Constant | None:
        """Return a constant, or None where the tensor is something else."""
        return self._constants.get(name)

    def array(self, name: str) -> Array | None:
        """Return the data of a small constant; None for anything else."""
        constant = self._constants.get(name)
        if constant is None or constant.read is None or constant.elements > READ_ELEMENTS or not is_cheap(constant):
            return None
        return constant.read()

    def value(self, name: str) -> Array | None:
        """Return the value of any tensor that is known at the batch size at hand, constant or not."""
        info = None if self._infos is None else self._infos.get(name)
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

    # Entries that were neither requested nor changed are those of the graph.

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
