"""Small networks as programs, and the same networks as plain functions under whole-graph autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from aznas_onnx.blocks.types import Block, BlockKind
from aznas_onnx.convert.program import Program, Step, run_step

Layer = tuple[str, Callable[..., torch.Tensor], tuple[str, ...]]  # output, function, inputs


def program_of(layers: Sequence[Layer], constants: Mapping[str, torch.Tensor] | None = None) -> Program:
    """A program with input "x"; its output is the last layer's."""
    steps = tuple(Step(node=f"make {name}", run=run, inputs=inputs, outputs=(name,)) for name, run, inputs in layers)
    return Program(steps=steps, constants=dict(constants or {}), inputs=("x",), outputs=(layers[-1][0],))


def block(index: int, output: str, channel_axis: int = 1) -> Block:
    return Block(
        index=index,
        name=f"block {index}",
        kind=BlockKind.DECLARED,
        output=output,
        nodes=(),
        channel_axis=channel_axis,
        reason="declared by the test",
    )


def blocks(*outputs: str, channel_axis: int = 1) -> tuple[Block, ...]:
    return tuple(block(index, output, channel_axis) for index, output in enumerate(outputs))


def features_of(program: Program, x: torch.Tensor, outputs: Sequence[str]) -> list[torch.Tensor]:
    """Run a program with one autograd graph for all of it, as the published code does."""
    environment = {**program.constants, "x": x.requires_grad_()}
    for step in program.steps:
        run_step(step, environment)
    return [environment[name] for name in outputs]
