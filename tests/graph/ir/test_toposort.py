from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from aznas_onnx.errors import ModelError
from aznas_onnx.graph import Limits, prepare
from aznas_onnx.graph.files.load import load
from aznas_onnx.graph.ir.node_cache import decode_nodes
from aznas_onnx.graph.ir.toposort import toposort
from tests.graph.builders import network, weights

CONV = {"w": weights(4, 3, 3, 3)}


def chain() -> onnx.ModelProto:
    return network("a = Conv (x, w)  b = Relu (a)  c = Sigmoid (a)  y = Mul (b, c)", constants=CONV)


def shuffled(model: onnx.ModelProto, *order: int) -> onnx.ModelProto:
    nodes = [onnx.NodeProto.FromString(model.graph.node[index].SerializeToString()) for index in order]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def sort(model: onnx.ModelProto) -> onnx.ModelProto:
    return toposort(model, decode_nodes(model.graph.node))


def written(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_a_sorted_model_is_the_given_one() -> None:
    model = chain()
    assert sort(model) is model


def test_nodes_come_after_what_they_read_and_else_keep_their_order() -> None:
    model = shuffled(chain(), 3, 2, 0, 1)
    before = model.SerializeToString()
    assert written(sort(model)) == ["Conv", "Sigmoid", "Relu", "Mul"]
    assert model.SerializeToString() == before


def test_what_onnx_runtime_runs_unsorted_is_prepared() -> None:
    model = shuffled(chain(), 3, 2, 1, 0)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.ones(tuple(d.dim_value or 2 for d in model.graph.input[0].type.tensor_type.shape.dim), np.float32)
    assert session.run(None, {"x": image})[0].shape[1] == 4
    assert written(load(model, Limits())[0]) == ["Conv", "Sigmoid", "Relu", "Mul"]
    prepare(model)


def test_a_branch_waits_for_what_it_reads_from_around_it() -> None:
    text = """
        y = If (flag) <
            then_branch = t () => (float[N, 3, 8, 8] p) { q = Abs (late)  p = Relu (q) },
            else_branch = e () => (float[N, 3, 8, 8] r) { r = Neg (x) }
        >
        late = Exp (x)
    """
    model = network(text, {"x": ("N", 3, 8, 8)}, {"flag": np.array(True)})
    assert written(sort(model)) == ["Exp", "If"]


def test_a_cycle_is_left_to_the_checker() -> None:
    model = network("a = Add (x, b)  b = Relu (a)  y = Relu (b)")
    assert sort(model) is model
    with pytest.raises(ModelError, match="nodes form a cycle through 'b'"):
        load(model, Limits())
