"""The operator catalogue: one record for each ONNX operator, which every layer reads.

A user's operator is registered in the same way::

    OPERATORS.register(Operator(name="Squareplus", domain="my.domain", ...))
"""

from __future__ import annotations

from aznas_onnx.operators.catalogue import OperatorCatalogue, OperatorSet, Rules
from aznas_onnx.operators.custom import CustomOperator, CustomOperators
from aznas_onnx.operators.mac_rules import zero
from aznas_onnx.operators.operator_record import Family, InputRole, MacRule, Movement, Operator
from aznas_onnx.operators.sets import OPERATORS

__all__ = [
    "CUSTOM_OPERATORS",
    "OPERATORS",
    "CustomOperator",
    "CustomOperators",
    "Family",
    "InputRole",
    "MacRule",
    "Movement",
    "Operator",
    "OperatorCatalogue",
    "OperatorSet",
    "Rules",
    "zero",
]

CUSTOM_OPERATORS = CustomOperators(OPERATORS)
"""The operators that the user has added in this process."""
