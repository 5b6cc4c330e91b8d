"""Attention in pieces computes what its three steps compute, and is found where nothing else reads what they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.convert.optimise import attention_pieces, optimised
from aznas_onnx.convert.optimise.attention_pieces import AttentionInPieces, with_attention_in_pieces
from aznas_onnx.convert.optimise.grouped_look_ups import MixWithPositions, ScoresWithPositions
from aznas_onnx.graph import Model, prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.initialise import draw, plan_weights
from tests.convert.optimise.running import output_and_derivative
from tests.convert.optimise.test_grouped_look_ups import drawn, look_up, tables

CPU = torch.device("cpu")
HEADS, TOKENS, WIDTH = 2, 9, 4


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_pieces, "_LEAST_BYTES", 1)
    monkeypatch.setattr(attention_pieces, "_PIECE_BYTES", 4 * TOKENS**2 * 2)


@pytest.mark.parametrize("in_scores", [False, True])
@pytest.mark.parametrize("in_mix", [False, True])
def test_results_and_derivatives(in_scores: bool, in_mix: bool) -> None:
    queries, keys, values = drawn(2, 5, 3, 4, seed=0), drawn(2, 3, 4, 32, seed=1), drawn(2, 3, 32, 4, seed=2)
    scores = ScoresWithPositions(look_up(), scale=0.5, position_scale=2.0) if in_scores else None
    mix = MixWithPositions(look_up()) if in_mix else None
    key_tables, value_tables = tables() if in_scores else [], tables() if in_mix else []
    q = queries.transpose(1, 2)  # no copy: memory order of the projection
    run = AttentionInPieces(scores=scores, mix=mix, key_tables=len(key_tables))
    found = run(q, keys, values, *key_tables, *value_tables)
    weights = (scores(q, keys, *key_tables) if scores is not None else q @ keys).softmax(-1)
    expected = mix(weights, values, *value_tables) if mix is not None else weights @ values
    ours, others = ((made,) if isinstance(made, torch.Tensor) else made for made in (found, expected))
    wanted = (queries, keys, values, *key_tables, *value_tables)
    gradients = [torch.randn_like(part) for part in others]
    mine, theirs = (torch.autograd.grad(parts, wanted, gradients) for parts in (ours, others))
    for one, other in zip((*ours, *mine), (*others, *theirs), strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        made = run(q, keys, values, *key_tables, *value_tables)
        torch.testing.assert_close(made, found)


@given(samples=st.integers(1, 3), heads=st.integers(1, 5), queries=st.integers(1, 9), keys=st.integers(1, 9))
def test_pieces_of_any_size(samples: int, heads: int, queries: int, keys: int) -> None:
    q, k = drawn(samples, heads, queries, 3, seed=0), drawn(samples, heads, 3, keys, seed=1)
    v = drawn(samples, heads, keys, 2, seed=2)
    found = AttentionInPieces(scores=None, mix=None, key_tables=0)(q, k, v)
    assert isinstance(found, torch.Tensor)
    expected = (q @ k).softmax(-1) @ v
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(made.square().sum(), (q, k, v)) for made in (found, expected))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other)
    assert found.mul_(2.0).requires_grad


READERS: dict[str, dict[str, Any]] = {
    "Concat": {"axis": 3},
    "Identity": {},
    "Relu": {},
    "Softmax": {"axis": 3},
    "Transpose": {"perm": (0, 1, 3, 2)},  # LeViT
}
"""Operators of one tensor, and their attributes."""


# ---- where it is found --------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Written:
    """One of the ways to write an attention."""

    axis: int = -1
    reads_weights: bool = False  # behind the attention, again
    has_bias: bool = False
    shared_keys: bool = False  # of all heads
    swapped: bool = False  # of the sums' operands
    reader: str = ""  # a step between the weights and the sums


def attention(written: Written) -> Model:
    """Return a network of one attention at batch size 3."""
    inner = HEADS * WIDTH
    net = GraphBuilder("attention")
    x = net.reshape(net.conv(net.image_input(3, 3), "stem", 3, inner, kernel=1), "flat", (0, inner, TOKENS))
    x = net.transpose(x, "tokens", (0, 2, 1))
    parts = [net.linear(x, part, inner, inner) for part in "qkv"]
    heads = [net.reshape(part, f"{part}.heads", (0, TOKENS, HEADS, WIDTH)) for part in parts]
    orders = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 3, 1) if written.swapped else (0, 2, 1, 3))
    q, k, v = (net.transpose(part, f"{part}.t", order) for part, order in zip(heads, orders, strict=True))
    if written.shared_keys:
        k = net.node("ReduceMean", k, name="k.shared", axes=[1])
    scores = net.node("MatMul", q, k, name="scores")
    if written.has_bias:
        scores = net.add(scores, net.weight("table", (1, HEADS, TOKENS, TOKENS)), "biased")
    weights = net.node("Softmax", scores, name="weights", axis=written.axis)
    if written.reader:
        weights = net.node(written.reader, weights, name="reader", **READERS[written.reader])
    mixed = net.node("MatMul", *((v, weights) if written.swapped else (weights, v)), name="mixed")
    if written.reads_weights:
        mixed = net.add(mixed, net.node("ReduceMean", weights, name="mean", axes=[3]), "again")
    order = (0, 3, 1, 2) if written.swapped else (0, 2, 1, 3)
    y = net.reshape(net.transpose(mixed, "joined.t", order), "joined", (0, TOKENS, inner))
    y = net.add(x, net.linear(y, "proj", inner, inner), "residual")
    head = net.gemm(net.reshape(y, "out", (0, TOKENS * inner)), "head", TOKENS * inner, 3)
    return specialise(prepare(net.model(head)), 3)


def compiled(model: Model) -> Program:
    weights = draw(plan_weights(model.graph, model.infos, is_transformer=True), seed=0, device=CPU)
    return compile_program(model.graph, model.infos, weights, device=CPU, training=True)


def found_in(program: Program) -> list[tuple[str, ...]]:
    return [(*step.absorbed, step.node) for step in program.steps if isinstance(step.run, AttentionInPieces)]


@pytest.mark.parametrize("axis", [-1, 3])
def test_it_is_found_and_computes_the_same(axis: int) -> None:
    model = attention(Written(axis=axis))
    plain = compiled(model)
    joined = with_attention_in_pieces(plain, model.graph, model.infos, (), CPU)
    assert found_in(joined) == [("scores", "weights", "mixed")]
    feeds = {"input": torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1))}
    for program in (joined, optimised(plain, model.graph, model.infos, (), CPU)):
        for mine, other in zip(output_and_derivative(program, feeds), output_and_derivative(plain, feeds), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "written",
    [
        Written(axis=2),
        Written(reads_weights=True),
        Written(has_bias=True),
        Written(shared_keys=True),
        Written(swapped=True),
    ],
    ids=repr,
)
def test_something_else_is_left_alone(written: Written) -> None:
    model = attention(written)
    assert not found_in(with_attention_in_pieces(compiled(model), model.graph, model.infos, (), CPU))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_the_weights_may_be_read_by_something_else_than_a_product(reader: str, swapped: bool) -> None:
    model = attention(Written(reader=reader, swapped=swapped))
    plain = compiled(model)
    feeds = {"input": torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1))}
    ours = output_and_derivative(optimised(plain, model.graph, model.infos, (), CPU), feeds)
    for mine, other in zip(ours, output_and_derivative(plain, feeds), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kept", ["scores", "weights", "mixed"])
def test_a_tensor_that_is_kept_is_made(kept: str) -> None:
    model = attention(Written())
    (name,) = (node.outputs[0] for node in model.graph.nodes if node.name == kept)
    assert not found_in(with_attention_in_pieces(compiled(model), model.graph, model.infos, (name,), CPU))


def test_small_scores_and_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = attention(Written())
    plain = compiled(model)
    assert with_attention_in_pieces(plain, model.graph, model.infos, (), torch.device("meta")) is plain
    monkeypatch.setattr(attention_pieces, "_LEAST_BYTES", 2**30)
    assert not found_in(with_attention_in_pieces(plain, model.graph, model.infos, (), CPU))
