from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights

TEXT = {
    "graph": "GRAPHNAME",
    "node": "NODENAME",
    "input": "INPUTNAME",
    "weight": "WEIGHTNAME",
    "symbol": "SYMBOL",
    "key": "KEYNAME",
    "domain": "DOMAINNAME",
    "attribute": "ATTRIBUTENAME",
    "inside": "INSIDENAME",
    "constant": "CONSTANTNAME",
    "function": "FUNCTIONNAME",
    "location": "LOCATIONNAME",
}


def model() -> onnx.ModelProto:
    """A network with a name of its own for each place where a file may name something."""
    made = network(
        """
        b = Conv (INPUTNAME, WEIGHTNAME)
        c = If (yes) <then_branch = t () => (float a) { a = Relu (b) }, else_branch = e () => (float d) { d = Neg (b) }>
        y = Relu (c)
        """,
        {"INPUTNAME": ("SYMBOL", 3, 8, 8)},
        {"WEIGHTNAME": weights(4, 3, 3, 3), "yes": np.array(True)},
        metadata={"KEYNAME": "VALUENAME"},
    )
    made.graph.name = "GRAPHNAME"
    made.graph.node[0].name = "NODENAME"
    made.graph.node[0].attribute.append(helper.make_attribute("ATTRIBUTENAME", 1))
    made.graph.node[1].attribute[0].g.node[0].name = "INSIDENAME"
    made.graph.node.insert(0, helper.make_node("Constant", [], ["k"], name="CONSTANTNAME", value_int=1))
    made.opset_import.append(helper.make_opsetid("DOMAINNAME", 1))
    relu = helper.make_node("Relu", ["u"], ["v"])
    made.functions.append(
        helper.make_function("DOMAINNAME", "FUNCTIONNAME", ["u"], ["v"], [relu], [helper.make_opsetid("", 18)])
    )
    entry = made.graph.initializer.add(name="far", data_type=TensorProto.FLOAT, dims=[1])
    entry.data_location = TensorProto.EXTERNAL
    entry.external_data.add(key="location", value="LOCATIONNAME")
    return made


@pytest.mark.parametrize("name", TEXT.values(), ids=TEXT)
@pytest.mark.parametrize("garbage", [b"\xff", b"\xed\xa0\x80"], ids=["byte", "surrogate"])
def test_names_that_are_no_text_are_refused_where_the_file_is_opened(name: str, garbage: bytes, tmp_path: Path) -> None:
    content = model().SerializeToString()
    found = name.encode()
    assert found in content
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(found, garbage + found[len(garbage) :]))
    with pytest.raises(ModelError, match="no UTF-8") as caught:
        prepare(path)
    assert str(caught.value).isprintable()


def test_names_in_other_alphabets_are_text() -> None:
    named = network("a = Relu (x)  y = Neg (a)")
    named.graph.node[0].output[0] = named.graph.node[1].input[0] = "µ"
    named.graph.node[0].name = "größe/层"
    assert [node.name for node in prepare(named).graph.nodes] == ["größe/层", "Neg_1"]


def test_descriptions_are_not_read() -> None:
    described = network("y = Relu (x)")
    described.doc_string = "DESCRIPTION"
    content = described.SerializeToString().replace(b"DESCRIPTION", b"\xff\xfeSCRIPTION")
    assert len(prepare(onnx.ModelProto.FromString(content)).graph.nodes) == 1


def test_text_that_is_data_is_checked_as_well() -> None:
    broken = network("y = Relu (x)")
    broken.graph.initializer.append(
        helper.make_tensor("t", TensorProto.STRING, [2], np.array([b"fine", b"\xff"], object))
    )
    with pytest.raises(ModelError, match=r"tensor 't' holds text that is no UTF-8: b'\\xff'"):
        prepare(broken)
    broken.graph.initializer[0].string_data[1] = b"fine"
    broken.graph.initializer[0].dims[0] = 3
    with pytest.raises(ModelError, match=r"tensor 't' has 2 strings, but its shape .3,. needs 3"):
        prepare(broken)


@pytest.mark.parametrize("place", ["initialiser", "attribute", "sparse"])
def test_tensors_of_too_many_axes_are_refused(place: str) -> None:
    many = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1] * 65, float_data=[1.0])
    if place == "attribute":
        broken = network("c = Relu (x)  y = Relu (c)")
        broken.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=many))
    else:
        broken = network("y = Add (x, w)")
        if place == "sparse":
            values = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], float_data=[1.0])
            indices = TensorProto(name="i", data_type=TensorProto.INT64, dims=[1], int64_data=[0])
            broken.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1] * 65))
        else:
            broken.graph.initializer.append(many)
    with pytest.raises(ModelError, match="65 axes"):
        prepare(broken)
