"""The batch is the axis that no operator mixes, wherever it stands; where each is mixed, there is none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aznas_onnx.blocks import find_blocks
from aznas_onnx.costs import count
from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph import Model, prepare, specialise
from aznas_onnx.scoring import score
from aznas_onnx.verify import verify
from tests.graph.builders import network, weights

STEPS, WIDTH, HIDDEN, NODES = 7, 6, 5, 9
LSTM = """
    o = LSTM <hidden_size = 5> (x, w, r, b)
    s = Squeeze (o, one)
    l = Gather <axis = 0> (s, last)
    y = Gemm (l, v, c)
"""
LSTM_WEIGHTS = {
    "w": weights(1, 4 * HIDDEN, WIDTH),
    "r": weights(1, 4 * HIDDEN, HIDDEN),
    "b": weights(1, 8 * HIDDEN),
    "one": np.array([1]),
    "last": np.array(-1),
    "v": weights(HIDDEN, 3),
    "c": weights(3),
}
LSTM_MACS = STEPS * 4 * HIDDEN * (WIDTH + HIDDEN) + HIDDEN * 3
ATTENTION = """
    q = MatMul (x, w)
    b = Transpose <perm = [1, 0, 2]> (q)
    k = Transpose <perm = [1, 2, 0]> (q)
    s = MatMul (b, k)
    p = Softmax <axis = -1> (s)
    o = MatMul (p, b)
    t = Transpose <perm = [1, 0, 2]> (o)
    a = Add (t, x)
    n = LayerNormalization (a, scale)
    y = MatMul (n, u)
"""
ATTENTION_WEIGHTS = {"w": weights(WIDTH, WIDTH), "u": weights(WIDTH, 3), "scale": np.ones(WIDTH, dtype=np.float32)}
ATTENTION_MACS = STEPS * WIDTH * WIDTH + 2 * STEPS * STEPS * WIDTH + STEPS * WIDTH * 3


def lstm(steps: int | str = STEPS, batch: int | str = "b") -> onnx.ModelProto:
    return network(LSTM, {"x": (steps, batch, WIDTH)}, LSTM_WEIGHTS)


def attention(steps: int | str = STEPS, batch: int | str = "b") -> onnx.ModelProto:
    return network(ATTENTION, {"x": (steps, batch, WIDTH)}, ATTENTION_WEIGHTS)


def check(model: Model, macs: int, axis: int = 1) -> None:
    assert model.inputs.batch_axes["x"] == axis
    assert not model.fixed_batch
    assert count(model).macs == macs
    assert specialise(model, 11).infos.shape("y")[model.layout.batch_axes["y"]] == 11


@pytest.mark.parametrize("batch", ["b", 1, 2, 3])
def test_a_time_major_network(batch: int | str) -> None:
    check(prepare(lstm(batch=batch)), LSTM_MACS)
    check(prepare(attention(batch=batch)), ATTENTION_MACS)


@pytest.mark.parametrize("batch", ["b", 3])
def test_a_time_major_network_agrees_with_onnx_runtime(batch: int | str) -> None:
    assert verify(lstm(batch=batch)).agrees
    assert verify(attention(batch=batch)).agrees


def test_blocks_have_the_batch_where_it_is() -> None:
    (block,) = find_blocks(prepare(attention())).blocks
    assert (block.batch_axis, block.channel_axis) == (1, 2)


def test_layers_in_either_layout_score_alike() -> None:
    """Samples are drawn one by one, so the same network is fed the same."""
    major = "m = Transpose <perm = [1, 0, 2]> (x)" + ATTENTION.replace("(x, w)", "(m, w)").replace("(t, x)", "(t, m)")
    first = network(major, {"x": ("b", STEPS, WIDTH)}, ATTENTION_WEIGHTS)
    scores = [score(model, batch_size=8, device="cpu").proxies["expressivity"].mean for model in (first, attention())]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_an_open_length_is_not_the_batch() -> None:
    for model, macs in ((lstm("t"), LSTM_MACS), (attention("t"), ATTENTION_MACS), (lstm("t", 1), LSTM_MACS)):
        with pytest.raises(ModelError, match="unknown on axis 0; give it with --input x=128x1x6"):
            prepare(model)
        check(prepare(model, input_shapes={"x": (STEPS, 1, WIDTH)}), macs)


def test_a_size_given_for_the_batch_is_an_example() -> None:
    model = prepare(attention(), input_shapes={"x": (STEPS, 5, WIDTH)})
    assert model.inputs.batch_is_free
    check(model, ATTENTION_MACS)
    check(prepare(attention(batch=3), input_shapes={"x": (STEPS, 5, WIDTH)}), ATTENTION_MACS)


def test_another_input_gives_the_batch_no_size() -> None:
    body = "a = Concat <axis = 1> (past, x)  y = MatMul (a, w)"
    model = network(body, {"past": ("b", "p", WIDTH), "x": ("b", 4, WIDTH)}, {"w": weights(WIDTH, 3)})
    found = prepare(model, input_shapes={"past": (2, 3, WIDTH)})
    assert found.inputs.batch_is_free
    assert found.inputs.batched == {"past", "x"}
    assert count(found).macs == 7 * WIDTH * 3


def test_an_empty_cache() -> None:
    body = "a = Concat <axis = 1> (past, x)  y = MatMul (a, w)"
    for length, given in ((0, None), ("p", {"past": (1, 0, WIDTH)})):
        model = network(body, {"past": ("b", length, WIDTH), "x": ("b", 4, WIDTH)}, {"w": weights(WIDTH, 3)})
        assert count(prepare(model, input_shapes=given)).macs == 4 * WIDTH * 3


@pytest.mark.parametrize("batch", ["b", 1, 2])
def test_states_of_a_recurrent_layer_have_the_batch_behind_the_directions(batch: int | str) -> None:
    body = """
        t = Transpose <perm = [1, 0, 2]> (x)
        o, hn, cn = LSTM <hidden_size = 5> (t, w, r, , , h0, c0)
        s = Squeeze (o, one)
        y = Transpose <perm = [1, 0, 2]> (s)
    """
    state = (1, batch, HIDDEN)
    model = prepare(network(body, {"x": (batch, STEPS, WIDTH), "h0": state, "c0": state}, LSTM_WEIGHTS))
    assert dict(model.inputs.batch_axes) == {"x": 0, "h0": 1, "c0": 1}
    assert specialise(model, 4).infos.shape("y") == (4, STEPS, HIDDEN)


def test_the_batch_on_the_last_axis() -> None:
    body = "a = MatMul (w, x)  r = Relu (a)  y = MatMul (v, r)"
    model = prepare(network(body, {"x": (WIDTH, "n")}, {"w": weights(8, WIDTH), "v": weights(3, 8)}))
    check(model, 8 * WIDTH + 3 * 8, axis=1)
    assert [block.channel_axis for block in find_blocks(model).blocks] == [0]


GRAPH = {"w": weights(WIDTH, HIDDEN), "v": weights(HIDDEN, 3)}


def graph_network(kind: str, nodes: int | str = NODES) -> onnx.ModelProto:
    """Return two layers of a graph network: by a dense adjacency, or by messages along edges."""
    constants = {**GRAPH, "zero": np.array(0), "one": np.array(1), "column": np.array([-1, 1])}
    inputs: dict[str, tuple[int | str, ...]] = {"x": (nodes, WIDTH)}
    if kind == "adjacency":
        inputs["adj"] = (nodes, nodes)
        ends, mix = "", "{1} = MatMul (adj, {0})"
    else:
        ends = "s = Gather (edges, zero)  t = Gather (edges, one)  target = Reshape (t, column)"
        mix = '{0}m = Gather ({0}, s)  {0}z = Sub ({0}, {0})  {1} = ScatterND <reduction = "add"> ({0}z, target, {0}m)'
    layers = f"a = MatMul (x, w) {mix.format('a', 'b')}  r = Relu (b)  c = MatMul (r, v)  {mix.format('c', 'y')}"
    model = network(f"{ends} {layers}", inputs, constants)
    if kind == "edges":
        model.graph.input.append(helper.make_tensor_value_info("edges", TensorProto.INT64, [2, 20]))
    return model


@pytest.mark.parametrize(("kind", "extra"), [("adjacency", NODES * NODES * (HIDDEN + 3)), ("edges", 0)])
def test_a_graph_network_has_no_batch(kind: str, extra: int) -> None:
    model = prepare(graph_network(kind))
    assert not model.inputs.has_batch
    assert any("no axis of input" in warning for warning in model.warnings)
    assert count(model).macs == NODES * (WIDTH * HIDDEN + HIDDEN * 3) + extra
    with pytest.raises(ModelError, match="score one sample at a time, with --batch-size 1"):
        specialise(model, 2)
    assert verify(graph_network(kind)).agrees


def test_edges_are_drawn_at_random() -> None:
    """With all of them between two nodes, the others would have no features."""
    model = graph_network("edges")
    plan = prepare(model).inputs
    assert dict(plan.indices) == {"edges": NODES}
    assert any("'edges' names rows" in warning for warning in plan.warnings)
    assert not any("filled with ones" in warning for warning in plan.warnings)
    variance = score(model, device="cpu").proxies["expressivity"].mean
    assert variance is not None
    assert variance > 0.1


def test_nodes_that_are_left_open_are_no_batch_either() -> None:
    with pytest.raises(ModelError, match="the size of input 'x' is unknown on axis 0; give it with --input x=128x6"):
        prepare(graph_network("adjacency", "n"))
    model = prepare(graph_network("adjacency", "n"), input_shapes={"x": (NODES, WIDTH)})
    assert not model.inputs.has_batch


def test_a_set_of_points_without_a_batch() -> None:
    body = "a = MatMul (x, w)  r = Relu (a)  m = ReduceMax <keepdims = 1> (r, zero)  y = MatMul (m, v)"
    constants = {**GRAPH, "zero": np.array([0])}
    model = prepare(network(body, {"x": (NODES, WIDTH)}, constants))
    assert not model.inputs.has_batch
    assert count(model).macs == NODES * WIDTH * HIDDEN + HIDDEN * 3


@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul (x, w)  m = ReduceMean (a, zero)  c = Sub (a, m)  y = MatMul (c, v)",  # batch normalisation
        "a = MatMul (x, w)  t = Transpose <perm = [1, 0]> (a)  y = MatMul (a, t)",  # all pairs of samples
        "a = MatMul (x, w)  b = MatMul (a, v)  y = ReduceMean <keepdims = 0> (b)",  # a loss
    ],
)
def test_a_network_that_compares_samples_still_has_a_batch(body: str) -> None:
    model = prepare(network(body, {"x": ("n", WIDTH)}, {**GRAPH, "zero": np.array([0])}))
    assert model.inputs.batch_axes["x"] == 0


def test_the_user_names_the_batch() -> None:
    """Of a layer that takes each vector by itself either axis may be the batch."""
    model = network("y = MatMul (x, w)", {"x": (STEPS, 4, WIDTH)}, {"w": weights(WIDTH, 3)})
    assert count(prepare(model)).macs == 4 * WIDTH * 3
    check(prepare(model, input_shapes={"x": (STEPS, -1, WIDTH)}), STEPS * WIDTH * 3)
    for shape, reason in (((-1, -1, WIDTH), "two axes of 'x' the batch"), ((STEPS, 0, WIDTH), "size 0")):
        with pytest.raises(SettingsError, match=reason):
            prepare(model, input_shapes={"x": shape})


def test_the_samples_of_a_graph_network_are_its_nodes_features() -> None:
    for batch in ((), ("b",)):
        nodes = 3 * WIDTH
        body = "a = MatMul (x, w)  b = MatMul (adj, a)  r = Relu (b)  c = MatMul (r, v)  y = MatMul (adj, c)"
        model = prepare(network(body, {"adj": (*batch, nodes, nodes), "x": (*batch, nodes, WIDTH)}, GRAPH))
        assert model.inputs.primary == "x"
        assert model.inputs.has_batch == bool(batch)
        assert count(model).macs == nodes * (WIDTH * HIDDEN + HIDDEN * 3) + nodes * nodes * (HIDDEN + 3)


def test_the_name_of_another_inputs_first_axis_is_the_batch() -> None:
    """Of a state behind one direction, where no recurrent layer is seen: it may be in a branch."""
    body = "r = Squeeze (state, zero)  h = MatMul (r, w)  y = Add (h, x)"
    inputs = {"x": ("b", 4), "state": (1, "b", 8)}
    model = network(body, inputs, {"w": weights(8, 4), "zero": np.array([0])})
    assert dict(prepare(model).inputs.batch_axes) == {"x": 0, "state": 1}


def test_steps_that_are_written_out_are_no_samples() -> None:
    """A recurrent layer without an operator of its own reads the steps one by one."""
    steps = "".join(
        f"x{t} = Gather <axis = 0> (x, n{t})  i{t} = MatMul (x{t}, w)  r{t} = MatMul (h{t}, u)  s{t} = Add (i{t}, r{t})"
        f"  h{t + 1} = Tanh (s{t})  "
        for t in range(3)
    )
    body = f"f = Gather <axis = 0> (x, n3)  h0 = MatMul (f, w)  {steps} y = MatMul (h3, v)"
    constants = {"w": weights(WIDTH, HIDDEN), "u": weights(HIDDEN, HIDDEN), "v": weights(HIDDEN, 3)}
    numbers = {f"n{t}": np.array(t) for t in range(4)}
    model = prepare(network(body, {"x": (4, 2, WIDTH)}, {**constants, **numbers}))
    check(model, 4 * WIDTH * HIDDEN + 3 * HIDDEN * HIDDEN + HIDDEN * 3)


def test_samples_are_the_sequence_and_not_the_states() -> None:
    body = "o, h, k = LSTM <hidden_size = 5> (x, w, r, , , h0, c0)  y = Squeeze (o, one)"
    state = (1, 1, HIDDEN)
    model = prepare(network(body, {"h0": state, "c0": state, "x": (STEPS, 1, 6)}, LSTM_WEIGHTS))
    assert model.inputs.primary == "x"
    assert dict(model.inputs.batch_axes) == {"x": 1, "h0": 1, "c0": 1}


def test_proxies_of_other_papers_see_samples_wherever_the_batch_is() -> None:
    layers = (
        "h = MatMul (m, w)  r = Relu (h)  k = MatMul (r, v)  t = ReduceMean <keepdims = 0> (k, steps)  y = Add (t, c)"
    )
    constants = {**GRAPH, "c": weights(3)}
    wanted = ("naswot", "swap", "jacov", "gradsign", "zen", "vkdnw")
    found = []
    for axis, shape in ((0, ("n", STEPS, WIDTH)), (1, (STEPS, "n", WIDTH))):
        steps = {"steps": np.array([1 - axis])}
        model = network(f"m = Identity (x)  {layers}", {"x": shape}, {**constants, **steps})
        assert prepare(model).inputs.batch_axes["x"] == axis
        found.append(
            [value.mean for value in score(model, batch_size=4, device="cpu", proxies=wanted).proxies.values()]
        )
    assert None not in found[0]
    assert found[0] == pytest.approx(found[1], rel=1e-3)
