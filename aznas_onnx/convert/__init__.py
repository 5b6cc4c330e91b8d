"""ONNX to torch: a canonical graph to a straight list of differentiable calls."""

from aznas_onnx.convert.compiler import compile_program
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.convert.table import OPERATORS

__all__ = ["OPERATORS", "Program", "Step", "compile_program"]
