"""Trainable parameters of a graph, assigned to the node that reads them first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from aznas_onnx.costs.weight_sharing import Sharing
from aznas_onnx.graph.constants.content import Content, content_of, is_table, is_uniform, read, varying
from aznas_onnx.graph.constants.provenance import Provenance
from aznas_onnx.graph.ir.graph import Constant, Graph, LookUp, Node
from aznas_onnx.graph.ir.uniform_constants import is_filled
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, Use, is_vector, uses
from aznas_onnx.graph.shapes.constant_evaluation import Deferred
from aznas_onnx.operators import OPERATORS, InputRole
from aznas_onnx.operators.sets import RECURRENT

__all__ = ["distinct_elements", "factor_elements", "parameters"]

_COPY_ELEMENTS = 2**24  # larger weights are not compared
_REPETITIONS = 8
_MAX_COORDINATES = 4
# Operators with an optional bias, their third operand.
_BIASED = OPERATORS.where(lambda operator: operator.inputs[2:3] == (InputRole.BIAS,))
_VECTORS = (
    ConstantRole.BIAS,
    ConstantRole.NORM_SCALE,
    ConstantRole.NORM_SHIFT,
    ConstantRole.SCALE,
    ConstantRole.DECAY,
    ConstantRole.SLOPE,
)


def parameters(graph: Graph, look_ups: Iterable[LookUp] = ()) -> Mapping[str, int]:
    """Return the number of trainable elements that each node is the first to read, by node name.

    `look_ups` are nodes that inputs replace; they precede those of the graph.

    A parameter counts once for all nodes that read it and all copies of an exporter (`weight_sharing` finds them). A
    folded constant (a relative position table gathered into a bias, a transposed weight) counts as the constants that
    it was computed from.
    """
    trainable = [use for use in uses(graph) if use.role.is_trainable]
    counting = _Counting(graph, trainable)
    for look_up in look_ups:
        counting.add_look_up(look_up)
    for use in trainable:
        counting.add(use)
    counting.add_dropped_biases()
    return counting.found


class _Counting:
    def __init__(self, graph: Graph, trainable: Sequence[Use]) -> None:
        self.found: dict[str, int] = {}
        self._graph = graph
        self._seen: set[str] = set()
        self._computed_with: set[str] = set()  # single numbers that others were computed from
        self._provenance = Provenance(graph)
        self._sharing = Sharing(graph, trainable, self._provenance)

    def add_look_up(self, look_up: LookUp) -> None:
        """Count the table of a look-up, unless it is sinusoids."""
        table = look_up.table
        is_new = table not in self._seen and self._sharing.is_new_matrix(table, look_up.constant, is_table=True)
        self._seen.add(table)
        if is_new and content_of(look_up.constant) is not Content.FORMULA:
            self.found[look_up.node] = look_up.constant.elements

    def add(self, use: Use) -> None:
        constant = self._graph.constants[use.name]
        if use.role in _VECTORS and (constant.elements == 1 or is_vector(constant) or use.node in RECURRENT):
            is_new = not self._is_added_bias(use, constant) and self._is_new_vector(use, constant)
            elements = _vector_elements(use, constant) * self._copies(constant) if is_new else 0
        else:
            elements = self._shared(use, constant)
        self.found[use.node.name] = self.found.get(use.node.name, 0) + elements

    def _is_new_vector(self, use: Use, constant: Constant) -> bool:
        """Whether a vector, or the one that it was computed from, was not met before."""
        roots = {name: root for name, root in self._roots(constant).items() if root.elements == constant.elements}
        name, root = next(iter(roots.items())) if len(roots) == 1 else (use.name, constant)
        if self._provenance.copies(name) > 1:
            is_new = name not in self._seen
            self._seen.add(name)
            return is_new
        known = self._sharing.is_new_numbers(name, root)
        if known is None and constant.elements == 1 and (name != use.name or name in self._computed_with):
            known = name not in self._seen  # such as a power and its reciprocal
            self._computed_with.add(name)
        self._seen.add(name)
        return self._sharing.is_new_place(use) if known is None else known

    def _shared(self, use: Use, constant: Constant) -> int:
        """Count the roots of a constant that no node before has read."""
        if use.name in self._seen:
            return 0
        roots = self._roots(constant)
        counted = roots or {use.name: constant}
        if len(roots) > 1:
            counted = _without_stand_ins(roots, constant) if use.role.is_weight else _without_coordinates(roots)
        elements = 0
        for name, root in counted.items():
            if self._is_new_root(use, name, root, is_alone=len(roots) <= 1):
                counts = _root_elements(root) if len(roots) > 1 else _sole_root_elements(root, constant, use)
                elements += counts * self._provenance.copies(name)
        self._seen.update((use.name, *roots))
        return elements

    def _is_new_root(self, use: Use, name: str, root: Constant, *, is_alone: bool) -> bool:
        is_weight = is_alone and use.role.is_weight  # never expanded, and most of what there is to read
        has_one_axis = is_vector(root) if is_weight else _has_one_axis(root)
        known = self._sharing.is_new_numbers(name, root) if has_one_axis else None
        if known is not None:
            return known
        if not is_alone and (is_vector(root) or self._provenance.is_left_out(name)):
            return is_vector(root) and not self._provenance.is_left_out(name)
        is_table = use.role is ConstantRole.EMBEDDING
        return name not in self._seen and self._sharing.is_new_matrix(name, root, is_table=is_table)

    def _copies(self, constant: Constant) -> int:
        return max((self._provenance.copies(name) for name in constant.sources), default=1)

    def _roots(self, constant: Constant) -> dict[str, Constant]:
        return {name: root for name in sorted(constant.sources) if (root := self._graph.constants.get(name))}

    def _is_added_bias(self, use: Use, constant: Constant) -> bool:
        """Whether the exporter gave the node a bias of zeros that the network did not have."""
        if use.role is not ConstantRole.BIAS or use.node not in _BIASED:
            return False
        declared = self._provenance.declares_bias(self._graph.constants.get(use.node.input(1)))
        return declared is False and constant.read is not None and not constant.read().any()

    def add_dropped_biases(self) -> None:
        """Count the biases that the exporter removed because they were zero, as it does in networks never trained."""
        for node in self._graph.nodes if self._provenance.lists_parameters else ():
            self._add_dropped_bias(node)

    def _add_dropped_bias(self, node: Node) -> None:
        """Count the bias that the exporter removed from a node, if it did.

        It does so where the bias is an operand of the product itself; a Gemm can have become a MatMul since.
        """
        if not (node.is_op("MatMul") or node in _BIASED) or node.input(2) or self._sharing.repeats(node):
            return
        weight = self._graph.constants.get(node.inputs[1])
        if weight is None or not self._provenance.declares_bias(weight):
            return
        if not (node.is_op("MatMul") and self._is_shifted(node)):
            self.found[node.name] = self.found.get(node.name, 0) + _output_channels(node, weight)

    def _is_shifted(self, node: Node) -> bool:
        """Whether a constant is added to the output of a node."""
        readers = self._graph.consumers.get(node.outputs[0], ())
        return any(reader.is_op("Add") and len(list(self._graph.activations(reader))) == 1 for reader in readers)


def _has_one_axis(root: Constant) -> bool:
    """Whether a constant varies along one axis only: a vector, or one that an exporter expanded."""
    if is_vector(root) or is_filled(root):
        return is_vector(root)
    values = read(root)
    if values is None or is_uniform(values):
        return False
    return [size > 1 for size in varying(values).shape].count(True) == 1


def _vector_elements(use: Use, constant: Constant) -> int:
    if use.role is ConstantRole.BIAS and use.node in RECURRENT:
        return _bias_elements(use.node, constant)
    return constant.elements


def _bias_elements(node: Node, constant: Constant) -> int:
    """Return the trained elements of a recurrent operator's bias, which is one for the input and one for the state.

    Frameworks with one bias fill the other with zeros: per gate, zeros beside other numbers are no parameter. Two
    biases of zeros count once, except in a GRU that resets after the product, which needs two.
    """
    values, hidden = read(constant), node.attributes.get("hidden_size")
    if values is None or not isinstance(hidden, int) or constant.elements % (2 * hidden):
        return constant.elements
    used = np.any(values.reshape(-1, 2, values.shape[-1] // (2 * hidden), hidden), axis=-1)
    both = np.all(used, axis=1)
    if node.attributes.get("linear_before_reset", 0):
        both |= ~np.any(used, axis=1)
    return int(np.where(both, 2, 1).sum()) * hidden


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
        return _varying_elements(root)
    if use.role is ConstantRole.POSITION:
        return distinct_elements(constant)
    return distinct_rows(constant) if use.node.is_op("Einsum") and use.role.is_weight else root.elements


def _without_stand_ins(roots: Mapping[str, Constant], weight: Constant) -> dict[str, Constant]:
    """Drop roots of a weight that are not separate parameters.

    Weight standardisation is exported as a batch normalisation of the weight: with the same weight in two layouts (one
    to normalise, one for mean and variance), and with a scale of ones and a shift of zeros.
    """
    dropped = _idle_affine(weight)
    kept: dict[str, Constant] = {}
    copies: list[tuple[float, float]] = []
    for name, root in roots.items():
        values = read(root, _COPY_ELEMENTS) if root.elements == weight.elements else None
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
    """Return the roots of scales of ones and shifts of zeros in normalisations of a constant."""
    found: frozenset[str] = frozenset()
    steps, seen = [constant], set[int]()
    while steps:
        made = steps.pop().read
        if not isinstance(made, Deferred) or id(made) in seen:
            continue
        seen.add(id(made))
        steps.extend(operand for operand in made.inputs if operand is not None)
        if made.node.is_op("BatchNormalization", "InstanceNormalization"):
            for operand, idle in zip(made.inputs[1:3], (1.0, 0.0), strict=True):
                values = None if operand is None else read(operand)
                if operand is not None and values is not None and bool((values == idle).all()):
                    found |= operand.sources
    return found


def _without_coordinates(roots: Mapping[str, Constant]) -> dict[str, Constant]:
    """Drop tables of coordinates, distances or sines from the roots of a position table.

    A small network computed the table from them. Each of their values occurs many times, because it depends on a row or
    a column only; trained values do not repeat. A table of one value is untrained and no evidence.
    """
    kept: dict[str, Constant] = {}
    for name, root in roots.items():
        values = None if is_vector(root) else read(root)
        distinct = 1 if values is None else np.unique(values).size
        if not 2 <= distinct <= root.elements // _REPETITIONS:
            kept[name] = root
    return kept


def _root_elements(root: Constant) -> int:
    """Return the trainable elements of one root of several: no factors, index tables, masks or coordinates."""
    if root.elements == 1 or not root.is_float or is_table(root):
        return 0
    if content_of(root, repeats=False) is Content.FORMULA:
        return 0
    return min(factor_elements(root), _varying_elements(root))


def _varying_elements(root: Constant) -> int:
    """Return the number of elements of a root, without those that an exporter repeated."""
    values = None if is_filled(root) else read(root)
    if values is None or is_uniform(values):
        return root.elements
    return varying(values).size


def distinct_elements(table: Constant) -> int:
    """Return the number of elements of a position table without repetitions.

    An exporter that expands a table to each sample, or gathers a small relative position table into the bias of each
    pair of positions, leaves a large constant in which each row, or each column of the table (its first axes: the
    heads), occurs many times. A table of one value is untrained and no evidence.
    """
    values = None if is_filled(table) else read(table)
    if values is None or is_uniform(values):
        return table.elements
    core = varying(values)
    if math.prod(core.shape[:-2]) < 2:
        return core.size
    positions = math.prod(core.shape[-2:])
    columns = core.reshape(-1, positions)
    distinct = np.unique(columns, axis=1).shape[1]
    return columns.shape[0] * distinct if 1 < distinct <= positions // 2 else core.size


def distinct_rows(table: Constant) -> int:
    """Return the number of elements of a table of vectors without repetitions.

    An exporter that gathers the 55 relative positions of 28 queries and 28 keys leaves a table of 28 × 28 vectors.
    """
    values = read(table) if len(table.shape) > 2 else None
    if values is None:
        return table.elements
    rows = values.reshape(-1, table.shape[-1])
    distinct = np.unique(rows, axis=0).shape[0]
    return distinct * rows.shape[1] if 1 < distinct <= len(rows) // 2 else table.elements


def factor_elements(table: Constant) -> int:
    """Return how many elements a table has that an exporter multiplied out: fixed coordinates times a weight.

    A continuous position bias is a small network on the coordinates of each pair of positions. Its first layer on
    two coordinates becomes a table of rank two, in which only the weight's rows were trained. Sixteen of the table's
    rows show that.
    """
    values = read(table) if len(table.shape) > 2 else None
    if values is None:
        return table.elements
    rows = values.reshape(-1, table.shape[-1])
    if min(rows.shape) < 4 * _MAX_COORDINATES:
        return table.elements
    spread = rows[np.linspace(0, len(rows) - 1, 4 * _MAX_COORDINATES).astype(np.int64)]
    rank = int(np.linalg.matrix_rank(spread))
    return rank * rows.shape[1] if 2 <= rank <= _MAX_COORDINATES else table.elements
