"""The record of an ONNX operator: every property that a layer of the package reads."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

__all__ = ["Attributes", "Family", "InputRole", "MacRule", "Movement", "Operator", "OperatorNode", "Shapes"]


Attributes: TypeAlias = Mapping[str, Any]
"""ONNX attributes of a node, by name; the operator decides their types."""


class OperatorNode(Protocol):
    """The part of a node that a MAC rule reads."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensor names."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tensor names."""

    @property
    def attributes(self) -> Attributes:
        """Plain Python values."""

    def input(self, index: int) -> str:
        """Return the name of input `index`, or ``""`` where it is omitted."""


class Shapes(Protocol):
    """The shapes that a MAC rule reads."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, batch included."""


MacRule: TypeAlias = Callable[[OperatorNode, Shapes], int | None]
"""Multiply-adds of one node for the whole batch; None where they are unknown."""


class Family(enum.Enum):
    """Kind of operator; each operator has one."""

    CONVOLUTION = enum.auto()
    LINEAR = enum.auto()  # matrix products
    RECURRENT = enum.auto()
    ATTENTION = enum.auto()
    NORMALIZATION = enum.auto()  # with channels at axis 1
    LAYER_NORMALIZATION = enum.auto()  # over the last axes
    AXIS_NORMALIZATION = enum.auto()  # over axes that an attribute names
    ACTIVATION = enum.auto()
    SOFTMAX = enum.auto()
    FUNCTION = enum.auto()  # of one number: Exp, Sqrt, Sin
    ARITHMETIC = enum.auto()  # of several numbers: Add, Max
    COMPARISON = enum.auto()
    LOGIC = enum.auto()
    POOLING = enum.auto()
    GLOBAL_POOLING = enum.auto()
    REDUCTION = enum.auto()
    CUMULATIVE = enum.auto()
    SEARCH = enum.auto()  # positions of elements: ArgMax, TopK, NonZero
    MOVEMENT = enum.auto()
    INDEXING = enum.auto()
    RESAMPLING = enum.auto()
    GENERATION = enum.auto()
    SHAPE = enum.auto()
    QUANTIZATION = enum.auto()
    CONTROL_FLOW = enum.auto()
    SEQUENCE = enum.auto()
    LOSS = enum.auto()
    SIGNAL = enum.auto()
    DETECTION = enum.auto()
    LINEAR_ALGEBRA = enum.auto()
    TEXT_AND_MEDIA = enum.auto()


class Movement(enum.Enum):
    """How the elements of the data operand reach the output."""

    NONE = enum.auto()  # the output holds computed values
    SAME = enum.auto()  # in place: Identity
    CASTS = enum.auto()  # in place, with another dtype
    RESHAPES = enum.auto()  # in the same order
    PERMUTES = enum.auto()  # in another order
    SELECTS = enum.auto()  # some of them
    REPEATS = enum.auto()
    JOINS = enum.auto()  # those of several operands
    FILLS = enum.auto()  # beside constants: Pad, Trilu
    WRITES = enum.auto()  # beside those of another operand, at positions that a third one gives


class InputRole(enum.Enum):
    """Use that an operator has for one of its inputs."""

    DATA = enum.auto()
    WEIGHT = enum.auto()
    FACTOR = enum.auto()  # of a matrix product: an activation or a weight
    BIAS = enum.auto()
    SCALE = enum.auto()
    SHIFT = enum.auto()
    MEAN = enum.auto()
    VARIANCE = enum.auto()
    SLOPE = enum.auto()
    TABLE = enum.auto()  # rows that indices select
    MASK = enum.auto()  # added to attention scores
    CONDITION = enum.auto()
    STATE = enum.auto()
    SHAPE = enum.auto()  # integers that control how elements move: a shape, axes, pads, repeats
    INDICES = enum.auto()
    LENGTHS = enum.auto()
    ZERO_POINT = enum.auto()
    STEP = enum.auto()  # the scale of integers
    PARAMETER = enum.auto()  # a number that the operator's formula takes: a bound, a threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Properties of one operator, which hold for all of its versions.

    Attributes
    ----------
    name, domain
        As ONNX spells them; the domain of ONNX's own operators is ``""``.
    family
        Its kind.
    elementwise
        Whether each element of the output depends on the elements at its own position only, with broadcasting.
    movement
        How elements move, where the operator computes none.
    random
        Whether it samples random numbers. Dropout does in training mode; it is off while a network is scored.
    window
        Whether it slides a window of `kernel_shape` over the last axes.
    inputs
        Role of each input; the last one holds for all further inputs.
    macs
        Its multiply-adds. :func:`~aznas_onnx.operators.zero` declares that it has none by the convention of the
        literature; with None they are unknown, and counts list the operator as unsupported.
    differentiable
        Whether gradients pass it.
    bounds
        The least and the greatest result for any operands and attributes; infinite where there is none.
    keeps_sign
        Whether the first result has no negative number where no operand with data has one.
    switch
        Whether its units are on where the operand is positive and off elsewhere, as those of ReLU; activation patterns
        (naswot, swap, te_nas) count them.

    Examples
    --------
    >>> import math
    >>> from aznas_onnx.operators import Family, InputRole, Movement, Operator, zero
    >>> Operator(
    ...     name="Squareplus",
    ...     domain="my.domain",
    ...     family=Family.ACTIVATION,
    ...     elementwise=True,
    ...     movement=Movement.NONE,
    ...     random=False,
    ...     window=False,
    ...     inputs=(InputRole.DATA,),
    ...     macs=zero,
    ...     differentiable=True,
    ...     bounds=(0.0, math.inf),
    ...     keeps_sign=True,
    ...     switch=False,
    ... ).operator
    'my.domain::Squareplus'
    """

    name: str
    domain: str = ""
    family: Family
    elementwise: bool
    movement: Movement
    random: bool
    window: bool
    inputs: tuple[InputRole, ...]
    macs: MacRule | None
    differentiable: bool
    bounds: tuple[float, float]
    keeps_sign: bool
    switch: bool

    @property
    def op_type(self) -> str:
        """The name, under the word that nodes have for it."""
        return self.name

    @property
    def operator(self) -> str:
        """Name with the domain, as :attr:`aznas_onnx.graph.Node.operator` spells it: the key of the catalogue."""
        return f"{self.domain}::{self.name}" if self.domain else self.name

    def role(self, index: int) -> InputRole | None:
        """Return the role of input `index`; None for an operator without inputs."""
        return self.inputs[min(index, len(self.inputs) - 1)] if self.inputs else None
