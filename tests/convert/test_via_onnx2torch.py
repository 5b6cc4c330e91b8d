from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aznas_onnx.convert import compile_program
from aznas_onnx.convert.program import Program
from aznas_onnx.errors import UnsupportedOperatorError
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.limits import Limits
from tests.convert.runner import Array, assert_same, node_model, run_onnxruntime

X = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)


def register(onnx2torch_registry: Any, op_type: str, version: int, make: Any, domain: str = "") -> None:
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    def convert(node: Any, graph: Any) -> Any:
        return OperationConverterResult(make(node, graph), onnx_mapping_from_node(node))

    onnx2torch_registry.add_converter(op_type, version, domain)(convert)


def compiled(
    op_type: str, version: int, *inputs: Array, constants: tuple[int, ...] = (), **attributes: object
) -> tuple[Program, list[Array], list[Array]]:
    """Return the program of one node, its outputs, and those of ONNX Runtime."""
    model, feeds = node_model(op_type, inputs, attributes, version, constants=constants)
    graph = deserialize(model, None, "test", Limits())
    graph, infos = interpret(graph, 1, {name: value.shape for name, value in feeds.items()}, Limits())
    program = compile_program(graph, infos, {}, device="cpu")
    results = program.run({name: torch.from_numpy(value) for name, value in feeds.items()})
    return program, [results[name].numpy() for name in program.outputs], run_onnxruntime(model, feeds)


def test_onnx2torch_is_imported_only_where_an_operator_needs_it() -> None:
    program = "import sys, aznas_onnx.convert; print('onnx2torch' in sys.modules, 'torchvision' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_a_version_that_only_its_registry_has_is_converted_and_named() -> None:
    model, _ = node_model("Sigmoid", [X], {}, 1)
    graph = deserialize(model, None, "test", Limits())
    graph, infos = interpret(graph, 1, {"x0": X.shape}, Limits())
    program = compile_program(graph, infos, {}, device="cpu")
    assert len(program.notes) == 1
    assert program.notes[0].startswith("operator Sigmoid is converted by onnx2torch")


class MaxRoiPool(nn.Module):
    def __init__(self, shape: list[int], factor: float = 1.0) -> None:
        super().__init__()
        self.shape, self.factor = shape, factor

    def forward(self, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        from torchvision.ops import roi_pool

        result: torch.Tensor = self.factor * roi_pool(x, boxes, self.shape)
        return result


def pooled() -> tuple[Program, list[Array], list[Array]]:
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)
    boxes = np.array([[0, 1, 1, 5, 6], [0, 0, 0, 3, 3]], np.float32)
    return compiled("MaxRoiPool", 1, x, boxes, pooled_shape=(2, 2))


def test_a_refused_operator_is_converted_where_the_user_registers_a_converter(onnx2torch_registry: Any) -> None:
    with pytest.raises(UnsupportedOperatorError, match="cut the model before it"):
        pooled()
    register(onnx2torch_registry, "MaxRoiPool", 1, lambda node, graph: MaxRoiPool(node.attributes["pooled_shape"]))
    program, found, expected = pooled()
    assert_same(found, expected)
    assert program.notes == ("operator MaxRoiPool is converted by onnx2torch, and agrees with ONNX Runtime",)


def test_a_converter_that_disagrees_with_onnxruntime_is_refused_by_node_and_operator(onnx2torch_registry: Any) -> None:
    register(
        onnx2torch_registry,
        "MaxRoiPool",
        1,
        lambda node, graph: MaxRoiPool(node.attributes["pooled_shape"], factor=0.5),
    )
    with pytest.raises(UnsupportedOperatorError, match=r"'MaxRoiPool_0': operator MaxRoiPool-1 .* differs by up to"):
        pooled()
    onnx2torch_registry._CONVERTER_REGISTRY.clear()
    register(onnx2torch_registry, "MaxRoiPool", 1, lambda node, graph: MaxRoiPool([3, 3]))
    with pytest.raises(UnsupportedOperatorError, match=r"result is float32\[2, 2, 3, 3\] and not float32"):
        pooled()


def test_the_comparison_is_made_once_for_a_signature(onnx2torch_registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from aznas_onnx.convert import checked_converters

    calls: list[str] = []
    compare = checked_converters._compare
    monkeypatch.setattr(checked_converters, "_compare", lambda *given: calls.append("") or compare(*given))
    register(onnx2torch_registry, "MaxRoiPool", 1, lambda node, graph: MaxRoiPool(node.attributes["pooled_shape"]))
    pooled(), pooled()
    assert len(calls) == 1
