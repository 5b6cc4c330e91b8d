"""Selections of all parts of a tensor are one step with the same results and derivatives."""

from __future__ import annotations

import pytest
import torch

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.convert.optimise.joined_selections import with_joined_selections
from aznas_onnx.graph import Model, prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.initialise import draw, plan_weights
from tests.convert.optimise.running import output_and_derivative

CPU = torch.device("cpu")


def selecting(positions: tuple[int, ...], parts: int = 3) -> tuple[Model, Program]:
    """Return a network that selects parts of a map's channels, and its program at batch size 2."""
    net = GraphBuilder("selecting")
    x = net.conv(net.image_input(3, 4), "stem", 3, 4 * parts, kernel=1)
    x = net.reshape(x, "parts", (0, 4, parts, 16))
    y = ""
    for at, position in enumerate(positions):
        part = net.node("Gather", x, net.constant(f"at{at}", position), name=f"part{at}", axis=2)
        part = net.node("Sigmoid", part, name=f"sigmoid{at}") if at else part
        y = net.node("Mul", y, part, name=f"product{at}") if y else part
    model = specialise(prepare(net.model(net.gemm(net.reshape(y, "flat", (0, 64)), "head", 64, 3))), 2)
    weights = draw(plan_weights(model.graph, model.infos, is_transformer=False), seed=0, device=CPU)
    return model, compile_program(model.graph, model.infos, weights, device=CPU, training=True)


@pytest.mark.parametrize("positions", [(0, 1, 2), (2, 0, 1), (-1, 0, 1), (0, 1, 2, 1)])
def test_all_parts_are_selected_at_once(positions: tuple[int, ...]) -> None:
    model, plain = selecting(positions)
    joined = with_joined_selections(plain, model.infos)
    assert len(joined.steps) == len(plain.steps) - 2
    (step,) = (step for step in joined.steps if step.absorbed)
    assert (*step.absorbed, step.node) == ("part0", "part1", "part2")
    feeds = {"input": torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))}
    for mine, other in zip(output_and_derivative(joined, feeds), output_and_derivative(plain, feeds), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("positions", "parts"), [((0, 1), 3), ((1, 1), 2), ((0,), 1)])
def test_some_of_the_parts_are_left_alone(positions: tuple[int, ...], parts: int) -> None:
    model, plain = selecting(positions, parts)
    assert with_joined_selections(plain, model.infos).steps == plain.steps
