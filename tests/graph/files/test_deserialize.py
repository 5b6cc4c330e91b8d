from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Limits, prepare
from aznas_onnx.graph.files.deserialize import deserialize, with_filled_weights
from aznas_onnx.graph.ir.graph import Array
from tests.graph.builders import network, weights


def with_functions(body: str, *functions: onnx.FunctionProto) -> onnx.ModelProto:
    model = network(body)
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.functions.extend(functions)
    return model


def function(name: str, *nodes: onnx.NodeProto, attributes: tuple[str, ...] = ()) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["a"], ["b"], list(nodes), opsets, attributes=list(attributes))


def call(name: str, source: str, target: str) -> onnx.NodeProto:
    return helper.make_node(name, [source], [target], domain="f")


def relu(source: str = "a", target: str = "b") -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target])


def test_constant_nodes_become_constants() -> None:
    tensor = numpy_helper.from_array(weights(2, 3))
    model = network(
        """
        i = Constant <value_int = 7> ()
        f = Constant <value_float = 0.5> ()
        ii = Constant <value_ints = [1, 2]> ()
        ff = Constant <value_floats = [1.0, 2.0]> ()
        y = Relu (x)
        """
    )
    model.graph.node.insert(0, helper.make_node("Constant", [], ["t"], value=tensor))
    graph = deserialize(model, None, "net", Limits())
    values = {name: constant.read() for name, constant in graph.constants.items() if constant.read is not None}
    assert [node.op_type for node in graph.nodes] == ["Relu"]
    assert (values["i"], values["f"]) == (7, 0.5)
    assert values["ii"].tolist() == [1, 2]
    assert values["ff"].dtype == np.float32
    np.testing.assert_array_equal(values["t"], weights(2, 3))
    assert all(constant.sources == {name} for name, constant in graph.constants.items())


def test_a_sparse_initialiser_is_a_constant() -> None:
    model = network("y = Conv (x, w)")
    values = numpy_helper.from_array(np.array([5.0, 6.0], np.float32), "w")
    indices = numpy_helper.from_array(np.array([3, 100]), "i")
    model.graph.sparse_initializer.add(values=values, indices=indices, dims=[4, 3, 3, 3])
    constant = deserialize(model, None, "net", Limits()).constants["w"]
    assert constant.read is not None
    dense = constant.read()
    assert dense.shape == (4, 3, 3, 3)
    assert np.flatnonzero(dense).tolist() == [3, 100]


def test_a_small_sparse_tensor_may_not_ask_for_a_huge_one() -> None:
    model = network("y = Conv (x, w)")
    values = numpy_helper.from_array(np.array([5.0], np.float32), "w")
    indices = numpy_helper.from_array(np.array([3]), "i")
    model.graph.sparse_initializer.add(values=values, indices=indices, dims=[2**20, 2**20, 3, 3])
    with pytest.raises(ModelError, match="sparse tensor 'w' has shape"):
        prepare(model)


def test_a_weight_that_a_node_fills_is_a_constant() -> None:
    model = network(
        "w = ConstantOfShape <value = float[1] {0.5}> (s)  z = ConstantOfShape (e)  y = MatMul (x, w)",
        constants={"s": np.array([8, 4]), "e": np.array([0])},
    )
    graph = with_filled_weights(deserialize(model, None, "m", Limits()), Limits())
    assert [node.op_type for node in graph.nodes] == ["MatMul"]
    weight = graph.constants["w"]
    assert (weight.shape, weight.dtype, weight.sources) == ((8, 4), np.float32, {"w"})
    assert weight.read is not None
    assert np.array_equal(weight.read(), np.full((8, 4), 0.5, dtype=np.float32))
    assert graph.constants["z"].shape == (0,)


def test_filled_weights_are_not_made_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(shape: tuple[int, ...], *args: object, **options: object) -> Array:
        raise AssertionError(f"a weight of shape {shape} was made")

    model = network("w = ConstantOfShape (s)  y = MatMul (x, w)", constants={"s": np.array([8, 4096])})
    monkeypatch.setattr(np, "full", full)
    assert prepare(model).graph.constants["w"].shape == (8, 4096)


@pytest.mark.parametrize("shape", [np.array([2**20, 2**20]), np.array([-1, 2]), np.array([2.0]), np.array([[2]])])
def test_a_filled_weight_of_an_impossible_shape_is_refused(shape: Array) -> None:
    with pytest.raises(ModelError, match="ConstantOfShape"):
        prepare(network("w = ConstantOfShape (s)  y = Add (x, w)", constants={"s": shape}))


def test_nodes_get_unique_names() -> None:
    model = network("a = Relu (x)  b = Relu (a)  c = Relu (b)  y = Relu (c)")
    for node, name in zip(model.graph.node, ["n", "n", "n#1", ""], strict=True):
        node.name = name
    names = [node.name for node in deserialize(model, None, "net", Limits()).nodes]
    assert len(set(names)) == 4
    assert names[0] == "n"


def test_attributes_that_are_no_text_stay_bytes() -> None:
    model = network("y = Relu (x)")
    model.graph.node[0].attribute.append(helper.make_attribute("junk", b"\xff\xfe"))
    assert deserialize(model, None, "net", Limits()).nodes[0].attributes["junk"] == b"\xff\xfe"


def test_metadata_of_graph_and_model() -> None:
    model = network("y = Relu (x)", metadata={"a": "1"})
    model.graph.metadata_props.add(key="b", value="2")
    assert dict(deserialize(model, None, "net", Limits()).metadata) == {"a": "1", "b": "2"}


def test_inputs_that_are_initialisers_too_are_constants() -> None:
    model = network("y = Conv (x, w)", {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)}, {"w": weights(4, 3, 3, 3)})
    assert [value.name for value in deserialize(model, None, "net", Limits()).inputs] == ["x"]


def test_functions_are_inlined() -> None:
    model = with_functions(
        "y = f.Twice (x)", function("Once", relu()), function("Twice", call("Once", "a", "t"), call("Once", "t", "b"))
    )
    assert [node.op_type for node in deserialize(model, None, "net", Limits()).nodes] == ["Relu", "Relu"]


def test_an_attribute_of_a_function_reaches_its_body() -> None:
    softmax = helper.make_node("Softmax", ["a"], ["b"])
    softmax.attribute.add(name="axis", ref_attr_name="k", type=onnx.AttributeProto.INT)
    model = with_functions("y = f.S <k = 2> (x)", function("S", softmax, attributes=("k",)))
    assert deserialize(model, None, "net", Limits()).nodes[0].attributes["axis"] == 2


def test_a_function_bomb_is_refused_before_it_goes_off() -> None:
    """Thirty functions, each calling the last one twice: a billion nodes."""
    bodies = [function("F0", relu())]
    bodies += [function(f"F{i}", call(f"F{i - 1}", "a", "t"), call(f"F{i - 1}", "t", "b")) for i in range(1, 31)]
    with pytest.raises(ModelError, match="inlining its functions gives more than 50,000 nodes"):
        prepare(with_functions("y = f.F30 (x)", *bodies))


def test_a_function_bomb_inside_branches_is_refused_too() -> None:
    def branch(index: int) -> onnx.GraphProto:
        output = helper.make_tensor_value_info("q", TensorProto.FLOAT, None)
        return helper.make_graph([call(f"F{index}", "a", "q")], "g", [], [output])

    def choice(index: int) -> list[onnx.NodeProto]:
        condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
        chosen = helper.make_node("If", ["c"], ["b"], then_branch=branch(index), else_branch=branch(index))
        return [condition, chosen]

    bodies = [function("F0", relu()), *(function(f"F{i}", *choice(i - 1)) for i in range(1, 31))]
    with pytest.raises(ModelError, match="inlining its functions gives more than 50,000 nodes"):
        prepare(with_functions("y = f.F30 (x)", *bodies))


def test_functions_that_call_themselves_or_too_deep() -> None:
    with pytest.raises(ModelError, match=r"[Cc]ycle|calls itself"):
        prepare(with_functions("y = f.F (x)", function("F", call("F", "a", "b"))))
    with pytest.raises(ModelError, match=r"[Cc]ycle|calls itself"):
        prepare(with_functions("y = f.F (x)", function("F", call("G", "a", "b")), function("G", call("F", "a", "b"))))
    chain = [function("F0", relu()), *(function(f"F{i}", call(f"F{i - 1}", "a", "b")) for i in range(1, 3000))]
    with pytest.raises(ModelError, match="depth"):
        prepare(with_functions("y = f.F2999 (x)", *chain))


def test_a_call_with_the_wrong_number_of_operands() -> None:
    for body in ("y = f.F (x, x, x)", "y = f.F ()"):
        with pytest.raises(ModelError):
            prepare(with_functions(body, function("F", relu())))


def test_values_that_are_missing_or_refer_to_nothing() -> None:
    model = network("c = Constant <value_int = 1> ()  y = Relu (x)")
    del model.graph.node[0].attribute[:]
    with pytest.raises(ModelError, match="has no value"):
        prepare(model)
    model = network("y = Concat <axis = 1> (x, x)")
    model.graph.node[0].attribute[0].ref_attr_name = "axis"
    with pytest.raises(ModelError, match="only the body of a function may"):
        prepare(model)


def test_inputs_that_are_no_tensors() -> None:
    model = network("y = Relu (x)")
    model.graph.input.append(helper.make_tensor_sequence_value_info("q", TensorProto.FLOAT, None))
    with pytest.raises(ModelError, match="input 'q' is no tensor but a value of type sequence"):
        prepare(model)
    model = network("y = Relu (x)")
    model.graph.input.append(onnx.ValueInfoProto(name="q"))
    with pytest.raises(ModelError, match="input 'q' has no type"):
        deserialize(model, None, "m", Limits())
    model = network("y = Relu (x)")
    model.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(ModelError, match="unknown data type 99"):
        prepare(model)


def nested(depth: int) -> bytes:
    """Return a model of If nodes inside each other, written by hand: the onnx package itself stops earlier."""

    def field(number: int, content: bytes) -> bytes:
        length, prefix = len(content), bytes([number << 3 | 2])
        while length > 127:
            prefix, length = prefix + bytes([length & 127 | 128]), length >> 7
        return prefix + bytes([length]) + content

    output = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    leaf = helper.make_graph([relu("x", "o")], "g", [], [output]).SerializeToString()
    graph = leaf
    for _ in range(depth):
        node = onnx.NodeProto(op_type="If", input=["c"], output=["o"]).SerializeToString()
        for name, branch in (("then_branch", graph), ("else_branch", leaf)):
            head = onnx.AttributeProto(name=name, type=onnx.AttributeProto.GRAPH).SerializeToString()
            node += field(5, head + field(6, branch))
        graph = field(1, node) + onnx.GraphProto(name="g", output=[output]).SerializeToString()
    model = network("y = Relu (x)", constants={"c": np.array(True)}, outputs=("o",))
    model.graph.ClearField("node")
    model.graph.ClearField("name")
    model.graph.ClearField("output")
    whole = model.graph.SerializeToString() + graph
    model.ClearField("graph")
    return model.SerializeToString() + field(7, whole)


@pytest.mark.parametrize("depth", [5, 25])
def test_nested_branches_are_read(depth: int) -> None:
    model = onnx.ModelProto()
    model.ParseFromString(nested(depth))
    assert "Relu" in [node.op_type for node in prepare(model).graph.nodes]


@pytest.mark.parametrize("depth", [100, 3000])
def test_nesting_that_protobuf_refuses(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "deep.onnx"
    path.write_bytes(nested(depth))
    with pytest.raises(ModelError, match="does not parse"):
        prepare(path)
