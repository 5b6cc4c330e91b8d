"""The structure of a graph: depth, paths, layers, widths, capacity, receptive field, and what it is made of."""

from aznas_onnx.structure.design import TRAITS, measure_design
from aznas_onnx.structure.measure import Structure, measure_structure

__all__ = ["TRAITS", "Structure", "measure_design", "measure_structure"]
