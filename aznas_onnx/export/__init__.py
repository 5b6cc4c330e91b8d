"""What a search hands over: networks as ONNX with weights, and as torch modules to train. Imports torch."""

from aznas_onnx.export.network import TrainableNetwork
from aznas_onnx.export.weights import initialised
from aznas_onnx.export.winner import Exported, export_winners

__all__ = ["Exported", "TrainableNetwork", "export_winners", "initialised"]
