"""A program is there to be differentiated: first derivatives against finite differences, on every kind of step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.limits import Limits
from tests.convert.runner import Array, node_model


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


GROUPED = {"q_num_heads": 2, "kv_num_heads": 1, "softcap": 2.0}

# operator, opset, inputs, attributes, positions of constant inputs
CASES: list[tuple[str, int, list[Array], dict[str, Any], tuple[int, ...]]] = [
    ("Conv", 22, [noise(1, 2, 5, 5), noise(2, 1, 3, 3), noise(2)], {"group": 2, "auto_pad": "SAME_LOWER"}, ()),
    ("ConvTranspose", 22, [noise(1, 2, 4), noise(2, 1, 3)], {"strides": [2], "pads": [0, 1]}, ()),
    ("MaxPool", 22, [noise(1, 1, 6)], {"kernel_shape": [3], "pads": [0, 2], "strides": [2]}, ()),
    ("AveragePool", 22, [noise(1, 1, 6)], {"kernel_shape": [3], "pads": [0, 2], "dilations": [2]}, ()),
    ("LpPool", 22, [noise(1, 1, 6)], {"kernel_shape": [3], "p": 3}, ()),
    ("BatchNormalization", 15, [noise(3, 2, 2), noise(2), noise(2), noise(2), noise(2) ** 2], {}, (3, 4)),
    ("LayerNormalization", 17, [noise(3, 4), noise(4), noise(4)], {}, ()),
    ("RMSNormalization", 23, [noise(3, 4), noise(4)], {}, ()),
    ("GroupNormalization", 21, [noise(2, 4, 3), noise(4), noise(4)], {"num_groups": 2}, ()),
    ("LRN", 13, [noise(1, 5, 2)], {"size": 2}, ()),
    ("Attention", 24, [noise(1, 2, 3, 4), noise(1, 2, 3, 4), noise(1, 2, 3, 4)], {"is_causal": 1}, ()),
    ("Attention", 24, [noise(1, 2, 8), noise(1, 3, 4), noise(1, 3, 4), noise(2, 3)], GROUPED, ()),
    ("LSTM", 14, [noise(3, 1, 2), noise(1, 8, 2), noise(1, 8, 2)], {"hidden_size": 2, "direction": "reverse"}, ()),
    ("GRU", 14, [noise(3, 1, 2), noise(1, 6, 2), noise(1, 6, 2)], {"hidden_size": 2}, ()),
    ("Resize", 19, [noise(1, 1, 5), noise(0), noise(0), ints(1, 1, 3)], {"mode": "linear", "antialias": 1}, (1, 2, 3)),
    ("GridSample", 22, [noise(1, 1, 4, 4), 0.3 * noise(1, 2, 2, 2)], {}, ()),
    ("Pad", 21, [noise(2, 4), ints(0, 2, 1, 3)], {"mode": "reflect"}, (1,)),
    ("Slice", 13, [noise(5), ints(4), ints(-6), ints(0), ints(-2)], {}, (1, 2, 3, 4)),
    ("Gather", 13, [noise(3, 2), ints(0, 0, -1)], {}, (1,)),
    ("ScatterND", 18, [noise(4), ints(1, 1).reshape(2, 1), noise(2)], {"reduction": "add"}, (1,)),
    ("ReduceL2", 18, [noise(3, 4), ints(1)], {}, (1,)),
    ("ReduceLogSumExp", 18, [noise(3, 4), ints(0)], {}, (1,)),
    ("Softmax", 11, [noise(2, 3, 2)], {"axis": 1}, ()),
    ("Clip", 13, [noise(6), np.array(-0.3, np.float32), np.array(0.4, np.float32)], {}, (1, 2)),
    ("PRelu", 16, [noise(2, 3), noise(3)], {}, ()),
    ("Einsum", 12, [noise(2, 3), noise(3, 2)], {"equation": "ij,jk->ik"}, ()),
    ("Gemm", 13, [noise(2, 3), noise(4, 3), noise(4)], {"transB": 1}, ()),
]  # fmt: skip


def double_program(
    op_type: str, opset: int, inputs: list[Array], attributes: dict[str, Any], fixed: tuple[int, ...]
) -> tuple[Program, dict[str, Array]]:
    model, feeds = node_model(op_type, inputs, attributes, opset, constants=fixed)
    graph = deserialize(model, None, "test", Limits())
    graph, infos = interpret(graph, 1, {name: value.shape for name, value in feeds.items()}, Limits())
    return compile_program(graph, infos, {}, device="cpu", dtype=torch.float64), feeds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_gradients_agree_with_finite_differences(
    case: tuple[str, int, list[Array], dict[str, Any], tuple[int, ...]],
) -> None:
    program, feeds = double_program(*case)
    tensors = [torch.from_numpy(value.astype(np.float64)).requires_grad_() for value in feeds.values()]

    def run(*values: torch.Tensor) -> torch.Tensor:
        return program.run(dict(zip(feeds, values, strict=True)))["y0"]

    assert torch.autograd.gradcheck(run, tensors, eps=1e-6, atol=1e-5)


def test_queries_that_see_nothing_have_zero_gradients() -> None:
    mask = np.array([[True, False], [False, False]])
    inputs = [noise(1, 1, 2, 2), noise(1, 1, 2, 2), noise(1, 1, 2, 2), mask]
    model, feeds = node_model("Attention", inputs, {}, 24)
    graph = deserialize(model, None, "test", Limits())
    graph, infos = interpret(graph, 1, {name: value.shape for name, value in feeds.items()}, Limits())
    program = compile_program(graph, infos, {}, device="cpu")
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    query = tensors["x0"].requires_grad_()
    output = program.run(tensors)["y0"]
    assert output[0, 0, 1].tolist() == [0.0, 0.0]
    output.sum().backward()
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()
