"""The comparison with ONNX Runtime: it agrees where it should, and it can tell where it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Facts, Graph
from aznas_onnx.verify import VerificationError, compare_before_softmax, fill_weights, verify
from tests.graph.builders import network

if TYPE_CHECKING:
    from aznas_onnx.convert.program import Program

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
classifier (float[{batch}, 3, 8, 8] x) => (float[{batch}, 5] y) {{
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    p = GlobalAveragePool (r)
    f = Reshape (p, shape)
    l = MatMul (f, m)
    y = Softmax (l)
}}"""


def classifier(batch: str = "N", dtype: type = np.float32) -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT.format(batch=batch).replace("float[", _KEYWORD[dtype]))
    zeros = {"w": (6, 3, 3, 3), "b": (6,), "m": (6, 5)}
    for name, shape in zeros.items():
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, dtype), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 if batch == "1" else -1, 6]), "shape"))
    return model


_KEYWORD = {np.float32: "float[", np.float16: "float16["}


@pytest.mark.parametrize("batch", ["1", "N"])
def test_a_classifier_with_blank_weights_agrees(batch: str) -> None:
    result = verify(classifier(batch), batch_size=3)
    assert result.agrees
    assert result.relative_difference < 1e-5
    assert result.output == "l", "the logits are compared, not the probabilities"


def test_half_precision_has_its_own_tolerance() -> None:
    result = verify(classifier(dtype=np.float16))
    assert (result.precision, result.tolerance) == ("float16", 3e-2)
    assert result.agrees


def test_a_wrong_conversion_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import aznas_onnx.convert

    compile_program = aznas_onnx.convert.compile_program

    def without_weight(graph: Graph, facts: Facts, constants: dict[str, torch.Tensor], **options: Any) -> Program:
        return compile_program(graph, facts, {**constants, "w": torch.zeros(6, 3, 3, 3)}, **options)

    monkeypatch.setattr(aznas_onnx.convert, "compile_program", without_weight)
    result = verify(classifier())
    assert not result.agrees
    assert result.relative_difference > 1e-2


def test_what_onnxruntime_refuses_is_said() -> None:
    model = classifier()
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "Gelu", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert verify(model).agrees
    node.op_type = "NoSuchOperator"
    with pytest.raises((VerificationError, ModelError), match="NoSuchOperator"):
        verify(model)


def test_errors_name_the_model() -> None:
    body = "q = QuantizeLinear (x, s, z)  m = QLinearMatMul (q, s, z, w, s, z, s, z)  y = DequantizeLinear (m, s, z)"
    model = network(body, {"x": ("N", 3)}, {"s": np.float32(0.1), "z": np.int8(0), "w": np.eye(3, dtype=np.int8)})
    with pytest.raises(ModelError, match=r"^g: node 'QLinearMatMul_1': .* export the float model before quantisation"):
        verify(model)


def test_filling_is_seeded_and_spares_what_has_a_meaning() -> None:
    filled = []
    for _ in range(2):
        model = classifier()
        model.graph.initializer.append(numpy_helper.from_array(np.array([1.0, 1.0, 2.0, 2.0], np.float32), "scales"))
        fill_weights(model, np.random.default_rng(7))
        filled.append({tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer})
    for name, array in filled[0].items():
        np.testing.assert_array_equal(array, filled[1][name])
    assert filled[0]["w"].any()
    np.testing.assert_array_equal(filled[0]["scales"], [1.0, 1.0, 2.0, 2.0])
    np.testing.assert_array_equal(filled[0]["shape"], [-1, 6])


def test_a_gain_per_channel_keeps_its_size_whatever_its_axes() -> None:
    """Networks with standardised weights multiply by gains far below one, and overflow without them."""
    model = classifier()
    gains = np.full((20, 1, 1, 1), 0.01, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(gains, "gains"))
    fill_weights(model, np.random.default_rng(0))
    filled = numpy_helper.to_array(model.graph.initializer[-1])
    assert np.all((filled >= 0.005) & (filled <= 0.015))


def test_zeros_that_a_node_makes_are_no_blank_weights() -> None:
    model = classifier()
    zeros = numpy_helper.from_array(np.zeros(20, np.float32))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["shift"], value=zeros))
    fill_weights(model, np.random.default_rng(0))
    assert not numpy_helper.to_array(model.graph.node[0].attribute[0].t).any()


NORMALISED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2, 3, 8, 8] x) => (float[2, 3, 8, 8] y) {
    a, b, c = BatchNormalization <training_mode = 1> (x, scale, shift, mean, variance)
    y = Relu (a)
}"""


@pytest.mark.parametrize("batch_size", [2, 6])
def test_statistics_of_the_batch_are_compared_where_the_batch_is_one(batch_size: int) -> None:
    model = onnx.parser.parse_model(NORMALISED)
    for name, value in {"scale": 1.5, "shift": 0.5, "mean": 0.25, "variance": 2.0}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.full(3, value, np.float32), name))
    assert verify(model, batch_size=batch_size).relative_difference < 1e-5


def test_only_a_final_softmax_is_looked_behind() -> None:
    model = classifier()
    compare_before_softmax(model)
    assert [output.name for output in model.graph.output] == ["l"]
    compare_before_softmax(model)
    assert [output.name for output in model.graph.output] == ["l"]
