"""Sets of operators that several rooms use; each is a query over the catalogue."""

from __future__ import annotations

import math

from aznas_onnx.operators.catalogue import OperatorCatalogue, OperatorSet
from aznas_onnx.operators.operator_record import Family, InputRole, Movement, Operator
from aznas_onnx.operators.standard import STANDARD

OPERATORS = OperatorCatalogue(STANDARD)
"""Every operator that the package knows."""


def _takes_one_tensor(operator: Operator) -> bool:
    return operator.elementwise and sum(role in _OPERANDS for role in operator.inputs) == 1


def _moves(operator: Operator) -> bool:
    return operator.movement not in (Movement.NONE, Movement.FILLS, Movement.WRITES)


def _passes_on(operator: Operator) -> bool:
    return _moves(operator) and operator.movement is not Movement.JOINS and operator.inputs[:1] == (InputRole.DATA,)


def _named(*keys: str) -> OperatorSet:
    """Operators whose exact form a reader relies on, so that no user's operator joins them."""
    return OPERATORS.where(lambda operator: operator.operator in keys)


_OPERANDS = frozenset((InputRole.DATA, InputRole.SLOPE, InputRole.CONDITION))

CONVOLUTIONS = OPERATORS.family(Family.CONVOLUTION)
PLAIN_CONVOLUTIONS = _named("Conv", "ConvTranspose")
"""The weight is the second operand, with the kernel behind two axes of channels."""
MATRIX_PRODUCTS = OPERATORS.family(Family.LINEAR)
LINEAR = _named("Gemm", "MatMul")
"""Products of two matrices."""
TENSOR_PRODUCTS = _named("MatMul", "Einsum")
"""Products of tensors of any rank."""
RECURRENT = OPERATORS.family(Family.RECURRENT)
LAYERS = OPERATORS.family(Family.CONVOLUTION, Family.LINEAR, Family.RECURRENT)
LAYER_NORMALIZATIONS = OPERATORS.family(Family.LAYER_NORMALIZATION)
NORMALIZATIONS = OPERATORS.family(Family.NORMALIZATION, Family.LAYER_NORMALIZATION, Family.AXIS_NORMALIZATION)
ACTIVATIONS = OPERATORS.family(Family.ACTIVATION)
GLOBAL_POOLS = OPERATORS.family(Family.GLOBAL_POOLING)
POOLS = OPERATORS.where(lambda operator: operator.family is Family.POOLING and operator.window)
ARITHMETIC = _named("Add", "Sub", "Mul", "Div")
SOFTMAXES = OPERATORS.family(Family.SOFTMAX)
COMPARISONS = OPERATORS.family(Family.COMPARISON)
REDUCTIONS = OPERATORS.family(Family.REDUCTION)
CONTROL_FLOW = OPERATORS.family(Family.CONTROL_FLOW)
SHAPE_QUERIES = OPERATORS.family(Family.SHAPE)
RANDOM = OPERATORS.where(lambda operator: operator.random)
WINDOWED = OPERATORS.where(lambda operator: operator.window)
POINTWISE = OPERATORS.where(_takes_one_tensor)
BROADCASTING = OPERATORS.where(lambda operator: operator.elementwise and not _takes_one_tensor(operator))
ELEMENTWISE = OPERATORS.where(lambda operator: operator.elementwise)
BOUNDED = OPERATORS.where(lambda operator: all(map(math.isfinite, operator.bounds)))
SWITCHES = OPERATORS.where(lambda operator: operator.switch)
RESHAPES = OPERATORS.where(lambda operator: operator.movement is Movement.RESHAPES)
SELECTS = OPERATORS.where(lambda operator: operator.movement is Movement.SELECTS)
REPEATS = OPERATORS.where(lambda operator: operator.movement is Movement.REPEATS)
UNCHANGED = OPERATORS.where(lambda operator: operator.movement is Movement.SAME)
KEEPS_VALUES = OPERATORS.where(lambda operator: operator.movement in (Movement.SAME, Movement.CASTS))
KEEPS_ORDER = OPERATORS.where(lambda operator: operator in KEEPS_VALUES or operator in RESHAPES)
MOVES_DATA = OPERATORS.where(_moves)
"""Every element of the output is one of an operand."""
MOVES_INTEGERS = OPERATORS.where(
    lambda operator: operator in MOVES_DATA and operator.movement not in (Movement.CASTS, Movement.JOINS)
)
"""The same, of the first operand and without a cast: integers stay those that a scale belongs to."""
MOVES_WHOLE = OPERATORS.where(lambda operator: operator in KEEPS_ORDER or operator.movement is Movement.PERMUTES)
"""Every element of the operand arrives, once."""
PASSES_ON = OPERATORS.where(_passes_on)
"""Every element of the output is one of the first operand, which is no table."""
