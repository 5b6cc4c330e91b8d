"""The role of each float constant: weight, bias, normalisation vector, position table, or fixed.

Counting parameters and initialising weights both use the role. Three questions decide it, in this order:

1. *How is it used?* A ``nn.Linear`` weight arrives as the constant operand of a MatMul, a class token as one of the
   operands of a Concat. The use gives the parameter that the constant can be.
2. *Where does it come from?* Some files list which constants are parameters
   (:mod:`~aznas_onnx.graph.constants.provenance`).
3. *Which numbers does it have?* Numbers that follow a formula were computed, not trained (`content`). This decides only
   where the use leaves it open: a bias of a convolution is a bias with any numbers.

docs/counting.md has the table. Where the file does not decide, :func:`role_doubts` returns a warning.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from weakref import WeakKeyDictionary

import numpy as np

from aznas_onnx.caches import register_cache
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.constants.content import Content, content, content_of, is_mask, is_uniform, read
from aznas_onnx.graph.constants.provenance import Provenance, Source
from aznas_onnx.graph.ir.graph import Array, Constant, Graph, Node, Storage
from aznas_onnx.operators import CUSTOM_OPERATORS, OPERATORS, Family, InputRole, Operator, OperatorSet
from aznas_onnx.operators.sets import (
    ARITHMETIC,
    CONVOLUTIONS,
    ELEMENTWISE,
    LINEAR,
    MATRIX_PRODUCTS,
    NORMALIZATIONS,
    PASSES_ON,
)

__all__ = ["ConstantRole", "Use", "is_vector", "role_doubts", "roles", "uses"]


class ConstantRole(str, enum.Enum):
    """The role of a float constant in the operator that reads it."""

    CONV_WEIGHT = "convolution weight"
    LINEAR_WEIGHT = "linear weight"
    RECURRENT_WEIGHT = "recurrent weight"
    EMBEDDING = "embedding"  # a table that the input indexes
    BIAS = "bias"
    NORM_SCALE = "normalisation scale"
    NORM_SHIFT = "normalisation shift"
    NORM_MEAN = "running mean"
    NORM_VARIANCE = "running variance"
    POSITION = "position"  # position embedding, relative position table, class token
    SCALE = "scale"  # factors: layer scale, attention temperature
    DECAY = "decay"  # factors in an exponent: the state matrix of Mamba
    SLOPE = "slope"  # of PReLU
    FIXED = "fixed"  # numbers in the code, masks, coordinate and frequency tables, preprocessing

    @property
    def is_trainable(self) -> bool:
        """Whether an optimiser would update it."""
        return self not in (ConstantRole.NORM_MEAN, ConstantRole.NORM_VARIANCE, ConstantRole.FIXED)

    @property
    def is_weight(self) -> bool:
        """Whether it is the operand of multiply-adds."""
        return self in (ConstantRole.CONV_WEIGHT, ConstantRole.LINEAR_WEIGHT, ConstantRole.RECURRENT_WEIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One float constant as one node reads it."""

    node: Node
    index: int
    name: str
    role: ConstantRole


# What the operators' own roles of their inputs are for constants; weights differ by family.
_BY_INPUT: Mapping[InputRole | None, ConstantRole] = {
    InputRole.BIAS: ConstantRole.BIAS,
    InputRole.SCALE: ConstantRole.NORM_SCALE,
    InputRole.SHIFT: ConstantRole.NORM_SHIFT,
    InputRole.MEAN: ConstantRole.NORM_MEAN,
    InputRole.VARIANCE: ConstantRole.NORM_VARIANCE,
    InputRole.SLOPE: ConstantRole.SLOPE,
    InputRole.TABLE: ConstantRole.EMBEDDING,
    InputRole.MASK: ConstantRole.POSITION,  # which is where a relative position table enters
}
_WEIGHTS = {
    Family.CONVOLUTION: ConstantRole.CONV_WEIGHT,
    Family.LINEAR: ConstantRole.LINEAR_WEIGHT,
    Family.RECURRENT: ConstantRole.RECURRENT_WEIGHT,
}
_ON_SCORES = OPERATORS.where(lambda operator: operator in ELEMENTWISE or operator in PASSES_ON)  # behind a mask
_FAR, _WIDE, _DEEP = 6, 64, 12  # limit on nodes between a constant and the operator that decides its use
_MASKS = "constants of one value ({} of them) are added to attention scores for all heads alike, and taken for masks"
_IDLE = (
    "scales and shifts of InstanceNormalization ({} of them) are ones and zeros, and taken for what the exporter "
    "wrote; those of a network that was not trained yet look the same"
)
_STATISTICS = (ConstantRole.NORM_MEAN, ConstantRole.NORM_VARIANCE)
_STATISTIC_FOR = {ConstantRole.SCALE: ConstantRole.NORM_VARIANCE, ConstantRole.BIAS: ConstantRole.NORM_MEAN}
_AFFINE = (ConstantRole.NORM_SCALE, ConstantRole.NORM_SHIFT)
# Tables that follow a formula although the file lists them as parameters: they are not optimised.
_FROZEN = (ConstantRole.POSITION, ConstantRole.EMBEDDING, ConstantRole.CONV_WEIGHT)


def roles(graph: Graph) -> Mapping[str, ConstantRole]:
    """Return the role of every float constant that has one.

    A constant that several nodes read in different roles gets the first, in graph order, that is not
    :attr:`ConstantRole.FIXED`.
    """
    found: dict[str, ConstantRole] = {}
    for use in uses(graph):
        if found.get(use.name, ConstantRole.FIXED) is ConstantRole.FIXED:
            found[use.name] = use.role
    return MappingProxyType(found)


def uses(graph: Graph) -> tuple[Use, ...]:
    """Return each use of a float constant, in graph order; numbers of one element only where they have a role.

    The graph is in canonical form.
    """
    return _judged(graph).uses


def role_doubts(graph: Graph) -> tuple[str, ...]:
    """Return a warning for each group of constants whose role the file does not decide."""
    return _judged(graph).doubts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    uses: tuple[Use, ...]
    doubts: tuple[str, ...]


_known: WeakKeyDictionary[Graph, _Judged] = WeakKeyDictionary()
register_cache(
    f"{__name__}._known",
    None,
    "counting MACs and initialising weights need the uses of the same graph",
    size=_known.__len__,
    clear=_known.clear,
)


def _judged(graph: Graph) -> _Judged:
    known = _known.get(graph)
    if known is None:
        analysis = _Analysis(graph)
        found = tuple(analysis.uses())
        known = _known[graph] = _Judged(uses=found, doubts=tuple(analysis.doubts()))
    return known


def is_vector(constant: Constant) -> bool:
    """Whether a constant has one axis only, those of size one not counted."""
    return len(constant.shape) - constant.shape.count(1) == 1


class _Analysis:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._provenance = Provenance(graph)
        self._doubts: Counter[str] = Counter()

    def uses(self) -> Iterator[Use]:
        constants = dict(self._graph.constants)
        for node in self._graph.nodes:
            for index, name in enumerate(node.inputs):
                constant = constants.get(name)
                if constant is not None and constant.is_float and constant.elements:
                    role = self._role(node, index, name, constant)
                    if constant.elements > 1 or role is not ConstantRole.FIXED:
                        yield Use(node=node, index=index, name=name, role=role)

    def doubts(self) -> Iterator[str]:
        for sentence, count in self._doubts.items():
            if count:
                yield sentence.format(count)

    def _role(self, node: Node, index: int, name: str, constant: Constant) -> ConstantRole:
        role = self._by_use(node, index, constant, 0)
        if role is ConstantRole.FIXED or role in _STATISTICS:
            return role
        source = self._provenance.of(name, is_weight=role.is_weight)
        if source is Source.WRITTEN:
            return _STATISTIC_FOR.get(role, ConstantRole.FIXED) if _is_measured(constant) else ConstantRole.FIXED
        if constant.elements == 1 and not self._is_trained_number(node, index, role, source):
            return ConstantRole.FIXED
        if node.is_op("Div") and source is Source.UNKNOWN:
            return ConstantRole.NORM_VARIANCE if _is_measured(constant) else ConstantRole.FIXED
        if role in _AFFINE and node in NORMALIZATIONS:
            return ConstantRole.FIXED if self._is_idle(node, index, constant, source) else role
        is_fixed = self._is_first_state(name, constant, role) or self._is_computed(node, index, constant, role, source)
        return ConstantRole.FIXED if is_fixed else role

    # How it is used

    def _by_use(self, node: Node, index: int, constant: Constant, depth: int) -> ConstantRole:
        if node.unknown:  # for any operator
            return ConstantRole.BIAS if is_vector(constant) else ConstantRole.LINEAR_WEIGHT
        if node in PASSES_ON and index == 0:
            return self._of_reader(node, constant, depth)
        if node in LINEAR and index == 0 and node.input(1) in self._graph.constants:
            # Of two constants one is a layer's input: queries or a state behind their copies.
            return ConstantRole.POSITION
        if node.is_op("Concat"):
            return ConstantRole.POSITION if constant.elements > 1 else ConstantRole.FIXED
        if node.is_op("Einsum") and (_sums_over_none(node) or is_vector(constant)):
            return self._factor(node)
        return self._elementwise(node, index, constant) if _is_arithmetic(node) else _by_input(node, index, constant)

    def _of_reader(self, node: Node, constant: Constant, depth: int) -> ConstantRole:
        """Return the role of a constant that reaches its reader through operators that only move it."""
        if depth > _DEEP:
            return ConstantRole.FIXED
        for output in node.outputs:
            for reader in self._graph.consumers.get(output, ()):
                role = self._by_use(reader, reader.inputs.index(output), constant, depth + 1)
                if role is not ConstantRole.FIXED:
                    return role
        return ConstantRole.FIXED

    def _elementwise(self, node: Node, index: int, constant: Constant) -> ConstantRole:
        is_table = len(constant.shape) - constant.shape.count(1) > 1
        if not is_table and node.inputs[1 - index] in self._raw:
            return ConstantRole.FIXED  # preprocessing: mean and standard deviation of the colours
        if node.op_type == "Add":
            return ConstantRole.POSITION if is_table else ConstantRole.BIAS
        if node.op_type == "Sub" and is_table and node.inputs[1 - index] not in self._raw:
            return ConstantRole.POSITION  # centres of clusters
        if node.op_type == "Mul":
            return self._factor(node)
        if constant.elements == 1:
            return (
                ConstantRole.FIXED if index == 0 else ConstantRole.BIAS if node.op_type == "Sub" else ConstantRole.SCALE
            )
        if index == 0 or is_table or node.op_type == "Pow":
            return ConstantRole.FIXED
        return ConstantRole.NORM_MEAN if node.op_type == "Sub" else ConstantRole.SCALE

    def _factor(self, node: Node) -> ConstantRole:
        return ConstantRole.DECAY if self._leads_to("Exp", node, PASSES_ON) else ConstantRole.SCALE

    def _leads_to(self, operator: str, node: Node, by: OperatorSet) -> bool:
        """Whether the output of a node reaches an operator through a few others."""
        pending = [node]
        for _ in range(_FAR):
            outputs = [output for each in pending for output in each.outputs if output]
            readers = [reader for output in outputs for reader in self._graph.consumers.get(output, ())]
            if any(reader.is_op(operator) for reader in readers):
                return True
            pending = [reader for reader in dict.fromkeys(readers) if reader in by]
            if len(pending) > _WIDE:
                break
        return False

    @cached_property
    def _raw(self) -> frozenset[str]:
        return _raw_tensors(self._graph)

    def _is_trained_number(self, node: Node, index: int, role: ConstantRole, source: Source) -> bool:
        if role in (ConstantRole.EMBEDDING, ConstantRole.POSITION):
            return False
        if _is_arithmetic(node) or node in PASSES_ON:
            return source is not Source.UNKNOWN or (node.is_op("Add") and self._is_bias_of_one_output(node, index))
        return True

    def _is_bias_of_one_output(self, node: Node, index: int) -> bool:
        """Whether a number is added to the product of a layer with one output."""
        product = self._product_before(node, index)
        if product is None:
            return False
        weight = self._graph.constants.get(product.inputs[1])
        if weight is None:
            return False
        filters_first = product.is_op("Conv") or bool(product.attributes.get("transB", 0))
        axis = 0 if filters_first else 1 if product.is_op("ConvTranspose") else -1
        return len(weight.shape) > 1 and weight.shape[axis] == 1

    def _product_before(self, node: Node, index: int) -> Node | None:
        """Return the node that multiplies with weights, without a bias, whose output is the other operand."""
        name = node.inputs[1 - index]
        for _ in range(_FAR):
            maker = self._graph.producers.get(name)
            if maker is None:
                return None
            if maker in CONVOLUTIONS or maker in MATRIX_PRODUCTS:
                is_weighted = any(operand in self._graph.constants for operand in maker.inputs[:2])
                return maker if is_weighted and not maker.input(2) else None
            if maker not in PASSES_ON:
                return None
            name = maker.inputs[0]
        return None

    # What it holds

    def _is_first_state(self, name: str, constant: Constant, role: ConstantRole) -> bool:
        """Whether a constant is the initial state of a recurrent network.

        It is a row of zeros that a layer multiplies, or a factor in a file that lists the parameters without it.
        """
        if role is ConstantRole.POSITION and len(constant.shape) == 2 and is_vector(constant):
            values = read(constant)
            return values is not None and not values.any()
        if role not in (ConstantRole.SCALE, ConstantRole.POSITION) or not self._provenance.is_left_out(name):
            return False
        return self._provenance.explains_all or (role is ConstantRole.SCALE and not is_vector(constant))

    def _is_computed(self, node: Node, index: int, constant: Constant, role: ConstantRole, source: Source) -> bool:
        """Whether a formula made the numbers of a constant, as far as its use leaves that open."""
        if source is Source.TRAINED and role not in _FROZEN:
            return False
        if role is ConstantRole.POSITION and (node.is_op("Attention") or self._leads_to("Softmax", node, _ON_SCORES)):
            return self._is_mask(node, constant)
        if not self._is_open(node, index, constant, role):
            return False
        if role is ConstantRole.CONV_WEIGHT and _is_filter(read(constant)):
            return True
        return self._follows_a_formula(constant, repeats=role is not ConstantRole.CONV_WEIGHT)

    def _follows_a_formula(self, constant: Constant, *, repeats: bool = True) -> bool:
        """Whether all sources of a constant do; quantised numbers always repeat."""
        roots = [self._graph.constants[name] for name in constant.sources if name in self._graph.constants]
        contents = {content_of(root, repeats=repeats) for root in roots or [constant] if root.elements > 1}
        return Content.FORMULA in contents and contents <= {Content.FORMULA, Content.UNIFORM}

    def _is_open(self, node: Node, index: int, constant: Constant, role: ConstantRole) -> bool:
        """Whether an operand of a node can also be a computed table."""
        if role is ConstantRole.CONV_WEIGHT:
            return constant.shape[1] == 1 or (constant.shape[0] == 1 and len(constant.shape) > 2)
        if role is ConstantRole.BIAS:
            return node.is_op("Add") and self._product_before(node, index) is None
        if role is ConstantRole.DECAY:
            return is_vector(constant)
        return role in (ConstantRole.LINEAR_WEIGHT, ConstantRole.EMBEDDING, ConstantRole.POSITION, ConstantRole.SCALE)

    def _is_mask(self, node: Node, constant: Constant) -> bool:
        """Whether a constant that is added to attention scores is a mask, and no table of relative positions."""
        roots = [self._graph.constants[name] for name in constant.sources if name in self._graph.constants]
        if len(roots) > 1 and any(content_of(root, repeats=False) is Content.FREE for root in roots):
            return False  # a table behind a mask
        values = read(constant)
        kind = content(values, repeats=False)
        if values is None or kind is not Content.UNIFORM:
            return kind is Content.FORMULA or (values is not None and is_mask(values))
        if (1, 1, 1, *constant.shape)[-3] != 1:
            return False  # one for each head
        self._doubts[_MASKS] += not self._provenance.lists_parameters
        return True

    # Normalisation

    def _is_idle(self, node: Node, index: int, constant: Constant, source: Source) -> bool:
        """Whether a normalisation has no trained scale and shift, and an exporter wrote the ones and zeros."""
        if constant.storage is Storage.NOWHERE:
            return True
        if constant.storage is None and node.inputs[index] in constant.sources:
            return False  # a restored parameter
        if source in (Source.TRAINED, Source.KEPT) or not _is_neutral(node, index, read(constant)):
            return False
        if self._provenance.explains_all or self._provenance.has_trained_normalisation:
            return True
        if node.is_op("InstanceNormalization"):
            self._doubts[_IDLE] += index == 1
            return True
        return False


def _is_arithmetic(node: Node) -> bool:
    return node in ARITHMETIC or node.is_op("Pow")


def _by_input(node: Node, index: int, constant: Constant) -> ConstantRole:
    """Return the role that follows from an operand's position; without a record, vectors are factors, which are 1."""
    operator = OPERATORS.record_of(node)
    if operator is None and node.domain and not node.domain.startswith("ai.onnx."):  # converted by onnx2torch
        return ConstantRole.SCALE if is_vector(constant) else ConstantRole.LINEAR_WEIGHT
    role = None if operator is None else operator.role(index)
    if operator is not None and role in (None, InputRole.DATA) and constant.elements > 1:
        _check_described(node, index, operator)
    if operator is not None and role in (InputRole.WEIGHT, InputRole.FACTOR):
        return _WEIGHTS.get(operator.family, ConstantRole.LINEAR_WEIGHT if node.domain else ConstantRole.FIXED)
    return _BY_INPUT.get(role, ConstantRole.FIXED)


def _check_described(node: Node, index: int, operator: Operator) -> None:
    """Raise ModelError where the record of a custom operator ends before a constant, which can be a parameter."""
    described = len(operator.inputs)
    if index >= described and CUSTOM_OPERATORS.get(node) is not None:
        raise ModelError(
            f"node {node.name!r} ({node.operator}) has {len(node.inputs)} inputs, the record describes {described}; "
            f"input {index} is the constant {node.inputs[index]!r} and needs a role in `inputs`"
        )


def _is_measured(constant: Constant) -> bool:
    """Whether a vector has statistics of data or of features: they follow no formula and must not affect a score."""
    return is_vector(constant) and content_of(constant) is Content.FREE


def _is_filter(values: Array | None) -> bool:
    """Whether the kernel of a convolution is the same for each channel, or the same from both sides."""
    if values is None or values.ndim < 3 or is_uniform(values):
        return False
    if len(values) > 1 and bool((values == values[:1]).all()):
        return True
    mirrored = np.flip(values, axis=tuple(range(2, values.ndim)))
    return max(values.shape[2:]) > 2 and bool((np.abs(values) == np.abs(mirrored)).all())


def _is_neutral(node: Node, index: int, values: Array | None) -> bool:
    return values is not None and bool((values == (1.0 if index == 1 else 0.0)).all())


def _sums_over_none(node: Node) -> bool:
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, output = equation.partition("->")
    return bool(arrow) and set(terms) - set(",.") <= set(output)


def _raw_tensors(graph: Graph) -> frozenset[str]:
    """Return the tensors that are the graph's input up to elementwise arithmetic with constants."""
    raw = {value.name for value in graph.inputs}
    for node in graph.nodes:
        if raw.isdisjoint(node.inputs):
            continue
        keeps = node in ARITHMETIC or node in PASSES_ON
        if keeps and all(name in raw for name in graph.activations(node)):
            raw.update(node.outputs)
    return frozenset(raw)
