"""What is remembered of attributes is small."""

from __future__ import annotations

import gc
import weakref
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Node, TensorInfo, prepare
from aznas_onnx.graph.shapes import shape_inference as infer_module
from aznas_onnx.graph.shapes.shape_inference import infer, node_proto
from tests.graph.builders import network


class Attributes(dict[str, Any]):
    """A mapping that can be watched."""


@pytest.mark.parametrize(
    ("extra", "held"),
    [
        (1, True),
        (np.zeros(4), True),
        (np.zeros(5000), False),
        ("text" * 5000, False),
        (tuple(range(5000)), False),
        (("text" * 100,) * 100, False),
    ],
    ids=["number", "small", "array", "text", "list", "list of texts"],
)
def test_large_attributes_do_not_outlive_their_node(extra: Any, held: bool) -> None:
    attributes = Attributes(perm=(1, 0), extra=extra)
    watched = weakref.ref(attributes)
    node = Node(op_type="Own", inputs=("x",), outputs=("y",), version=13, name="n", attributes=attributes)
    assert len(node_proto(node).attribute) == 2
    infer_module._attribute_key(attributes)
    del attributes, node
    gc.collect()
    assert (watched() is not None) is held


def test_shapes_follow_from_the_attributes() -> None:
    attributes = MappingProxyType({"perm": (1, 0)})
    transpose = Node(op_type="Transpose", inputs=("x",), outputs=("y",), version=13, name="n", attributes=attributes)
    for shape in ((2, 3), (4, 5)):
        (found,) = infer(transpose, [TensorInfo(shape, np.dtype(np.float32))])
        assert found.shape == shape[::-1]


def test_a_reshape_keeps_the_number_of_elements() -> None:
    with pytest.raises(ModelError, match=r"cannot make a tensor of shape \(5, 4\) of one of \(1, 24\)"):
        prepare(network("y = Reshape (x, s)", {"x": (1, 24)}, {"s": np.array([5, 4])}))
