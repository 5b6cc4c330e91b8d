from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx
import pytest

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Constant, Node, prepare
from tests.graph.builders import network, weights
from tests.graph.serialize import emit


def test_what_is_emitted_is_valid_and_reads_back_the_same() -> None:
    model = prepare(
        network("a = Conv <pads = [1, 1, 1, 1]> (x, w)  y = Relu (a)", constants={"w": weights(4, 3, 3, 3)}),
        keep_graph=True,
    )
    proto = emit(model.graph, model.infos)
    onnx.checker.check_model(proto, full_check=True)
    again = prepare(proto, keep_graph=True)
    assert [(n.op_type, n.inputs, n.outputs) for n in again.graph.nodes] == [
        (n.op_type, n.inputs, n.outputs) for n in model.graph.nodes
    ]
    assert again.graph.nodes[0].attributes["pads"] == (1, 1, 1, 1)
    assert again.infos.shape("y") == (1, 4, 8, 8)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(proto.graph.initializer[0]), weights(4, 3, 3, 3))


def test_a_constant_without_data_cannot_be_emitted() -> None:
    model = prepare(network("y = Conv (x, w)", constants={"w": weights(4, 3, 3, 3)}), keep_graph=True)
    blank = Constant(shape=(4, 3, 3, 3), dtype=np.dtype(np.float32))
    with pytest.raises(ModelError, match="constant 'w' has no data"):
        emit(replace(model.graph, constants=MappingProxyType({"w": blank})), model.infos)


def test_opsets_that_one_file_cannot_have_both() -> None:
    model = prepare(network("y = Softmax (x)", opset=18), keep_graph=True)
    old = replace(model.graph.nodes[0], version=11, outputs=("a",))
    new = Node(op_type="Relu", version=18, name="r", inputs=("a",), outputs=("y",))
    infos = {**model.infos, "a": model.infos["y"]}
    graph = replace(model.graph, nodes=(old, new))
    with pytest.raises(ModelError, match=r"Softmax\) of opset 11 means something else in opset 18"):
        emit(graph, type(model.infos)(infos, 1))
    relu = replace(graph, nodes=(replace(old, op_type="Relu"), new))
    assert emit(relu, type(model.infos)(infos, 1)).opset_import[0].version == 18
