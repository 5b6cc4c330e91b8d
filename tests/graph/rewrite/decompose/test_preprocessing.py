"""ONNX Runtime runs scikit-learn's operators, so it is what writing them out is compared with."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from aznas_onnx.costs import count
from aznas_onnx.errors import UnsupportedOperatorError
from aznas_onnx.graph import prepare
from aznas_onnx.verify import verify
from tests.graph.builders import network, weights

BEFORE = {
    "Scaler": "<offset = [1.0, 2.0, 3.0, 4.0], scale = [0.5, 0.5, 2.0, 1.0]>",
    "Imputer": "<imputed_value_floats = [0.5], replaced_value_float = 0.0>",
    "Normalizer": '<norm = "L2">',
    "Binarizer": "<threshold = 0.1>",
}


def pipeline(step: str, operands: str = "x") -> onnx.ModelProto:
    body = f"v = ai.onnx.ml.{step} ({operands})  h = MatMul (v, w)  r = Relu (h)  y = MatMul (r, u)"
    model = network(body, {"x": ("N", 4)}, {"w": weights(4, 8), "u": weights(8, 3)})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model


@pytest.mark.parametrize("operator", list(BEFORE))
def test_it_computes_the_same(operator: str) -> None:
    assert verify(pipeline(f"{operator} {BEFORE[operator]}")).agrees


@pytest.mark.parametrize("norm", ["L1", "MAX"])
def test_norms(norm: str) -> None:
    assert verify(pipeline(f'Normalizer <norm = "{norm}">')).agrees


@pytest.mark.parametrize("operator", ["Scaler", "Imputer"])
def test_what_standardises_is_taken_out_for_scoring(operator: str) -> None:
    read = prepare(pipeline(f"{operator} {BEFORE[operator]}"))
    assert read.changes[0] == "1 step of preprocessing taken out: samples are standardised"
    assert [node.op_type for node in read.graph.nodes] == ["Gemm", "Relu", "Gemm"]


def test_two_steps_are_taken_out() -> None:
    model = pipeline(f"Imputer {BEFORE['Imputer']}")
    scaler = helper.make_node("Scaler", ["v"], ["s"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
    model.graph.node.insert(1, scaler)
    model.graph.node[2].input[0] = "s"
    assert "2 steps of preprocessing" in prepare(model).changes[0]


def test_erfc_is_written_with_erf() -> None:
    read = prepare(network("y = Erfc (x)"))
    assert [node.op_type for node in read.graph.nodes] == ["Erf", "Sub"]


COEFFICIENTS = ", ".join(f"{value:.3f}" for value in weights(12))


@pytest.mark.parametrize("ending", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_a_classifier_is_a_layer_with_labels(ending: str) -> None:
    attributes = f'coefficients = [{COEFFICIENTS}], intercepts = [0.1, 0.2, 0.3], post_transform = "{ending}"'
    body = f"label, y = ai.onnx.ml.LinearClassifier <{attributes}, classlabels_ints = [0, 1, 2]> (x)"
    model = network(body, {"x": ("N", 4)}, outputs=("label", "y"))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    read = prepare(model)
    assert read.graph.outputs == ("y",)
    assert count(read).params == 15
    assert verify(model).agrees


def test_a_regressor_is_a_layer() -> None:
    attributes = f"coefficients = [{COEFFICIENTS}], intercepts = [0.1, 0.2, 0.3], targets = 3"
    model = network(f"y = ai.onnx.ml.LinearRegressor <{attributes}> (x)", {"x": ("N", 4)})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    assert count(prepare(model)).macs == 12
    assert verify(model).agrees


def test_trees_are_refused_by_name() -> None:
    attributes = "target_ids = [0], target_nodeids = [0], target_treeids = [0], target_weights = [0.5], n_targets = 1"
    nodes = 'nodes_modes = ["LEAF"], nodes_nodeids = [0], nodes_treeids = [0]'
    model = network(f"y = ai.onnx.ml.TreeEnsembleRegressor <{attributes}, {nodes}> (x)", {"x": ("N", 4)})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    with pytest.raises(UnsupportedOperatorError, match=r"TreeEnsembleRegressor.* is not scored: what it makes"):
        prepare(model)
