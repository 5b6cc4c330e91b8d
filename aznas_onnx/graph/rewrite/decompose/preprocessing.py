"""Decompose operators of scikit-learn's pipelines (domain ai.onnx.ml), and one of TensorFlow's.

Operators that standardise or complete the input are removed, because samples are generated in their output
distribution. They stay where the file's own computation is wanted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aznas_onnx.graph.ir.graph import Constant, Node
from aznas_onnx.graph.rewrite.editor import Editor
from aznas_onnx.graph.rewrite.node_builder import NodeBuilder
from aznas_onnx.graph.rewrite.rule import Declined, Rewrite, ending_at, plural

__all__ = ["REWRITES", "strip_preprocessing"]

_ML = "ai.onnx.ml::"
_STANDARDISING = (f"{_ML}Scaler", f"{_ML}Imputer")


def strip_preprocessing(editor: Editor) -> tuple[str, ...]:
    """Take out what standardises or completes the input; return what was done in words for the user."""
    steps = 0
    for node in editor.nodes(*_STANDARDISING):
        editor.substitute(node, node.inputs[0])
        steps += 1
    return (f"{plural(steps, 'step')} of preprocessing taken out: samples are standardised",) if steps else ()


@ending_at(f"{_ML}Scaler", result="Scaler")
def _scaler(editor: Editor, node: Node) -> Declined:
    patch = NodeBuilder(editor, node)
    offset, scale = (_row(editor, node, name) for name in ("offset", "scale"))
    if not offset or not scale:
        return "it has no offset or no scale"
    x = patch.add("Cast", node.inputs[0], to=1)
    return patch.finish("Mul", patch.add("Sub", x, offset), scale)


def _row(editor: Editor, node: Node, attribute: str) -> str:
    numbers: Any = node.attributes.get(attribute, ())
    return editor.add_array(np.array(numbers, dtype=np.float32), f"{node.name}/{attribute}") if numbers else ""


@ending_at(f"{_ML}Imputer", result="Imputer")
def _imputer(editor: Editor, node: Node) -> Declined:
    """Replace missing numbers; NaN is missing unless another value is named."""
    numbers = _row(editor, node, "imputed_value_floats")
    missing: Any = node.attributes.get("replaced_value_float", 0.0)
    if not numbers:
        return "it does not say what takes the place of missing numbers"
    patch = NodeBuilder(editor, node)
    x = node.inputs[0]
    if np.isnan(missing):
        is_missing = patch.add("IsNaN", x, version=13)
    else:
        is_missing = patch.add("Equal", x, patch.scalar(float(missing)), version=13)
    return patch.finish("Where", is_missing, numbers, x)


@ending_at(f"{_ML}Normalizer", result="Normalizer")
def _normalizer(editor: Editor, node: Node) -> Declined:
    norm = node.attributes.get("norm", "MAX")
    patch = NodeBuilder(editor, node)
    x = node.inputs[0]
    if norm == "MAX":
        largest = patch.add("ReduceMax", x, patch.integers(-1), version=18, keepdims=1)
        return patch.finish("Div", x, largest)
    return patch.finish("LpNormalization", x, version=1, axis=-1, p=1 if norm == "L1" else 2)


@ending_at(f"{_ML}Binarizer", result="Binarizer")
def _binarizer(editor: Editor, node: Node) -> Declined:
    patch = NodeBuilder(editor, node)
    threshold: Any = node.attributes.get("threshold", 0.0)
    above = patch.add("Greater", node.inputs[0], patch.scalar(float(threshold)))
    return patch.finish("Cast", above, to=1)


@ending_at(f"{_ML}LinearRegressor", f"{_ML}LinearClassifier", result="linear layer")
def _linear(editor: Editor, node: Node) -> Declined:
    """LinearRegressor and LinearClassifier: a layer whose weights are attributes; the classifier has labels, too."""
    attributes: Any = node.attributes
    has_labels = node.op_type == "LinearClassifier"
    weights = np.array(attributes.get("coefficients", ()), dtype=np.float32)
    rows = len(attributes.get("intercepts", ())) or int(attributes.get("targets", 1))
    endings = {"NONE": "Identity", "SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}
    ending = endings.get(attributes.get("post_transform", "NONE"))
    scores = node.outputs[1] if has_labels and len(node.outputs) > 1 else node.outputs[0]
    if not weights.size or weights.size % rows or ending is None or (has_labels and (rows < 2 or not scores)):
        return "it has a form that no network ends in"
    patch = NodeBuilder(editor, node)
    bias = np.array(attributes.get("intercepts", (0.0,) * rows), dtype=np.float32)
    operands = [
        editor.add_constant(Constant.of(weights.reshape(rows, -1)), f"{node.name}/coefficients"),
        editor.add_constant(Constant.of(bias), f"{node.name}/intercepts"),
    ]
    raw = patch.add("Gemm", node.inputs[0], *operands, name=node.name, transB=1)
    patch.add(ending, raw, output=scores)
    if has_labels and node.outputs[0]:
        patch.add("ArgMax", raw, version=13, output=node.outputs[0], axis=1, keepdims=0)
    return patch.apply()


@ending_at(f"{_ML}FeatureVectorizer", result="FeatureVectorizer")
def _feature_vectorizer(editor: Editor, node: Node) -> Declined:
    return NodeBuilder(editor, node).finish("Concat", *node.inputs, axis=-1)


@ending_at(f"{_ML}ArrayFeatureExtractor")
def _array_feature_extractor(editor: Editor, node: Node) -> Declined:
    """Columns of a table; looking up labels, which are a constant, is left alone."""
    if editor.constant(node.inputs[0]) is not None:
        return None
    patch = NodeBuilder(editor, node)
    columns = patch.add("Reshape", node.inputs[1], patch.integers(-1))
    return patch.finish("Gather", node.inputs[0], columns, axis=-1)


@ending_at("Erfc", result="Erfc")
def _erfc(editor: Editor, node: Node) -> Declined:
    """TensorFlow's own, which tf2onnx leaves as it is: Keras writes an exact GELU with it."""
    patch = NodeBuilder(editor, node)
    return patch.finish("Sub", patch.scalar(1.0), patch.add("Erf", node.inputs[0], version=13))


REWRITES: tuple[Rewrite, ...] = (
    _erfc,
    _scaler,
    _imputer,
    _normalizer,
    _binarizer,
    _linear,
    _feature_vectorizer,
    _array_feature_extractor,
)
