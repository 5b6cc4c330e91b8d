"""Programs made faster, and their passes smaller, by steps that stand for several nodes or overwrite what they read."""

from __future__ import annotations

from collections.abc import Collection

import torch

from aznas_onnx.convert.optimise.positions import with_grouped_positions
from aznas_onnx.convert.optimise.reuse import overwriting
from aznas_onnx.convert.program import Program
from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import Graph

__all__ = ["optimised"]


def optimised(program: Program, graph: Graph, facts: Facts, keep: Collection[str], device: torch.device) -> Program:
    """Return a program with the same results and derivatives, but for rounding, that takes less time and memory.

    Parameters
    ----------
    program
        Compiled from `graph`, for `device`.
    facts
        Shapes of the graph's tensors.
    keep
        Tensors that are wanted after the run, beside the program's outputs. Whoever looks at others between the steps
        must not use what is returned.
    """
    program = with_grouped_positions(program, graph, facts, keep, device)
    return overwriting(program, graph, facts, keep, spares_large=device.type == "cpu")
