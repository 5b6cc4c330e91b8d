"""Sizes of pools and transposed convolutions are those of ONNX Runtime, where ONNX's own inference has others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import prepare
from aznas_onnx.graph.shapes.pool_sizes import count_windows

SAME = {"auto_pad": "SAME_UPPER"}

CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("MaxPool", (6,), {"kernel_shape": [1], "strides": [2], "ceil_mode": 1}),
    ("MaxPool", (3,), {"kernel_shape": [2], "strides": [3], "pads": [0, 1], "ceil_mode": 1}),
    ("MaxPool", (7, 8), {"kernel_shape": [3, 1], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", (4,), {"kernel_shape": [1], "strides": [2], "auto_pad": "VALID", "ceil_mode": 1}),
    ("MaxPool", (9, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1}),
    ("AveragePool", (9,), {"kernel_shape": [2], "strides": [3], "pads": [0, 1], "dilations": [2], "ceil_mode": 1}),
    ("AveragePool", (8,), {"kernel_shape": [1], "strides": [3], "ceil_mode": 1, **SAME}),
    ("LpPool", (9, 7), {"kernel_shape": [1, 4], "strides": [3, 1], "ceil_mode": 1}),
    ("ConvTranspose", (9, 6), {"strides": [2, 1], "output_shape": [18, 5]}),
    ("ConvTranspose", (4, 6), {"strides": [1, 2], "output_shape": [3, 12]}),
    ("ConvTranspose", (3, 7), {"strides": [3, 3], "output_padding": [0, 2], **SAME}),
    ("ConvTranspose", (5,), {"strides": [4], **SAME}),
]


@pytest.mark.parametrize(("operator", "sizes", "attributes"), CASES)
def test_sizes_are_those_of_onnx_runtime(operator: str, sizes: tuple[int, ...], attributes: dict[str, Any]) -> None:
    import onnxruntime

    weight = np.ones((2, 2, *[3] * len(sizes)), dtype=np.float32)
    transposed = operator == "ConvTranspose"
    node = helper.make_node(operator, ["x", "w"] if transposed else ["x"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, *sizes])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (2 + len(sizes)))],
        [numpy_helper.from_array(weight, "w")] if transposed else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.ones((1, 2, *sizes), dtype=np.float32)})
    assert prepare(model, keep_graph=True).infos.shape("y") == result.shape


def test_a_window_too_wide_for_its_axis_is_refused() -> None:
    graph = onnx.parser.parse_graph(
        "g (float[1, 2, 5, 5] x) => (float[n, c, h, w] y) { y = MaxPool <kernel_shape = [9, 9], ceil_mode = 1> (x) }"
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    with pytest.raises(ModelError, match="negative size"):
        prepare(model)


def test_the_last_window_counts_if_it_starts_inside() -> None:
    def count(end: int, *, ceil: bool) -> int:
        return count_windows(6, kernel=3, stride=2, dilation=1, begin=0, end=end, ceil=ceil)

    assert count(0, ceil=True) == 3
    assert count(0, ceil=False) == 2
    assert count(2, ceil=True) == 3  # a fourth would start at 6, in the padding
