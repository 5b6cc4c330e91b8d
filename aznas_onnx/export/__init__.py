"""Export the winners of a search as ONNX files with weights and as torch modules."""

from aznas_onnx.export.network import TrainableNetwork
from aznas_onnx.export.weights import initialised
from aznas_onnx.export.winner import Exported, export_winners

__all__ = ["Exported", "TrainableNetwork", "export_winners", "initialised"]
