"""Fuse nodes into single steps and run steps in place, to save time and activation memory."""

from __future__ import annotations

from collections.abc import Collection

import torch

from aznas_onnx.convert.optimise.attention_pieces import with_attention_in_pieces
from aznas_onnx.convert.optimise.average_pools import with_pools_as_convolutions
from aznas_onnx.convert.optimise.inplace import run_inplace
from aznas_onnx.convert.optimise.joined_selections import with_joined_selections
from aznas_onnx.convert.optimise.linear_layers import with_linear_layers
from aznas_onnx.convert.optimise.relative_positions import with_grouped_positions
from aznas_onnx.convert.program import Program
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["optimised"]


def optimised(
    program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str], device: torch.device
) -> Program:
    """Return a faster program of less memory, with the same results and derivatives up to rounding.

    - `program`: Compiled from `graph`, for `device`.
    - `infos`: Shapes of the graph's tensors.
    - `keep`: Tensors needed after the run, besides the program's outputs. Other tensors between the steps are not
      valid.
    """
    program = with_grouped_positions(program, graph, infos, keep, device)
    program = with_attention_in_pieces(program, graph, infos, keep, device)
    program = with_joined_selections(program, infos)
    program = with_linear_layers(program, graph, infos, keep, device)
    if device.type == "cpu":
        program = with_pools_as_convolutions(program, infos)
    return run_inplace(program, graph, infos, keep, fewer_large_maps=device.type == "cpu")
