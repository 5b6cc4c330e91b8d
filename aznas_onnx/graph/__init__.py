"""Read a model: from a file to a checked, canonical, typed graph."""

from aznas_onnx.graph.files.input_values import Value
from aznas_onnx.graph.files.inputs import InputPlan
from aznas_onnx.graph.files.load import Document, Source
from aznas_onnx.graph.ir.graph import Constant, Graph, GraphInput, LookUp, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.model import Model
from aznas_onnx.graph.prepare import prepare, rebatch, specialise
from aznas_onnx.limits import Limits

__all__ = [
    "Constant",
    "Document",
    "TensorInfo",
    "TensorInfos",
    "Graph",
    "GraphInput",
    "InputPlan",
    "Limits",
    "LookUp",
    "Model",
    "Node",
    "Source",
    "Value",
    "prepare",
    "rebatch",
    "specialise",
]
