"""Overwriting what nothing else needs changes no result and no derivative."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aznas_onnx.convert import compile_program
from aznas_onnx.convert.optimise import large_maps
from aznas_onnx.convert.optimise.inplace import run_inplace
from aznas_onnx.convert.optimise.normalised_activation import NormalisedActivation
from aznas_onnx.convert.program import Program, run_step
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.initialise import draw, plan_weights

CPU = torch.device("cpu")
WIDTH = 4


def drawn_at_random(seed: int) -> tuple[Program, Program, str]:
    """Draw a network whose every tensor may be read again, compiled without and with overwriting, and one inside."""
    rng = np.random.default_rng(seed)
    net = GraphBuilder("random", opset=20)
    made = [net.conv(net.image_input(3, 6), "stem", 3, WIDTH, kernel=3)]
    for at in range(16):
        x, other = (made[-1 - int(rng.integers(min(3, len(made))))] for _ in range(2))
        kind = rng.choice(
            ["relu", "add", "conv", "batch_norm", "sigmoid", "gather", "scale", "softmax", "mul", "Gelu", "HardSwish"]
        )
        if kind == "relu":
            made.append(net.relu(x, f"n{at}"))
        elif kind == "add":
            made.append(net.add(x, other, f"n{at}"))
        elif kind == "conv":
            made.append(net.conv(x, f"n{at}", WIDTH, WIDTH, kernel=3))
        elif kind == "batch_norm":
            made.append(net.batch_norm(x, f"n{at}", WIDTH))
        elif kind == "scale":
            constant = net.constant(f"factor{at}", np.float32(rng.normal()))
            made.append(net.node(rng.choice(["Mul", "Div"]), x, constant, name=f"n{at}"))
        elif kind == "mul":  # its derivative reads what it multiplies
            made.append(net.node("Mul", x, other, name=f"n{at}"))
        elif kind in ("Gelu", "HardSwish"):
            made.append(net.node(kind, x, name=f"n{at}"))
        elif kind == "softmax":
            made.append(net.node("Softmax", x, name=f"n{at}", axis=-1))
        elif kind == "sigmoid":  # its derivative reads its output
            made.append(net.node("Sigmoid", x, name=f"n{at}"))
        else:
            index = net.constant(f"index{at}", rng.permutation(WIDTH))
            made.append(net.node("Gather", x, index, name=f"n{at}", axis=1))
    kept = made[int(rng.integers(len(made)))]
    net.declare_block(kept)
    model = specialise(prepare(net.model(net.classifier(made[-1], "head", WIDTH, num_classes=3))), 3)
    weights = draw(plan_weights(model.graph, model.infos, is_transformer=False), seed=seed, device=CPU)
    plain = compile_program(model.graph, model.infos, weights, device=CPU, training=True, also={kept})
    return plain, run_inplace(plain, model.graph, model.infos, {kept}), kept


def run(program: Program, kept: str) -> list[torch.Tensor]:
    """Return the output, the kept tensor, and the derivative of their sum by the stem's output."""
    feeds = {"input": torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(1))}
    environment = {**program.constants, **feeds}
    first, *others = program.steps
    run_step(first, environment)
    leaf = environment[first.outputs[0]].detach().requires_grad_()
    # What follows the leaf may not overwrite it: nor does a pass, whose leaves are outputs of blocks.
    environment[first.outputs[0]] = leaf * 1.0
    for step in others:
        run_step(step, environment)
    (output,) = program.outputs
    wanted = [environment[output], environment[kept]]
    total = torch.stack([tensor.square().sum() for tensor in wanted]).sum()
    (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
    return [*(tensor.detach() for tensor in wanted), torch.zeros(()) if gradient is None else gradient]


@pytest.mark.parametrize("seed", range(80))
@pytest.mark.parametrize("large_bytes", [0, 2**21])
def test_random_networks_give_the_same(monkeypatch, seed: int, large_bytes: int) -> None:
    monkeypatch.setattr(large_maps, "_LARGE_BYTES", large_bytes)
    plain, changed, kept = drawn_at_random(seed)
    is_joined = any(isinstance(step.run, NormalisedActivation) for step in changed.steps)
    for before, after in zip(run(plain, kept), run(changed, kept), strict=True):
        if is_joined:  # its sums have another order
            torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
        else:
            assert torch.equal(before, after)


def name_of(run: Callable[..., Any]) -> str:
    return getattr(run, "__name__", type(run).__name__)


def test_each_kind_overwrites_in_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_maps, "_LARGE_BYTES", 0)
    changed: Counter[str] = Counter()
    for seed in range(150):
        plain, overwrites, _ = drawn_at_random(seed)
        before = {step.node: step.run for step in plain.steps}
        changed.update(name_of(step.run) for step in overwrites.steps if step.run is not before[step.node])
    assert set(changed) == {
        "_Overwriting",
        "NormalisedActivation",
        "ConvWithoutSavedInput",
        "softmax_in_place",
        "add_",
        "_add_to_second",
        "mul_",
        "div_",
    }
    assert min(changed.values()) >= 2
