"""Reading a model: from a file to a checked, canonical, typed graph. Never imports torch."""

from aznas_onnx.graph.facts import Fact, Facts
from aznas_onnx.graph.inputs import InputPlan
from aznas_onnx.graph.ir import Constant, Graph, GraphInput, LookUp, Node
from aznas_onnx.graph.limits import Limits
from aznas_onnx.graph.load import Document, Source
from aznas_onnx.graph.model import Model
from aznas_onnx.graph.prepare import prepare, specialise
from aznas_onnx.graph.values import Value

__all__ = [
    "Constant",
    "Document",
    "Fact",
    "Facts",
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
    "specialise",
]
