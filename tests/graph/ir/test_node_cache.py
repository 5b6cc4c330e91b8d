"""What is remembered of a file's nodes: only small plain ones, each by its bytes, and only so many."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from aznas_onnx.graph.ir import node_cache
from aznas_onnx.graph.ir.node_cache import decode_nodes, typed
from tests.graph.builders import network


def scaled(name: str, alpha: float) -> onnx.NodeProto:
    return helper.make_node("Elu", ["x"], ["y"], name=name, alpha=alpha)


def test_equal_nodes_are_read_once() -> None:
    first, second, other = decode_nodes([scaled("a", 0.5), scaled("a", 0.5), scaled("a", 0.25)])
    assert first is not None
    assert first is second
    assert other is not None
    assert typed(first, 6) is typed(first, 6)
    assert typed(first, 6).attributes == {"alpha": 0.5}
    assert typed(other, 6).attributes == {"alpha": 0.25}


def test_a_node_means_what_its_own_opset_says() -> None:
    (plain,) = decode_nodes([scaled("a", 0.5)])
    assert plain is not None
    assert [typed(plain, version).version for version in (6, 1, 6)] == [6, 1, 6]


def test_types_of_attributes_are_distinguished() -> None:
    values = (1, 1.0, "1", [1], [1.0], ["1"])
    plain = decode_nodes([helper.make_node("Any", ["x"], ["y"], domain="d", value=value) for value in values])
    found = [typed(node, 1).attributes["value"] for node in plain if node is not None]
    assert found == [1, 1.0, "1", (1,), (1.0,), ("1",)]
    assert [type(value) for value in found[:3]] == [int, float, str]


def test_tensors_inside_are_checked_and_read() -> None:
    good = numpy_helper.from_array(np.array([1, 2], np.float32))
    short = onnx.TensorProto(dims=[2], data_type=onnx.TensorProto.FLOAT, raw_data=b"1234")
    elsewhere = onnx.TensorProto(dims=[2], data_type=onnx.TensorProto.FLOAT)
    elsewhere.data_location = onnx.TensorProto.EXTERNAL
    plain, *refused = decode_nodes(
        [helper.make_node("ConstantOfShape", ["s"], ["y"], value=tensor) for tensor in (good, short, elsewhere)]
    )
    assert plain is not None
    assert plain.tensor_bytes == (8,)
    np.testing.assert_array_equal(typed(plain, 9).attributes["value"], [1, 2])
    assert refused == [None, None]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Relu", ["x" * 1000], ["y"]),
        helper.make_node("Constant", [], ["y"], value_int=1),
        helper.make_node("If", ["x"], ["y"], then_branch=network("y = Relu (x)").graph),
        helper.make_node("Own", ["x"], ["y"], domain="d", body=network("y = Relu (x)").graph),
    ],
    ids=["large", "constant", "control flow", "graph"],
)
def test_other_nodes_are_not_remembered(node: onnx.NodeProto) -> None:
    assert decode_nodes([node]) == [None]


def test_what_is_remembered_is_bounded() -> None:
    for cache in (node_cache._plain, node_cache.typed, node_cache._attributes):
        limit = cache.cache_info().maxsize
        assert limit is not None
        assert limit <= 8192
    assert node_cache._MOST_BYTES <= 512
