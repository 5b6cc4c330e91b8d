"""Makers and readers of the tensors of a program, and which tensors are views or multiples of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from aznas_onnx.convert.program import Program
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["Scaled", "View", "ProgramGraph"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A tensor as a transpose of another: axis i of it is axis ``axes[i]`` of `root`."""

    root: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """A tensor times a known number, and the nodes that multiply."""

    name: str
    factor: float = 1.0
    nodes: tuple[str, ...] = ()


class ProgramGraph:
    """The nodes that a program runs.

    - `program`: Compiled from `graph`.
    - `infos`: Shapes of the graph's tensors.
    - `keep`: Tensors needed after the run, besides the program's outputs. Derivatives can be by any of these, so no
      pattern extends across one: the steps that read it have to stay.
    """

    def __init__(self, program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str]) -> None:
        by_name = {node.name: node for node in graph.nodes}
        self.nodes = tuple(by_name[step.node] for step in program.steps)
        self._infos = infos
        self._constants = program.constants
        self._place = {node.name: place for place, node in enumerate(self.nodes)}
        self._made = {name: node for node in self.nodes for name in node.outputs if name}
        self._kept = {*keep, *program.outputs}
        self._readers: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in filter(None, node.inputs):
                self._readers[name].append(node)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape; none at all where it depends on data."""
        info = self._infos.get(name)
        return () if info is None or info.shape is None else info.shape

    def maker(self, name: str, *op_types: str) -> Node | None:
        """Return the node that makes a tensor, if it is one of `op_types`."""
        node = None if name in self._kept else self._made.get(name)
        return node if node is not None and node.is_op(*op_types) else None

    def only_reader(self, name: str, *op_types: str) -> Node | None:
        """Return the node that reads a tensor, if there is but one, and it is one of `op_types`."""
        readers = self._readers.get(name, ())
        return readers[0] if len(readers) == 1 and name not in self._kept and readers[0].is_op(*op_types) else None

    def could_run_at(self, node: Node, inputs: Iterable[str], outputs: Iterable[str]) -> bool:
        """Whether a step in the place of `node` has its inputs computed, and its outputs not yet read."""
        place = self._place[node.name]
        makers = (self._made[name] for name in inputs if name in self._made)
        readers = (reader for name in outputs for reader in self._readers[name])
        return all(self._place[maker.name] < place for maker in makers) and all(
            self._place[reader.name] > place for reader in readers
        )

    def in_order(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Sort names of nodes as they are run."""
        return tuple(sorted(nodes, key=self._place.__getitem__))

    def view(self, name: str) -> View:
        """Follow a tensor back through transposes."""
        axes = tuple(range(len(self.shape(name))))
        while (node := self.maker(name, "Transpose")) is not None:
            perm = node.attributes.get("perm", tuple(reversed(range(len(axes)))))
            assert isinstance(perm, tuple)
            axes = tuple(perm[axis] for axis in axes)
            name = node.inputs[0]
        return View(root=name, axes=axes)

    def scaled_on(self, name: str) -> Scaled:
        """Return the product of a tensor with a number where that is all that is read, otherwise the tensor itself."""
        reader = self.only_reader(name, "Mul", "Div")
        factor = None if reader is None else self._factor(reader, name)
        if reader is None or factor is None:
            return Scaled(name=name)
        return Scaled(name=reader.outputs[0], factor=factor, nodes=(reader.name,))

    def scaled_from(self, name: str) -> Scaled:
        """Return the tensor that a tensor is a known multiple of, which can be the tensor itself."""
        node = self.maker(name, "Mul", "Div")
        for operand in () if node is None else node.inputs:
            factor = None if node is None else self._factor(node, operand)
            if node is not None and factor is not None:
                return Scaled(name=operand, factor=factor, nodes=(node.name,))
        return Scaled(name=name)

    def _factor(self, node: Node, tensor: str) -> float | None:
        """Return the factor of a Mul or Div, if it is a number that is not random and not zero."""
        if self.shape(node.outputs[0]) != self.shape(tensor) or (node.is_op("Div") and node.inputs[0] != tensor):
            return None
        other = next((name for name in node.inputs if name != tensor), "")
        known = self._constants.get(other)
        if known is None or known.is_meta or known.numel() != 1 or not known.is_floating_point():
            return None
        number = float(known)
        if number == 0:
            return None
        return 1 / number if node.is_op("Div") else number
