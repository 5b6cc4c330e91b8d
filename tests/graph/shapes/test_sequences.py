"""Sequences and optional values at known positions; ONNX Runtime runs the files as they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights
from tests.graph.shapes.test_control_flow import agree, loop

POSITIONS = {
    "zero": np.array(0),
    "one": np.array(1),
    "last": np.array(-1),
    "two": np.array(2),
    "sizes": np.array([1, 5]),
}


def sequences(body: str, outputs: tuple[str, ...] = ("y",), opset: int = 17) -> onnx.ModelProto:
    return network(body, {"x": (1, 6, 4)}, {**POSITIONS, "w": weights(4, 4)}, outputs=outputs, opset=opset)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    "body",
    [
        "s = SplitToSequence <axis = 1> (x, two)  a = SequenceAt (s, last)  y = Relu (a)",
        "s = SplitToSequence <axis = 1> (x, sizes)  a = SequenceAt (s, one)  y = Relu (a)",
        "s = SplitToSequence <axis = 1> (x)  a = SequenceAt (s, zero)  y = Relu (a)",
        "s = SplitToSequence <axis = 1, keepdims = 0> (x)  a = SequenceAt (s, one)  y = MatMul (a, w)",
        "r = Relu (x)  s = SequenceConstruct (x, r)  y = ConcatFromSequence <axis = -1> (s)",
        "r = Relu (x)  s = SequenceConstruct (x, r)  y = ConcatFromSequence <axis = 1, new_axis = 1> (s)",
        "e = SequenceEmpty ()  r = Relu (x)  t = SequenceInsert (e, r)  u = SequenceInsert (t, x, zero)"
        "  y = ConcatFromSequence <axis = 2> (u)",
        "r = Relu (x)  s = SequenceConstruct (x, x)  t = SequenceInsert (s, r, last)"
        "  y = ConcatFromSequence <axis = 2> (t)",
        "r = Relu (x)  s = SequenceConstruct (x, r, x)  t = SequenceErase (s, zero)  u = SequenceErase (t)"
        "  y = ConcatFromSequence <axis = 2> (u)",
        "s = SequenceConstruct (x, x)  n = SequenceLength (s)  f = Cast <to = 1> (n)  y = Mul (x, f)",
    ],
)
def test_a_sequence_is_the_tensors_that_it_holds(body: str, opset: int) -> None:
    agree(sequences(body, opset=opset))


@pytest.mark.parametrize(
    "body",
    [
        "o = Optional (x)  h = OptionalHasElement (o)  f = Cast <to = 1> (h)  g = OptionalGetElement (o)"
        "  y = Mul (g, f)",
        "o = Optional <type = float[1,6,4]> ()  h = OptionalHasElement (o)  f = Cast <to = 1> (h)  y = Add (x, f)",
    ],
)
def test_an_optional_value_is_its_content_or_absent(body: str) -> None:
    model = prepare(sequences(body, opset=18), keep_graph=True)
    assert not any(node.op_type.startswith("Optional") for node in model.graph.nodes)


def test_a_loop_that_appends_to_a_sequence() -> None:
    model = loop(3, [helper.make_node("Tanh", ["x"], ["th"]), helper.make_node("SequenceInsert", ["s", "th"], ["so"])])
    graph = model.graph
    node = graph.node[0]
    node.input[2], node.output[0] = "empty", "held"
    for value in (node.attribute[0].g.input[2], node.attribute[0].g.output[1]):
        value.CopyFrom(helper.make_tensor_sequence_value_info(value.name, TensorProto.FLOAT, None))
    graph.node.insert(0, helper.make_node("SequenceEmpty", [], ["empty"]))
    graph.node.append(helper.make_node("ConcatFromSequence", ["held"], ["y"], axis=1))
    agree(model)


def test_a_sequence_beside_tensors_is_no_output() -> None:
    model = sequences("r = Relu (x)  s = SequenceConstruct (x, r)  y = Neg (r)", outputs=("y",))
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    read = prepare(model)
    assert read.graph.outputs == ("y",)
    assert "left out output 's', a sequence" in read.changes


def test_where_all_outputs_are_sequences_their_tensors_are() -> None:
    model = sequences("r = Relu (x)  t = Tanh (r)  s = SequenceConstruct (r, t)", outputs=())
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    assert prepare(model).graph.outputs == ("r", "t")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("m = ReduceMax <keepdims = 0> (x)  i = Cast <to = 7> (m)  s = SequenceConstruct (x)  y = SequenceAt (s, i)",
         r"\(SequenceAt\): its position depends on data"),
        ("n = NonZero (x)  s = SplitToSequence (n, two)  y = SequenceAt (s, zero)",
         r"\(NonZero\) makes a tensor whose shape depends on data"),
    ],
)  # fmt: skip
def test_what_depends_on_data_is_refused(body: str, reason: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=reason):
        prepare(sequences(body))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("s = SequenceConstruct (x)  y = SequenceAt (s, two)", "asks for position 2 of 1"),
        ("s = SplitToSequence <axis = 5> (x, two)  y = SequenceAt (s, two)", "splits axis 5"),
        ("s = SplitToSequence (x, zero)  y = SequenceAt (s, two)", "pieces of size 0"),
        ("s = SequenceEmpty ()  y = ConcatFromSequence <axis = 0> (s)", "a sequence that holds nothing"),
    ],
)
def test_what_is_not_there_is_refused(body: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        prepare(sequences(body))


def test_an_optional_input_is_left_out() -> None:
    body = """
        h = OptionalHasElement (past)
        y = If (h) <
            then_branch = t () => (float[N, 6, 4] p) { g = OptionalGetElement (past)  p = Add (x, g) },
            else_branch = e () => (float[N, 6, 4] q) { q = Relu (x) }
        >
    """
    model = sequences(body, opset=18)
    of_tensor = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 6, 4]))
    model.graph.input.append(helper.make_value_info("past", of_tensor))
    read = prepare(model)
    assert [node.op_type for node in read.graph.nodes] == ["Relu"]
    assert "input 'past' is optional, and is left out" in read.warnings


def test_a_sequence_may_not_grow_without_bounds() -> None:
    with pytest.raises(UnsupportedOperatorError, match="more than 4,096 pieces"):
        prepare(network("s = SplitToSequence <axis = 1> (x)  y = ConcatFromSequence <axis = 1> (s)", {"x": (1, 2**20)}))
    nodes = [helper.make_node("SequenceInsert", ["s", "x"], ["so"])]
    model = loop(5000, nodes)
    model.graph.node[0].input[2], model.graph.node[0].output[0] = "empty", "held"
    model.graph.node.insert(0, helper.make_node("SequenceEmpty", [], ["empty"]))
    model.graph.node.append(helper.make_node("SequenceAt", ["held", "t"], ["y"]))
    for value in (model.graph.node[1].attribute[0].g.input[2], model.graph.node[1].attribute[0].g.output[1]):
        value.CopyFrom(helper.make_tensor_sequence_value_info(value.name, TensorProto.FLOAT, None))
    with pytest.raises(ModelError, match="name more than 1,048,576 tensors"):
        prepare(model)
