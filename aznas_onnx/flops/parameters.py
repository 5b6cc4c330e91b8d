"""Trainable parameters of a graph, assigned to the node that reads them first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from aznas_onnx.graph.evaluate import Deferred, is_cheap
from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import Array, Constant, Graph, Node
from aznas_onnx.graph.roles import Role, Use, is_table, is_vector, uses

__all__ = ["SIGNATURE_KEY", "distinct_elements", "factor_elements", "parameters"]

SIGNATURE_KEY = "pkg.torch.export.ExportedProgram.graph_signature"
_DECLARED = re.compile(r"PARAMETER target='([^']+)'")
_READ_ELEMENTS = 2**20  # larger tables are not searched for structure
_COPY_ELEMENTS = 2**24  # larger weights are not compared
_REPETITIONS = 8
_MAX_COORDINATES = 4
_BIASED = ("Conv", "ConvTranspose", "Gemm")  # operators with an optional bias, their third operand


def parameters(graph: Graph, facts: Facts) -> Mapping[str, int]:
    """Return the number of trainable elements that each node is the first to read, by node name.

    Weights of two or more axes count once, however many nodes read them; what was computed from them while the
    graph was folded (a relative position table gathered into a bias, a weight transposed) counts as what it was
    computed from. Vectors count at each use, because exporters store equal vectors of different layers once; but
    the bias of a weight that was counted before is that weight's bias again. Scalars do not count.
    """
    counting = _Counting(graph)
    for use in uses(graph, facts):
        if use.role.is_trainable:
            counting.add(use)
    for node in graph.nodes:
        counting.add_dropped_bias(node)
    return counting.found


class _Counting:
    def __init__(self, graph: Graph) -> None:
        self.found: dict[str, int] = {}
        self._graph = graph
        self._seen: set[str] = set()
        self._repeated: set[str] = set()  # nodes whose weight was counted before
        self._declared = frozenset(_DECLARED.findall(graph.metadata.get(SIGNATURE_KEY, "")))

    def add(self, use: Use) -> None:
        constant = self._graph.constants[use.name]
        if is_vector(constant) and not (use.role.is_weight or use.role in (Role.EMBEDDING, Role.POSITION)):
            is_new = not self._belongs_to_repeated_weight(use) and not self._is_added_bias(use, constant)
            elements = constant.elements if is_new else 0
        else:
            elements = self._shared(use, constant)
            if elements == 0 and use.role.is_weight:
                self._repeated.add(use.node.name)
        self.found[use.node.name] = self.found.get(use.node.name, 0) + elements

    def _belongs_to_repeated_weight(self, use: Use) -> bool:
        if use.role is not Role.BIAS:
            return False
        if use.node.name in self._repeated:
            return True
        producers = [self._graph.producers.get(name) for name in self._graph.activations(use.node)]
        return any(producer is not None and producer.name in self._repeated for producer in producers)

    def _shared(self, use: Use, constant: Constant) -> int:
        """Count the roots of a constant that no node before has read."""
        if use.name in self._seen:
            return 0
        roots = {name: root for name in sorted(constant.sources) if (root := self._graph.constants.get(name))}
        counted = roots or {use.name: constant}
        if len(roots) > 1:
            counted = _without_stand_ins(roots, constant) if use.role.is_weight else _without_coordinates(roots)
        elements = 0
        for name, root in counted.items():
            if name not in self._seen or (len(roots) > 1 and is_vector(root)):
                elements += _root_elements(root) if len(roots) > 1 else _sole_root_elements(root, constant, use)
        self._seen.update((use.name, *roots))
        return elements

    def _is_added_bias(self, use: Use, constant: Constant) -> bool:
        """Whether the exporter gave the node a bias of zeros that the network did not have."""
        if use.role is not Role.BIAS or not use.node.is_op(*_BIASED):
            return False
        return self._declares_bias(use.node) is False and constant.read is not None and not constant.read().any()

    def add_dropped_bias(self, node: Node) -> None:
        """Count a bias that the exporter removed because it was zero, as it does in networks never trained.

        It does so where the bias is an operand of the product itself; a Gemm may have become a MatMul since.
        """
        if not node.is_op("MatMul", *_BIASED) or node.input(2) or node.name in self._repeated:
            return
        if self._declares_bias(node) and not (node.is_op("MatMul") and self._is_shifted(node)):
            self.found[node.name] = self.found.get(node.name, 0) + _output_channels(
                node, self._graph.constants[node.inputs[1]]
            )

    def _is_shifted(self, node: Node) -> bool:
        """Whether a constant is added to what a node makes."""
        readers = self._graph.consumers.get(node.outputs[0], ())
        return any(reader.is_op("Add") and len(list(self._graph.activations(reader))) == 1 for reader in readers)

    def _declares_bias(self, node: Node) -> bool | None:
        """Return whether the network had a bias beside the weight of a node; None where the file does not say.

        PyTorch's exporter lists the parameters that the network had in the graph's metadata, and keeps the name of
        a weight.
        """
        weight = self._graph.constants.get(node.input(1))
        stems = [] if weight is None else [name[: -len("weight")] for name in weight.sources if name in self._declared]
        return any(f"{stem}bias" in self._declared for stem in stems) if stems else None


def _output_channels(node: Node, weight: Constant) -> int:
    if node.is_op("Conv"):
        return weight.shape[0]
    if node.is_op("ConvTranspose"):
        groups = node.attributes.get("group", 1)
        assert isinstance(groups, int)  # the checker has seen the attribute's type
        return weight.shape[1] * groups
    return weight.shape[0 if node.attributes.get("transB", 0) else -1]


def _sole_root_elements(root: Constant, constant: Constant, use: Use) -> int:
    """Return the trainable elements of the only root of a constant."""
    if root.elements != constant.elements:
        return root.elements
    if use.role is Role.POSITION:
        return distinct_elements(constant)
    return distinct_rows(constant) if use.node.is_op("Einsum") and use.role.is_weight else root.elements


def _without_stand_ins(roots: Mapping[str, Constant], weight: Constant) -> dict[str, Constant]:
    """Drop what is no parameter of its own from the roots of a weight.

    Weight standardisation is exported as a batch normalisation of the weight: with the same weight in two layouts (one
    to normalise, one to take mean and variance of), and with a scale of ones and a shift of zeros.
    """
    dropped = _idle_affine(weight)
    kept: dict[str, Constant] = {}
    copies: list[tuple[float, float]] = []
    for name, root in roots.items():
        values = _read(root, _COPY_ELEMENTS) if root.elements == weight.elements else None
        if values is not None:
            # The sums of values and of their squares are the same in any layout, but for rounding.
            sums = float(values.sum(dtype=np.float64)), float(np.square(values, dtype=np.float64).sum())
            if any(np.allclose(sums, others, rtol=1e-9, atol=1e-9 * sums[1]) for others in copies):
                continue
            copies.append(sums)
        if name not in dropped:
            kept[name] = root
    return kept


def _idle_affine(constant: Constant) -> frozenset[str]:
    """Return the roots of scales of ones and shifts of zeros in normalisations that a constant went through."""
    found: frozenset[str] = frozenset()
    steps, seen = [constant], set[int]()
    while steps:
        read = steps.pop().read
        if not isinstance(read, Deferred) or id(read) in seen:
            continue
        seen.add(id(read))
        steps.extend(operand for operand in read.inputs if operand is not None)
        if read.node.is_op("BatchNormalization", "InstanceNormalization"):
            for operand, idle in zip(read.inputs[1:3], (1.0, 0.0), strict=True):
                values = None if operand is None else _read(operand, _READ_ELEMENTS)
                if operand is not None and values is not None and bool((values == idle).all()):
                    found |= operand.sources
    return found


def _without_coordinates(roots: Mapping[str, Constant]) -> dict[str, Constant]:
    """Drop tables of coordinates, distances or sines from the roots of a position table.

    A small network on them made it. Each of their values occurs many times, because it depends on a row or a column
    only; trained values do not repeat. One value alone is a table that was never trained, and says nothing.
    """
    kept: dict[str, Constant] = {}
    for name, root in roots.items():
        values = None if is_vector(root) else _read(root, _READ_ELEMENTS)
        distinct = 1 if values is None else np.unique(values).size
        if not 2 <= distinct <= root.elements // _REPETITIONS:
            kept[name] = root
    return kept


def _read(constant: Constant, limit: int) -> Array | None:
    """Return the data of a constant of floats where it can be had in a moment, else None."""
    if not constant.is_float or constant.elements > limit or not is_cheap(constant):
        return None
    assert constant.read is not None  # or it would not be cheap
    return constant.read()


def _root_elements(root: Constant) -> int:
    """Return the trainable elements of one root of several: no factors, index tables, masks or coordinates."""
    if root.elements == 1 or not root.is_float or is_table(root):
        return 0
    return factor_elements(root)


def distinct_elements(table: Constant) -> int:
    """Return how many elements a position table has but for repeated columns.

    An exporter that gathers a small relative position table into the bias of each pair of positions leaves a large
    constant in which each column of the table (its first axes: the heads) occurs many times. A table with one
    distinct column was never trained, and says nothing.
    """
    if not is_cheap(table) or table.elements > _READ_ELEMENTS or math.prod(table.shape[:-2]) < 2:
        return table.elements
    assert table.read is not None  # or it would not be cheap
    positions = math.prod(table.shape[-2:])
    columns = table.read().reshape(-1, positions)
    distinct = np.unique(columns, axis=1).shape[1]
    return columns.shape[0] * distinct if 1 < distinct <= positions // 2 else table.elements


def distinct_rows(table: Constant) -> int:
    """Return how many elements a table of vectors has but for repeated ones.

    An exporter that gathers the 55 relative positions of 28 queries and 28 keys leaves a table of 28 × 28 vectors.
    """
    if not is_cheap(table) or table.elements > _READ_ELEMENTS or len(table.shape) < 3:
        return table.elements
    assert table.read is not None  # or it would not be cheap
    rows = table.read().reshape(-1, table.shape[-1])
    distinct = np.unique(rows, axis=0).shape[0]
    return distinct * rows.shape[1] if 1 < distinct <= len(rows) // 2 else table.elements


def factor_elements(table: Constant) -> int:
    """Return how many elements a table has that an exporter multiplied out: fixed coordinates times a weight.

    A continuous position bias is a small network on the coordinates of each pair of positions. Its first layer on
    two coordinates becomes a table of rank two, in which only the weight's rows were trained. Sixteen of the table's
    rows show that.
    """
    if not is_cheap(table) or table.elements > _READ_ELEMENTS or len(table.shape) < 3:
        return table.elements
    assert table.read is not None  # or it would not be cheap
    rows = table.read().reshape(-1, table.shape[-1])
    if min(rows.shape) < 4 * _MAX_COORDINATES:
        return table.elements
    spread = rows[np.linspace(0, len(rows) - 1, 4 * _MAX_COORDINATES).astype(np.int64)]
    rank = int(np.linalg.matrix_rank(spread))
    return rank * rows.shape[1] if 2 <= rank <= _MAX_COORDINATES else table.elements
