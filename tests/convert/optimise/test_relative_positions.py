"""Attention with relative positions is found however it is written, and left alone where it is something else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.convert.optimise import optimised
from aznas_onnx.convert.optimise.grouped_look_ups import MixWithPositions, ScoresWithPositions
from aznas_onnx.convert.optimise.relative_positions import with_grouped_positions
from aznas_onnx.graph import Model, prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.meaning.position_tables import unfold_tables
from aznas_onnx.initialise import draw, plan_weights
from aznas_onnx.spaces import get
from tests.convert.optimise.running import output_and_derivative

CPU = torch.device("cpu")
SIDE, HEADS, WIDTH = 6, 2, 4
TOKENS = SIDE * SIDE
DISTANCES = 2 * SIDE - 1


@dataclass(frozen=True, kw_only=True)
class Written:
    """One of the ways to write an attention."""

    scaled: str = "sum"  # or "operands", "queries", "no"
    tables: int = 2
    look_up: str = "distance"  # or "random"
    perm: tuple[int, ...] = (1, 0, 2)  # of the product with the table
    table_first: bool = False  # of the two products with the weights
    shared_keys: bool = False
    joins: str = "Add"
    nested: int = 0  # how often the table on values is added to itself


def indices(kind: str) -> list[np.ndarray]:
    place = np.arange(TOKENS)
    if kind == "random":
        return [np.random.default_rng(at).integers(0, DISTANCES, (TOKENS, TOKENS)) for at in range(2)]
    axes = (place // SIDE, place % SIDE)
    return [axis[None, :] - axis[:, None] + SIDE - 1 for axis in axes]


def attention(written: Written) -> Model:
    """Return a network of one attention at batch size 3."""
    inner = HEADS * WIDTH
    net = GraphBuilder("attention")
    x = net.reshape(net.conv(net.image_input(3, SIDE), "stem", 3, inner, kernel=1), "flat", (0, inner, TOKENS))
    x = net.transpose(x, "tokens", (0, 2, 1))
    heads = [
        net.reshape(net.linear(x, part, inner, inner), f"{part}.heads", (0, TOKENS, HEADS, WIDTH)) for part in "qkv"
    ]
    q, k, v = (
        net.transpose(part, f"{part}.t", perm)
        for part, perm in zip(heads, [(0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)], strict=True)
    )

    def scale(name: str, divides: bool = False) -> str:
        constant = net.constant(f"{name}.scale", np.float32(2.0 if divides else 0.5))
        return net.node("Div" if divides else "Mul", name, constant, name=f"{name}.scaled")

    def table(name: str) -> str:
        parts = []
        for at, index in enumerate(indices(written.look_up)[: written.tables]):
            rows = net.weight(f"{name}.{at}", (DISTANCES, WIDTH))
            parts.append(net.node("Gather", rows, net.constant(f"{name}.i{at}", index), name=f"{name}.{at}.g", axis=0))
        made = parts[0] if len(parts) == 1 else net.add(parts[0], parts[1], f"{name}.table")
        for at in range(written.nested if name == "values" else 0):
            made = net.add(made, made, f"{name}.table{at}")
        return made

    def by_head(product: str, width: int) -> str:
        return net.reshape(
            net.transpose(product, f"{product}.t", written.perm), f"{product}.h", (-1, HEADS, TOKENS, width)
        )

    def by_query(tensor: str, name: str, width: int) -> str:
        flat = net.transpose(tensor, f"{name}.by_query", (2, 0, 1, 3))
        return net.reshape(flat, f"{name}.by_query.flat", (TOKENS, -1, width))

    if written.shared_keys:
        k = net.node("ReduceMean", k, name="k.shared", axes=[1])
    scores = net.node("MatMul", scale(q) if written.scaled == "queries" else q, k, name="scores")
    keys_table = net.transpose(table("keys"), "keys.t", (0, 2, 1))
    bias = by_head(net.node("MatMul", by_query(q, "q", WIDTH), keys_table, name="bias"), TOKENS)
    if written.scaled == "operands":
        scores, bias = scale(scores), scale(bias)
    total = net.add(scores, bias, "total")
    total = scale(total, divides=True) if written.scaled == "sum" else total
    weights = net.node("Softmax", total, name="softmax", axis=-1)

    def shifted() -> str:
        return net.node("MatMul", by_query(weights, "w", TOKENS), table("values"), name="shift")

    early = shifted() if written.table_first else ""
    mixed = net.node("MatMul", weights, v, name="mixed")
    shift = by_head(early or shifted(), WIDTH)
    if written.joins == "Concat":
        mixed = net.node("Concat", mixed, shift, name="mixed_and_shifted", axis=-1)
        mixed = net.linear(mixed, "halved", 2 * WIDTH, WIDTH)
    else:
        mixed = net.add(mixed, shift, "mixed_and_shifted")
    y = net.reshape(net.transpose(mixed, "joined.t", (0, 2, 1, 3)), "joined", (0, TOKENS, inner))
    y = net.add(x, net.linear(y, "proj", inner, inner), "residual")
    net.declare_block(y)
    model = specialise(
        prepare(net.model(net.gemm(net.reshape(y, "out", (0, TOKENS * inner)), "head", TOKENS * inner, 3))), 3
    )
    graph, infos = unfold_tables(model.graph, model.infos)
    return replace(model, graph=graph, infos=infos)


def compiled(model: Model, keep: tuple[str, ...] = ()) -> Program:
    weights = draw(plan_weights(model.graph, model.infos, is_transformer=True), seed=0, device=CPU)
    return compile_program(model.graph, model.infos, weights, device=CPU, training=True, also=keep)


def result(program: Program) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return output_and_derivative(program, {"input": images})


def joined_in(program: Program) -> list[str]:
    fused = (ScoresWithPositions, MixWithPositions)
    return [type(step.run).__name__ for step in program.steps if isinstance(step.run, fused)]


BOTH = ["ScoresWithPositions", "MixWithPositions"]


@pytest.mark.parametrize(
    "written",
    [
        Written(),
        Written(scaled="operands"),
        Written(scaled="no"),
        Written(scaled="queries"),
        Written(table_first=True),
        Written(tables=1),
    ],
    ids=repr,
)
def test_it_is_found_and_computes_the_same(written: Written) -> None:
    model = attention(written)
    plain = compiled(model)
    joined = with_grouped_positions(plain, model.graph, model.infos, (), CPU)
    assert joined_in(joined) == BOTH
    assert len(joined.steps) < len(plain.steps) - 10
    for after in (joined, optimised(plain, model.graph, model.infos, (), CPU)):
        for ours, other in zip(result(after), result(plain), strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (Written(look_up="random"), []),  # as many groups as keys
        (Written(perm=(0, 1, 2)), ["MixWithPositions"]),  # mixes queries with samples and heads: another network
        (Written(shared_keys=True), ["MixWithPositions"]),  # of all heads
        (Written(joins="Concat"), ["ScoresWithPositions"]),  # the two sums over the keys are no sum
        (Written(nested=8), ["ScoresWithPositions"]),
    ],
    ids=repr,
)
def test_something_else_is_left_alone(written: Written, found: list[str]) -> None:
    model = attention(written)
    plain = compiled(model)
    joined = with_grouped_positions(plain, model.graph, model.infos, (), CPU)
    assert joined_in(joined) == found
    for ours, other in zip(result(joined), result(plain), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ("scores", "MixWithPositions"),
        ("bias", "MixWithPositions"),
        ("q.by_query", "MixWithPositions"),
        ("q.by_query.flat", "MixWithPositions"),
        ("q.heads.t", "MixWithPositions"),
        ("w.by_query", "ScoresWithPositions"),
        ("w.by_query.flat", "ScoresWithPositions"),
        ("mixed", "ScoresWithPositions"),
        ("shift", "ScoresWithPositions"),
        ("shift.t", "ScoresWithPositions"),
        ("shift.h", "ScoresWithPositions"),
    ],
)
def test_nothing_is_joined_across_a_tensor_that_derivatives_are_taken_by(kept: str, left: str) -> None:
    model = attention(Written())
    joined = with_grouped_positions(compiled(model, (kept,)), model.graph, model.infos, (kept,), CPU)
    assert joined_in(joined) == [left]
    assert any(kept in step.outputs for step in joined.steps)


def test_a_factor_is_not_taken_along_past_a_tensor_that_is_kept() -> None:
    model = attention(Written())
    joined = with_grouped_positions(compiled(model, ("total",)), model.graph, model.infos, ("total",), CPU)
    (scores,) = (step for step in joined.steps if isinstance(step.run, ScoresWithPositions))
    assert scores.outputs == ("total",)


def test_absorbed_nodes_are_those_that_the_step_stands_for() -> None:
    model = attention(Written())
    joined = with_grouped_positions(compiled(model), model.graph, model.infos, (), CPU)
    scores, mix = (step for step in joined.steps if step.absorbed)
    assert scores.node == "total.scaled"
    assert {"scores", "bias", "total", "keys.0.g", "keys.1.g", "keys.table", "keys.t"} < {*scores.absorbed}
    assert mix.node == "mixed"
    assert mix.absorbed == ("w.by_query", "w.by_query.flat", "values.0.g", "values.1.g", "values.table", "shift")


def test_all_layers_of_autoformer_are_found() -> None:
    space = get("autoformer-tiny")
    genotype = space.sample(np.random.default_rng(0))
    sized = specialise(prepare(space.build(genotype)), 2)
    graph, infos = unfold_tables(sized.graph, sized.infos)
    plan = plan_weights(graph, infos, is_transformer=True)
    weights = {name: torch.empty(weight.shape, device="meta") for name, weight in plan.items()}
    program = compile_program(graph, infos, weights, device=CPU, training=True)
    assert joined_in(with_grouped_positions(program, graph, infos, (), CPU)) == BOTH * genotype.depth
