from __future__ import annotations

import numpy as np
import onnx
import pytest

from aznas_onnx.graph.rewrite.decompose.training import _drop_unread_outputs, _keep_branch
from aznas_onnx.graph.rewrite.editor import Editor
from tests.graph.builders import network, weights
from tests.graph.rewrite.running import canonical, computes_the_same, decomposed, operators

MAP = {"x": ("N", 4, 6, 6)}
CONSTANTS = {
    "g": weights(4), "b": weights(4, seed=1), "m": weights(4, seed=2), "v": np.abs(weights(4, seed=3)) + 0.5,
    "ratio": np.float32(0.5), "other": np.float32(0.25), "yes": np.array(True),
}  # fmt: skip


def test_unread_statistics_of_a_training_step() -> None:
    """Their places stay in training mode, which is part of what the file computes."""
    model = network("y, rm, rv = BatchNormalization <training_mode = 1> (x, g, b, m, v)", MAP, CONSTANTS)
    graph, _ = decomposed(model)
    assert graph.nodes[0].outputs == ("y", "", "")
    assert computes_the_same(canonical(model).graph, model)


def test_before_version_14_the_outputs_ask_for_training_mode() -> None:
    model = network("y, rm, rv, sm, sv = BatchNormalization (x, g, b, m, v)", MAP, CONSTANTS, opset=9)
    node = decomposed(model)[0].nodes[0]
    assert (node.version, node.outputs, node.attributes["training_mode"]) == (15, ("y", "", ""), 1)


def test_an_unread_mask() -> None:
    model = network("d, mask = Dropout (x, ratio, yes)  y = Relu (d)", MAP, CONSTANTS)
    assert operators(canonical(model).graph) == ["Relu"]


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_unread_final_states(operator: str, gates: int) -> None:
    """TorchScript names them, dynamo does not; the last output before them is the feature map."""
    constants = {"w": weights(1, 5 * gates, 6), "r": weights(1, 5 * gates, 5)}
    states = ", h, c" if operator == "LSTM" else ", h"
    model = network(f"o{states} = {operator} <hidden_size = 5> (x, w, r)  y = Relu (o)", {"x": (3, "N", 6)}, constants)
    assert decomposed(model)[0].nodes[0].outputs == ("o",)
    model.graph.output.append(onnx.ValueInfoProto(name="h"))
    assert decomposed(model)[0].nodes[0].outputs == ("o", "h")


def test_indices_that_are_read_stay() -> None:
    body = "p, i = MaxPool <kernel_shape = [2, 2]> (x)  f = Cast <to = 1> (i)  y = Add (p, f)"
    graph, _ = decomposed(network(body, MAP))
    assert graph.nodes[0].outputs == ("p", "i")
    editor = Editor(graph)
    assert _drop_unread_outputs(editor, next(editor.nodes("MaxPool"))) == "every output is read"


STOCHASTIC_DEPTH = """
    a = Abs (x)  z = Constant <value = float[1, 1, 1, 1] {0}> ()  r = RandomUniformLike (z)  l = Less (r, ratio)
    c = Cast <to = 1> (l)  d = Div (c, ratio)
"""


@pytest.mark.parametrize("product", ["Mul (a, d)", "Mul (d, a)"])
def test_a_branch_that_training_drops_at_random_is_kept(product: str) -> None:
    model = network(f"{STOCHASTIC_DEPTH} m = {product}  y = Add (x, m)", MAP, CONSTANTS)
    assert operators(decomposed(model)[0]) == ["Abs", "Add"]
    assert computes_the_same(canonical(model).graph, network("a = Abs (x)  y = Add (x, a)", MAP))


@pytest.mark.parametrize(
    "body",
    [
        STOCHASTIC_DEPTH.replace("Div (c, ratio)", "Div (c, other)"),
        STOCHASTIC_DEPTH.replace("(z)  l", "<high = 2.0> (z)  l"),
        STOCHASTIC_DEPTH.replace("Div (c, ratio)", "Add (c, ratio)"),
    ],
    ids=["other-factor", "other-range", "no-mask"],
)
def test_other_random_factors_stay(body: str) -> None:
    graph, _ = decomposed(network(f"{body} m = Mul (a, d)  y = Add (x, m)", MAP, CONSTANTS))
    assert "RandomUniformLike" in operators(graph)
    editor = Editor(graph)
    assert _keep_branch(editor, next(editor.nodes("Mul"))) == "it is not multiplied by a random mask"
