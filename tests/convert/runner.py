"""One node, here and in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from aznas_onnx.convert import compile_program
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.limits import Limits

Array = npt.NDArray[Any]
IR_VERSION = 8  # any that every runtime reads; initialisers need not be inputs


def node_model(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any],
    opset: int,
    *,
    constants: Sequence[int] = (),
    outputs: int = 1,
    domain: str = "",
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return a model of one node and its feeds; the inputs at the positions in `constants` become initialisers."""
    names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
    given = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    fixed = {f"x{index}" for index in constants}
    node = helper.make_node(
        op_type, names, [f"y{index}" for index in range(outputs)], domain=domain, **dict(attributes)
    )
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in given.items()
            if name not in fixed
        ],
        [onnx.ValueInfoProto(name=f"y{index}") for index in range(outputs)],
        [numpy_helper.from_array(value, name) for name, value in given.items() if name in fixed],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=IR_VERSION)
    return model, {name: value for name, value in given.items() if name not in fixed}


def run_here(model: onnx.ModelProto, feeds: Mapping[str, Array], *, training: bool = False) -> list[Array]:
    """Run a model through lowering, interpretation and compilation."""
    graph = deserialize(model, None, "test", Limits())
    graph, infos = interpret(graph, 1, {name: value.shape for name, value in feeds.items()}, Limits())
    program = compile_program(graph, infos, {}, device="cpu", training=training)
    with torch.inference_mode():
        results = program.run({name: torch.from_numpy(np.array(value)) for name, value in feeds.items()})
    return [results[name].numpy() for name in program.outputs]


def run_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Run a model in ONNX Runtime, unoptimised."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def assert_same(found: Sequence[Array], expected: Sequence[Array], *, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Compare all outputs: shape, kind of number, values."""
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        assert left.shape == right.shape
        assert left.dtype.kind == right.dtype.kind
        np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)
