"""Sets of operators that several rooms ask for; each is a query over the catalogue."""

from __future__ import annotations

from aznas_onnx.operators.catalogue import OperatorCatalogue
from aznas_onnx.operators.operator_record import Family, InputRole, Movement, Operator
from aznas_onnx.operators.standard import STANDARD

OPERATORS = OperatorCatalogue(STANDARD)
"""Every operator that the package knows."""


def _takes_one_tensor(operator: Operator) -> bool:
    return operator.elementwise and operator.inputs[0] is InputRole.DATA and _OPERANDS.isdisjoint(operator.inputs[1:])


_OPERANDS = frozenset((InputRole.DATA, InputRole.SLOPE))

CONVOLUTIONS = OPERATORS.family(Family.CONVOLUTION)
MATRIX_PRODUCTS = OPERATORS.family(Family.LINEAR)
RECURRENT = OPERATORS.family(Family.RECURRENT)
LAYERS = OPERATORS.family(Family.CONVOLUTION, Family.LINEAR, Family.RECURRENT)
LAYER_NORMALIZATIONS = OPERATORS.family(Family.LAYER_NORMALIZATION)
NORMALIZATIONS = OPERATORS.family(Family.NORMALIZATION, Family.LAYER_NORMALIZATION, Family.AXIS_NORMALIZATION)
ACTIVATIONS = OPERATORS.family(Family.ACTIVATION)
GLOBAL_POOLS = OPERATORS.family(Family.GLOBAL_POOLING)
COMPARISONS = OPERATORS.family(Family.COMPARISON)
REDUCTIONS = OPERATORS.family(Family.REDUCTION)
CONTROL_FLOW = OPERATORS.family(Family.CONTROL_FLOW)
SHAPE_QUERIES = OPERATORS.family(Family.SHAPE)
RANDOM = OPERATORS.where(lambda operator: operator.random)
WINDOWED = OPERATORS.where(lambda operator: operator.window)
POINTWISE = OPERATORS.where(_takes_one_tensor)
BROADCASTING = OPERATORS.where(lambda operator: operator.elementwise and not _takes_one_tensor(operator))
ELEMENTWISE = OPERATORS.where(lambda operator: operator.elementwise)
MOVES_DATA = OPERATORS.where(lambda operator: operator.movement is not Movement.NONE)
RESHAPES = OPERATORS.where(lambda operator: operator.movement is Movement.RESHAPES)
