from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.meaning.constant_roles import ConstantRole
from aznas_onnx.initialise import (
    Distribution,
    Stream,
    WeightSource,
    draw,
    generator,
    neutral_inputs,
    plan_weights,
    rademacher,
)
from tests.graph.builders import network, weights

CPU = torch.device("cpu")


def plan_of(body: str, constants=None, *, batch_size: int = 4, is_transformer: bool = False, **kwargs):
    model = specialise(prepare(network(body, constants=constants, **kwargs), keep_graph=True), batch_size)
    return plan_weights(model.graph, model.infos, is_transformer=is_transformer)


def law_of(body: str, name: str, constants, **kwargs) -> tuple[Distribution, float]:
    weight = plan_of(body, constants, **kwargs)[name]
    return weight.distribution, weight.parameter


INPUTS = {"x": ("n", 3, 8, 8), "mean": (3, 1, 1), "std": (3, 1, 1)}
ROWS = {"x": ("n", 12)}
TOKENS = {"x": ("n", 6, 12)}


# ---- fan-in -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "shape", "inputs", "fan_in"),
    [
        ("y = Conv (x, w)", (8, 3, 3, 3), None, 27),
        ("y = Conv <group = 3> (x, w)", (6, 1, 5, 5), None, 25),
        ("y = ConvTranspose (x, w)", (3, 8, 2, 2), None, 32),
        ("y = MatMul (x, w)", (12, 5), ROWS, 12),
        ("y = MatMul (x, w)", (6, 12, 5), {"x": ("n", 6, 3, 12)}, 12),
        ("y = MatMul (w, x)", (9, 6), TOKENS, 6),
        ("y = Gemm (x, w)", (12, 5), ROWS, 12),
        ("y = Gemm <transB = 1> (x, w)", (5, 12), ROWS, 12),
        ('y = Einsum <equation = "btd,dhe->bthe"> (x, w)', (12, 2, 3), TOKENS, 12),
        ('y = Einsum <equation = "bthe,hed->btd"> (x, w)', (2, 6, 5), {"x": ("n", 6, 2, 6)}, 12),
    ],
)
def test_fan_in_is_what_the_operator_sums_over(body, shape, inputs, fan_in):
    distribution, std = law_of(body, "w", {"w": weights(*shape)}, inputs=inputs)
    assert distribution is Distribution.NORMAL
    assert std == pytest.approx(math.sqrt(2 / fan_in))


# ---- distributions -------------------------------------------------------------------------------------------
def test_transformers_draw_linear_weights_from_a_truncated_normal():
    assert law_of("y = MatMul (x, w)", "w", {"w": weights(12, 5)}, inputs=ROWS, is_transformer=True) == (
        Distribution.TRUNCATED_NORMAL,
        0.02,
    )


def test_a_transformers_patch_embedding_keeps_what_pytorch_gives_it():
    constants = {"w": weights(8, 3, 4, 4), "b": weights(8)}
    plan = plan_of("y = Conv <strides = [4, 4]> (x, w, b)", constants, is_transformer=True)
    assert [(w.distribution, w.parameter) for w in plan.values()] == [
        (Distribution.UNIFORM, pytest.approx(1 / math.sqrt(48)))
    ] * 2
    torch.manual_seed(0)
    reference = torch.nn.Conv2d(3, 8, 4)
    assert float(reference.weight.detach().abs().max()) == pytest.approx(1 / math.sqrt(48), rel=0.01)
    assert draw(plan, seed=0, device=CPU)["w"].std() == pytest.approx(float(reference.weight.detach().std()), rel=0.15)


@pytest.mark.parametrize(
    ("body", "constants", "expected"),
    [
        ("y = Conv (x, w, b)", {"w": (8, 3, 1, 1), "b": (8,)}, {"b": 0.0}),
        (
            "y = BatchNormalization (x, s, b, m, v)",
            {"s": (3,), "b": (3,), "m": (3,), "v": (3,)},
            {"s": 1.0, "b": 0.0, "m": 0.0, "v": 1.0},
        ),
        ("h = Conv (x, w) y = PRelu (h, s)", {"w": (8, 3, 1, 1), "s": (8, 1, 1)}, {"s": 0.25}),
        ("h = Conv (x, w) y = Mul (h, g)", {"w": (8, 3, 1, 1), "g": (8, 1, 1)}, {"g": 1.0}),
        ("h = Conv (x, w) r = Relu (h) y = Add (r, b)", {"w": (8, 3, 1, 1), "b": (1, 8, 1, 1)}, {"b": 0.0}),
    ],
)
def test_vectors_get_fixed_values(body, constants, expected):
    plan = plan_of(body, {name: np.abs(weights(*shape)) for name, shape in constants.items()})
    drawn = draw(plan, seed=0, device=CPU, names=expected)
    assert {name: set(tensor.flatten().tolist()) for name, tensor in drawn.items()} == {
        name: {value} for name, value in expected.items()
    }


def test_recurrent_weights_are_uniform_by_the_hidden_size():
    constants = {"w": weights(1, 16, 12), "r": weights(1, 16, 4)}
    plan = plan_of("y = LSTM <hidden_size = 4> (x, w, r)", constants, inputs={"x": (6, 1, 12)}, batch_size=6)
    assert (plan["w"].distribution, plan["w"].parameter) == (Distribution.UNIFORM, 0.5)
    assert (plan["r"].distribution, plan["r"].parameter) == (Distribution.UNIFORM, 0.5)


def test_scalars_and_masks_keep_the_value_of_the_file():
    mask = np.where(np.tril(np.ones((6, 6))) == 1, 0.0, -100.0).astype(np.float32)
    body = "k = MatMul (x, w) a = Add (k, mask) b = Mul (a, scale) y = Softmax (b)"
    constants = {"w": weights(12, 6), "mask": mask, "scale": np.array([0.125], dtype=np.float32)}
    plan = plan_of(body, constants, inputs=TOKENS)
    assert set(plan) == {"w"}


# ---- position embeddings and class tokens -------------------------------------------------------------------------
def test_position_embeddings_are_truncated_normal():
    plan = plan_of("h = MatMul (x, w) y = Add (h, p)", {"w": weights(12, 8), "p": weights(1, 6, 8)}, inputs=TOKENS)
    assert (plan["p"].role, plan["p"].distribution, plan["p"].parameter) == (
        ConstantRole.POSITION,
        Distribution.TRUNCATED_NORMAL,
        0.02,
    )


def test_all_samples_get_the_same_class_token():
    body = """
        shape = Shape <start = 0, end = 1> (x)
        target = Concat <axis = 0> (shape, ones)
        tokens = Expand (token, target)
        y = Concat <axis = 1> (tokens, x)
    """
    constants = {"token": weights(1, 1, 12), "ones": np.array([1, 12], dtype=np.int64)}
    plan = plan_of(body, constants, inputs=TOKENS, batch_size=5)
    (weight,) = plan.values()
    assert weight.shape == (5, 1, 12)
    token = draw(plan, seed=0, device=CPU)[weight.name]
    assert token.shape == (5, 1, 12)
    assert (token == token[0]).all()
    assert token[0].std() > 0


def test_filters_are_not_taken_for_samples_where_there_are_equally_many():
    plan = plan_of("y = Conv (x, w)", {"w": weights(8, 3, 3, 3)}, batch_size=8)
    drawn = draw(plan, seed=0, device=CPU)["w"]
    assert not (drawn == drawn[0]).all()


# ---- preprocessing ------------------------------------------------------------------------------------------------
def test_arithmetic_on_the_raw_input_is_made_neutral():
    body = "a = Mul (x, scale) b = Sub (a, mean) c = Div (b, std) y = Conv (c, w)"
    constants = {
        "scale": np.array(1 / 255, dtype=np.float32),
        "mean": weights(3, 1, 1),
        "std": np.abs(weights(3, 1, 1)),
        "w": weights(8, 3, 3, 3),
    }
    drawn = draw(plan_of(body, constants), seed=0, device=CPU)
    assert drawn["scale"].item() == 1.0
    assert (drawn["mean"] == 0).all()
    assert (drawn["std"] == 1).all()


def test_constants_that_an_exporter_leaked_as_inputs_are_made_neutral():
    model = prepare(
        network("a = Sub (x, mean) b = Div (a, std) y = Conv (b, w)", INPUTS, {"w": weights(8, 3, 3, 3)}),
        keep_graph=True,
    )
    assert dict(neutral_inputs(model.graph, ["mean", "std", "unused"])) == {"mean": 0.0, "std": 1.0}


def test_arithmetic_behind_a_weight_is_the_networks_own():
    body = "h = Conv (x, w) y = Mul (h, scale)"
    assert "scale" not in plan_of(body, {"w": weights(8, 3, 3, 3), "scale": np.array(0.5, dtype=np.float32)})


# ---- the draw -----------------------------------------------------------------------------------------------------
CHAIN = "a = Conv (x, w1) b = Relu (a) y = Conv (b, w2)"
CHAIN_WEIGHTS = {"w1": weights(64, 3, 3, 3), "w2": weights(64, 64, 3, 3)}


def test_a_seed_gives_the_same_weights_whichever_is_sampled_first():
    plan = plan_of(CHAIN, CHAIN_WEIGHTS)
    together = draw(plan, seed=3, device=CPU)
    source = WeightSource(plan, 3, CPU)
    assert torch.equal(source.draw("w2"), together["w2"])
    assert torch.equal(source.draw("w1"), together["w1"])
    assert not torch.equal(draw(plan, seed=4, device=CPU)["w1"], together["w1"])


def test_names_of_tensors_do_not_matter():
    constants = {"zz": CHAIN_WEIGHTS["w1"], "aa": CHAIN_WEIGHTS["w2"]}
    renamed = plan_of("a = Conv (x, zz) b = Relu (a) y = Conv (b, aa)", constants)
    original = plan_of(CHAIN, CHAIN_WEIGHTS)
    assert torch.equal(draw(renamed, seed=0, device=CPU)["zz"], draw(original, seed=0, device=CPU)["w1"])
    assert torch.equal(draw(renamed, seed=0, device=CPU)["aa"], draw(original, seed=0, device=CPU)["w2"])


def test_weights_have_the_deviation_of_their_distribution():
    drawn = draw(plan_of(CHAIN, CHAIN_WEIGHTS), seed=0, device=CPU)
    assert float(drawn["w2"].std()) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert float(drawn["w2"].mean()) == pytest.approx(0.0, abs=2e-3)


def test_a_truncated_normal_stays_within_its_bounds():
    plan = plan_of("y = MatMul (x, w)", {"w": weights(12, 4000)}, inputs=ROWS, is_transformer=True)
    drawn = draw(plan, seed=0, device=CPU)["w"]
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.03)


def test_no_data_of_a_weight_is_read():
    def fail():
        raise AssertionError("weights are drawn, not read")

    model = specialise(prepare(network(CHAIN, constants=CHAIN_WEIGHTS), keep_graph=True), 4)
    from dataclasses import replace

    unread = {name: replace(constant, read=fail) for name, constant in model.graph.constants.items()}
    plan = plan_weights(replace(model.graph, constants=unread), model.infos, is_transformer=False)
    assert set(plan) == {"w1", "w2"}


# ---- streams ------------------------------------------------------------------------------------------------------
def test_streams_differ_by_purpose_and_index():
    numbers = {
        (stream, index, seed): torch.randn(3, generator=generator(seed, stream, index, CPU)).tolist()[0]
        for stream in Stream
        for index in (0, 1)
        for seed in (0, 1)
    }
    assert len(set(numbers.values())) == len(numbers)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (64,), (65,), (3, 5, 7)])
def test_rademacher_tensors_have_any_shape(shape):
    signs = rademacher(shape, CPU, generator(0, Stream.RADEMACHER, 0, CPU))
    assert signs.shape == shape
    assert signs.dtype == torch.float32
    assert (signs.abs() == 1).all()


def test_rademacher_signs_are_balanced_and_uncorrelated():
    signs = rademacher((100_000, 16), CPU, generator(0, Stream.RADEMACHER, 0, CPU))
    correlation = signs.T @ signs / len(signs)
    assert float(signs.mean()) == pytest.approx(0.0, abs=0.003)
    assert torch.allclose(correlation, torch.eye(16), atol=0.02)


# ---- recurrent cells that are written out -------------------------------------------------------------------------
LSTM_STEP = """
    p{0} = Gemm <transB = 1> (i{0}, win, bias)  q{0} = Gemm <transB = 1> ({1}, wr, bias)  g{0} = Add (p{0}, q{0})
    u{0}, f{0}, o{0}, n{0} = Split <axis = 1, num_outputs = 4> (g{0})
    su{0} = Sigmoid (u{0})  sf{0} = Sigmoid (f{0})  so{0} = Sigmoid (o{0})  tn{0} = Tanh (n{0})
    a{0} = Mul (sf{0}, {2})  b{0} = Mul (su{0}, tn{0})  c{0} = Add (a{0}, b{0})  t{0} = Tanh (c{0})
    h{0} = Mul (so{0}, t{0})
"""
JOINED_STEP = (
    "j{0} = Concat <axis = 1> (i{0}, {1})  m{0} = MatMul (j{0}, wj)  h{0} = Tanh (m{0})  c{0} = Identity (h{0})"
)
LOOP = """
    e = MatMul (x, win)  t = Transpose <perm = [1, 0, 2]> (e)  at = Constant <value_int = 0> ()
    h0 = Gather <axis = 0> (t, at)  count = Constant <value_int = 5> ()
    h4 = Loop (count, , h0) <body = step (int64 i, bool go, float[n, w] h) => (bool d, float[n, w] k) {
        d = Identity (go)  r = Gather <axis = 0> (t, i)  p = MatMul (h, wr)  s = Add (r, p)  k = Tanh (s)
    }>
"""


def written_out(step: str) -> str:
    body = "h = ReduceMean <keepdims = 0> (x, axis)  zero = MatMul (h, start)  "
    body += "  ".join(f"at{t} = Constant <value_int = {t}> ()  i{t} = Gather <axis = 1> (x, at{t})" for t in range(5))
    for t in range(5):
        body += step.format(t, f"h{t - 1}" if t else "zero", f"c{t - 1}" if t else "zero")
    return body


@pytest.mark.parametrize("is_transformer", [False, True])
@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        (written_out(LSTM_STEP), {"win": (32, 12), "wr": (32, 8)}),
        (written_out(JOINED_STEP), {"wj": (20, 8)}),
        (LOOP, {"win": (12, 8), "wr": (8, 8)}),
    ],
)
def test_cells_that_are_written_out_are_initialised_as_operators(body: str, shapes, is_transformer: bool) -> None:
    constants = {name: weights(*shape) for name, shape in shapes.items()}
    constants |= {"bias": weights(32), "out": weights(8, 5), "start": weights(12, 8), "axis": np.array([1])}
    plan = plan_of(f"{body} y = MatMul (h4, out)", constants, inputs={"x": ("n", 5, 12)}, is_transformer=is_transformer)
    for name in shapes:
        found = plan[name]
        assert (found.role, found.distribution) == (ConstantRole.RECURRENT_WEIGHT, Distribution.UNIFORM)
        assert found.parameter == pytest.approx(8**-0.5)
    assert plan["out"].role is ConstantRole.LINEAR_WEIGHT
