from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare
from aznas_onnx.structure import TRAITS, measure_design


def network(nodes: list[onnx.NodeProto], output: list[int], **weights: tuple[int, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def design(model: onnx.ModelProto) -> Mapping[str, float]:
    prepared = prepare(model)
    return measure_design(prepared, count(prepared))


def test_shares_are_of_multiply_adds() -> None:
    model = network(
        [
            helper.make_node("Conv", ["x", "stem"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "depthwise"], ["c"], kernel_shape=[5, 5], pads=[2, 2, 2, 2], group=4),
            helper.make_node("Sigmoid", ["c"], ["d"]),
            helper.make_node("Conv", ["d", "pointwise"], ["e"], kernel_shape=[1, 1]),
            helper.make_node("GlobalAveragePool", ["e"], ["y"]),
        ],
        [1, 10, 1, 1],
        stem=(4, 3, 3, 3),
        depthwise=(4, 1, 5, 5),
        pointwise=(10, 4, 1, 1),
    )
    found = design(model)
    assert tuple(found) == TRAITS
    stem, depthwise, pointwise = 16 * 4 * 27, 16 * 4 * 25, 16 * 40
    macs = stem + depthwise + pointwise
    assert found["spatial_share"] == pytest.approx(stem / macs)
    assert found["depthwise_share"] == pytest.approx(depthwise / macs)
    assert found["pointwise_share"] == pytest.approx(pointwise / macs)
    assert found["mean_kernel"] == pytest.approx((3 * stem + 5 * depthwise + pointwise) / macs)
    assert (found["depthwise_kernel"], found["stem_stride"]) == (5, pytest.approx(np.log(2)))
    assert (found["relu_share"], found["gates"]) == (0.5, pytest.approx(1 / 3))
    assert (found["image_channels"], found["classes"]) == (3, 10)
    assert found["input_positions"] == pytest.approx(np.log(64))


def test_a_map_of_positions_is_no_classifier() -> None:
    model = network(
        [helper.make_node("Conv", ["x", "weight"], ["y"], kernel_shape=[1, 1])], [1, 10, 8, 8], weight=(10, 3, 1, 1)
    )
    assert design(model)["classes"] == 0
