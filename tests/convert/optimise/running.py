"""Derivatives of a program, as a pass takes them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from aznas_onnx.convert.program import Program, run_step

__all__ = ["output_and_derivative"]


def output_and_derivative(program: Program, feeds: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output, and the derivative of the sum of its squares by what the first step makes."""
    environment = {**program.constants, **feeds}
    first, *others = program.steps
    run_step(first, environment)
    leaf = environment[first.outputs[0]] = environment[first.outputs[0]].detach().requires_grad_()
    for step in others:
        run_step(step, environment)
    output = environment[program.outputs[0]]
    (derivative,) = torch.autograd.grad(output.square().sum(), leaf)
    return output.detach(), derivative
