from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper, parser

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.ir.graph import Constant, Graph, GraphInput, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.limits import Limits

FLOAT = np.dtype(np.float32)


def model(text: str, **constants: Any) -> onnx.ModelProto:
    """Parse a model in ONNX's text form; arrays given by name become initialisers."""
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return made


def read(text: str, **constants: Any) -> tuple[Graph, TensorInfos]:
    """Lower and interpret a model."""
    graph = deserialize(model(text, **constants), None, "test", Limits())
    shapes = {value.name: tuple(int(size or 0) for size in value.shape or ()) for value in graph.inputs}
    return interpret(graph, 2, shapes, Limits())


def compiled(text: str, drawn: dict[str, torch.Tensor] | None = None, **constants: Any) -> Program:
    graph, infos = read(text, **constants)
    return compile_program(graph, infos, drawn or {}, device="cpu")


def one_node(node: Node, inputs: tuple[GraphInput, ...], **constants: Constant) -> tuple[Graph, TensorInfos]:
    graph = Graph(name="g", inputs=inputs, outputs=node.outputs, nodes=(node,), constants=MappingProxyType(constants))
    infos = {value.name: TensorInfo((2, 3), value.dtype) for value in inputs}
    infos |= {name: TensorInfo(constant.shape, constant.dtype) for name, constant in constants.items()}
    return graph, TensorInfos(infos | {name: TensorInfo((2, 3), FLOAT) for name in node.outputs}, 2)


X = GraphInput(name="x", dtype=FLOAT, shape=(2, 3))


# ---- windows ------------------------------------------------------------------------------------------------------
def test_nodes_with_equal_attributes_have_windows_of_their_own() -> None:
    padded = 'auto_pad = "SAME_UPPER", strides = [2, 2]'
    text = f"""g (float[1, 1, 8, 8] x) => (float[1, 1, 2, 2] a, float[1, 1, 2, 2] b) {{
        c = Conv <{padded}> (x, three)
        d = Conv <{padded}> (x, five)
        a = Conv <{padded}> (c, three)
        b = Conv <{padded}> (d, five)
    }}"""
    kernels: dict[str, Any] = {"three": np.ones((1, 1, 3, 3), np.float32), "five": np.ones((1, 1, 5, 5), np.float32)}
    found = compiled(text, **kernels).run({"x": torch.ones(1, 1, 8, 8)})
    session = onnxruntime.InferenceSession(model(text, **kernels).SerializeToString())
    for name, expected in zip(
        ("a", "b"), session.run(["a", "b"], {"x": np.ones((1, 1, 8, 8), np.float32)}), strict=True
    ):
        np.testing.assert_array_equal(found[name].numpy(), expected)


# ---- constants ----------------------------------------------------------------------------------------------------
def test_an_initialised_weight_takes_the_place_of_the_file_s() -> None:
    text = "g (float[2, 3] x) => (float[2, 4] y) { y = MatMul (x, w) }"
    drawn = torch.full((3, 4), 2.0)
    program = compiled(text, {"w": drawn}, w=np.ones((3, 4), np.float32))
    assert program.constants["w"] is drawn
    assert program.run({"x": torch.ones(2, 3)})["y"].tolist() == [[6.0] * 4] * 2


def test_values_from_an_initialised_weight_are_computed_anew() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) { d = Add (w, w)  y = Mul (x, d) }"
    program = compiled(text, {"w": torch.tensor([5.0])}, w=np.ones(1, np.float32))
    assert program.run({"x": torch.ones(2, 3)})["y"][0, 0].item() == 10.0


def test_a_tensor_that_no_output_depends_on_is_computed_on_request() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) { aside = Neg (x)  c = Add (w, w)  y = Relu (x) }"
    graph, infos = read(text, w=np.ones((2, 3), np.float32))
    assert len(compile_program(graph, infos, {}, device="cpu").steps) == 1
    program = compile_program(graph, infos, {}, device="cpu", also={"aside", "c"})
    kept = program.run({"x": torch.ones(2, 3)}, keep=["aside", "c"])
    assert kept["aside"][0, 0].item() == -1.0
    assert kept["c"][0, 0].item() == 2.0


def test_the_shape_of_an_initialised_weight_is_known() -> None:
    text = "g (float[2, 3] x) => (float[3, 2] y) { s = Shape (w)  y = Reshape (x, s) }"
    program = compiled(text, {"w": torch.zeros(3, 2)}, w=np.ones((3, 2), np.float32))
    assert [step.inputs for step in program.steps] == [("x",)]


def test_floats_take_the_program_s_dtype_and_integers_keep_theirs() -> None:
    text = "g (float[2, 3] x, int32[3] i) => (float[2, 3] y) { a = Gather (t, i)  y = Mul (x, a) }"
    graph, infos = read(text, t=np.arange(3, dtype=np.float32) + 1)
    program = compile_program(graph, infos, {}, device="cpu", dtype=torch.float64)
    assert program.constants["t"].dtype == torch.float64
    result = program.run({"x": torch.ones(2, 3, dtype=torch.float64), "i": torch.tensor([2, 1, 0], dtype=torch.int32)})
    assert result["y"].dtype == torch.float64
    assert result["y"][0].tolist() == [3.0, 2.0, 1.0]


def test_a_weight_without_data_must_be_initialised() -> None:
    node = Node(op_type="Mul", inputs=("x", "w"), outputs=("y",), version=14, name="n")
    graph, infos = one_node(node, (X,), w=Constant(shape=(3,), dtype=FLOAT))
    with pytest.raises(ModelError, match="'w' is read but has no data"):
        compile_program(graph, infos, {}, device="cpu")
    program = compile_program(graph, infos, {"w": torch.ones(3)}, device="cpu")
    assert program.run({"x": torch.ones(2, 3)})["y"].shape == (2, 3)


# ---- what becomes a step ------------------------------------------------------------------------------------------
def test_known_shape_operands_are_no_inputs_of_a_step() -> None:
    text = "g (float[2, 3] x) => (float[6] y) { y = Reshape (x, s) }"
    program = compiled(text, s=np.array([6], np.int64))
    assert [step.inputs for step in program.steps] == [("x",)]
    assert "s" not in program.constants


def test_unread_nodes_are_left_out_even_where_they_cannot_be_converted() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) { y = Relu (x)  z = RandomNormalLike (x) }"
    assert [step.outputs for step in compiled(text).steps] == [("y",)]


def test_unread_outputs_have_no_name() -> None:
    text = "g (float[2, 3] x) => (float[2, 2] v) { v, i = TopK (x, k) }"
    program = compiled(text, k=np.array([2], np.int64))
    assert program.steps[0].outputs == ("v", "")
    assert set(program.run({"x": torch.rand(2, 3)})) == {"v"}


def test_an_output_whose_value_is_known_is_a_constant() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y, int64[2] s) { y = Relu (x)  s = Shape (x) }"
    program = compiled(text)
    assert len(program.steps) == 1
    assert program.run({"x": torch.ones(2, 3)})["s"].tolist() == [2, 3]


# ---- training -----------------------------------------------------------------------------------------------------
def batch_normalization(**attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], **attributes)
    constants = {"s": 2.0, "b": 1.0, "m": 100.0, "v": 9.0}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 3, 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4, 3, 2])],
        [numpy_helper.from_array(np.full(3, value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_uses_the_batch_in_training_and_running_statistics_otherwise(training: bool) -> None:
    graph, infos = interpret(deserialize(batch_normalization(), None, "t", Limits()), 4, {"x": (4, 3, 2)}, Limits())
    program = compile_program(graph, infos, {}, device="cpu", training=training)
    x = torch.randn(4, 3, 2)
    mean, var = (x.mean((0, 2)), x.var((0, 2), correction=0)) if training else (torch.tensor(100.0), torch.tensor(9.0))
    expected = 2 * (x - mean.reshape(-1, 1)) / torch.sqrt(var.reshape(-1, 1) + 1e-5) + 1
    torch.testing.assert_close(program.run({"x": x})["y"], expected, rtol=1e-4, atol=1e-4)


def test_dropout_is_off_in_training() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) { y = Dropout (x, r, t) }"
    graph, infos = read(text, r=np.array(0.9, np.float32), t=np.array(True))
    program = compile_program(graph, infos, {}, device="cpu", training=True)
    assert program.run({"x": torch.ones(2, 3)})["y"].tolist() == [[1.0] * 3] * 2


# ---- refusals -----------------------------------------------------------------------------------------------------
def test_a_shape_that_depends_on_data_is_refused_by_name() -> None:
    text = "g (float[2, 3] x, int64[1] k) => (float[2, n] y) { y, i = TopK (x, k) }"
    with pytest.raises(UnsupportedOperatorError, match=r"TopK-18 takes k from 'k', which depends on data"):
        compiled(text)


def test_strings_are_refused() -> None:
    node = Node(op_type="Identity", inputs=("x",), outputs=("y",), version=18, name="n")
    graph, infos = one_node(node, (GraphInput(name="x", dtype=np.dtype(object), shape=(2, 3)),))
    with pytest.raises(UnsupportedOperatorError, match="input 'x' holds object"):
        compile_program(graph, infos, {}, device="cpu")


def test_a_node_with_too_few_inputs_is_an_error_of_the_model() -> None:
    node = Node(op_type="BatchNormalization", inputs=(), outputs=("y",), version=15, name="bn")
    graph, infos = one_node(node, (X,))
    program = Node(op_type="Gather", inputs=("x",), outputs=("y",), version=13, name="ga")
    with pytest.raises(ModelError, match="'ga' does not have the inputs or attributes of operator Gather-13"):
        compile_program(*one_node(program, (X,)), {}, device="cpu")
    with pytest.raises(ModelError, match="'bn' cannot be computed"):
        compile_program(graph, infos, {}, device="cpu").run({"x": torch.ones(2, 3)})


def test_inputs_that_do_not_fit_are_an_error_of_the_model_when_it_runs() -> None:
    program = compiled("g (float[2, 3] x) => (float[2, 4] y) { y = MatMul (x, w) }", w=np.ones((3, 4), np.float32))
    with pytest.raises(ModelError, match="'MatMul_0' cannot be computed: mat1 and mat2"):
        program.run({"x": torch.ones(2, 7)})
