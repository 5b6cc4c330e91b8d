"""Convert a canonical graph to a straight list of differentiable torch calls."""

from aznas_onnx.convert.compiler import compile_program
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.convert.table import OPERATORS

__all__ = ["OPERATORS", "Program", "Step", "compile_program"]
