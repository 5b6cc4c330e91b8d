from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights


@pytest.mark.parametrize(
    ("kind", "name"),
    [(TensorProto.FLOAT16, "float16"), (TensorProto.BFLOAT16, "bfloat16"), (TensorProto.DOUBLE, "float64")],
)
def test_every_float_is_taken_as_float32(kind: int, name: str) -> None:
    model = network("a = Conv (x, w)  y = Relu (a)", input_type=kind, opset=22)
    values = weights(4, 3, 3, 3).astype(helper.tensor_dtype_to_np_dtype(kind))
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    prepared = prepare(model)
    assert {info.dtype for info in prepared.infos.values()} == {np.dtype(np.float32)}
    assert f"{name} tensors taken as float32" in prepared.changes
    read = prepared.graph.constants["w"].read
    assert read is not None
    np.testing.assert_array_equal(read(), values.astype(np.float32))


def test_casts_between_float_types_disappear() -> None:
    model = network("a = Cast <to = 10> (x)  b = Relu (a)  y = Cast <to = 1> (b)")
    assert [node.op_type for node in prepare(model).graph.nodes] == ["Relu"]


def test_a_cast_to_integers_stays() -> None:
    model = network("a = Cast <to = 7> (x)  y = Cast <to = 10> (a)")
    assert [node.op_type for node in prepare(model).graph.nodes] == ["Cast", "Cast"]


def test_branches_are_converted_too() -> None:
    body = """
        y = If (c) <
            then_branch = t () => (float16[1,3,8,8] a) { k = Constant <value = float16[1] {1}> ()  a = Add (x, k) },
            else_branch = e () => (float16[1,3,8,8] d) { d = Relu (x) }
        >
    """
    model = network(body, constants={"c": np.array(True)}, input_type=TensorProto.FLOAT16)
    assert prepare(model).infos["y"].dtype == np.float32
