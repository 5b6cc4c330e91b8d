"""The structure of a graph: depth, paths, layers, widths, capacity, receptive field."""

from aznas_onnx.structure.measure import Structure, measure_structure

__all__ = ["Structure", "measure_structure"]
