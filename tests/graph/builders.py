"""Small models for tests, built inline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["network", "save", "weights"]

Dimensions = Sequence[int | str | None]


def weights(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return seeded normal values: a weight as a trained network has it."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def network(
    body: str,
    inputs: Mapping[str, Dimensions] | None = None,
    constants: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    metadata: Mapping[str, str] | None = None,
    input_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Build a model from the text of its nodes (as in ``y = Relu (x)``), its inputs and its initialisers.

    The default input is ``x`` of one image of 3x8x8 pixels.
    """
    graph = onnx.parser.parse_graph(f"g () => () {{ {body} }}")
    shapes = inputs if inputs is not None else {"x": (1, 3, 8, 8)}
    graph.input.extend(helper.make_tensor_value_info(name, input_type, list(shape)) for name, shape in shapes.items())
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs)
    for value in graph.output:
        value.type.Clear()
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model and return where."""
    path.write_bytes(model.SerializeToString())
    return path
