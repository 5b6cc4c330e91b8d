"""Run steps in place, forward and backward: saves an allocation and a pass over memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from aznas_onnx.convert.inplace_activations import Activation
from aznas_onnx.convert.operators.pooling import AveragePool
from aznas_onnx.convert.optimise.average_pools import AverageOfNeighbours
from aznas_onnx.convert.optimise.grouped_look_ups import ScoresWithPositions
from aznas_onnx.convert.optimise.large_maps import is_large, with_fewer_large_maps
from aznas_onnx.convert.optimise.linear_layers import LinearLayer
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos
from aznas_onnx.operators.sets import ARITHMETIC, LINEAR

__all__ = ["run_inplace"]


_IN_PLACE: Mapping[str, Callable[..., torch.Tensor]] = {
    "Add": torch.Tensor.add_,
    "Div": torch.Tensor.div_,
    "Mul": torch.Tensor.mul_,
}


def run_inplace(
    program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str], *, fewer_large_maps: bool = True
) -> Program:
    """Return a program in which steps overwrite an input, or a gradient, that no other step needs.

    - `program`: Compiled from `graph`.
    - `infos`: Shapes of the graph's tensors.
    - `keep`: Tensors needed after the run, besides the program's outputs.
    - `fewer_large_maps`: Whether to save fewer of the largest feature maps
      (:mod:`~aznas_onnx.convert.optimise.large_maps`); for a CPU.

    Returns: With the same results and derivatives, up to the rounding of derivatives by large maps. Tensors between the
    steps are not valid.
    """
    nodes = {node.name: node for node in graph.nodes}
    made = {name: step for step in program.steps for name in step.outputs if name}
    readers = Counter(name for step in program.steps for name in step.inputs if name)
    single = {name for name in made if readers[name] == 1 and name not in keep and name not in program.outputs}
    free = {name for name in single if _output_is_free(made[name], nodes[made[name].node], infos)}
    # The derivative of these by their first operand is a tensor without other references.
    multiplied = {step.inputs[0] for step in program.steps if _multiplies(step, nodes[step.node])}
    own_gradient = single & multiplied
    steps = program.steps
    if fewer_large_maps:
        steps = with_fewer_large_maps(steps, nodes, free, own_gradient, infos)
    steps = tuple(_inplace_step(step, nodes[step.node], free, own_gradient, program, infos) for step in steps)
    return replace(program, steps=steps)


def _output_is_free(step: Step, node: Node, infos: TensorInfos) -> bool:
    """Whether a step has a new output tensor, whose values its derivative does not need."""
    if node.is_op("Gather"):  # one index alone gives a view
        return len(infos[node.inputs[1]].shape or ()) > 0
    makes_new = node in ARITHMETIC or node.is_op("BatchNormalization") or _multiplies(step, node)
    return makes_new or isinstance(step.run, (AverageOfNeighbours, AveragePool, ScoresWithPositions))


def _multiplies(step: Step, node: Node) -> bool:
    """Whether a step is one product of torch, which has a new output tensor and a new gradient."""
    return node in LINEAR or node.is_op("Conv") or isinstance(step.run, LinearLayer)


def _inplace_step(
    step: Step, node: Node, free: Collection[str], own_gradient: Collection[str], program: Program, infos: TensorInfos
) -> Step:
    if isinstance(step.run, Activation):
        is_own = is_large(infos[step.outputs[0]]) and step.outputs[0] in own_gradient
        is_free = step.inputs[0] in free
        if not (is_free or is_own):
            return step
        return replace(step, run=_Overwriting(step.run, overwrites_input=is_free, overwrites_gradient=is_own))
    if step.absorbed or node.version < 7 or not node.is_op(*_IN_PLACE):  # older ones name the axis to broadcast along
        return step
    # A product with a constant only: the derivative by another factor would read the overwritten tensor.
    takes = node.is_op("Add") or step.inputs[1] in program.constants
    fits = [takes and name in free and _are_alike(infos[step.outputs[0]], infos[name]) for name in step.inputs]
    if fits[0]:
        return replace(step, run=_IN_PLACE[node.op_type])
    return replace(step, run=_add_to_second) if node.is_op("Add") and fits[1] else step


def _are_alike(made: TensorInfo, read: TensorInfo) -> bool:
    """Whether a result of floats fits into the place of an operand."""
    return made.shape is not None and made.shape == read.shape and made.dtype.kind == "f"


class _Overwriting:
    """An activation in place of its input, or of its gradient, or both: the function of a step of ``(x,)``.

    - `overwrites_input`, `overwrites_gradient`: Whether it may.
    """

    def __init__(self, activation: Activation, *, overwrites_input: bool, overwrites_gradient: bool) -> None:
        self._activation = activation
        self._input = overwrites_input
        self._gradient = overwrites_gradient

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        activation = self._activation
        if x.requires_grad and self._gradient:
            result: torch.Tensor = _OverwritingFunction.apply(x, activation, self._input and not activation.needs_input)
            return result
        overwrites = self._input and not (x.requires_grad and activation.needs_input)
        return activation.overwrite(x) if overwrites else activation(x)


class _OverwritingFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, activation: Activation, overwrites: bool) -> torch.Tensor:
        if overwrites:
            ctx.mark_dirty(x)
        result = activation.overwrite(x) if overwrites else activation(x)
        ctx.save_for_backward(x if activation.needs_input else result)
        ctx.activation = activation
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (saved,) = ctx.saved_tensors
        return ctx.activation.differentiate(gradient, saved, gradient), None, None


def _add_to_second(term: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    # A sum has the memory layout of its first operand; later steps, random signs included, depend on it.
    return total.add_(term) if term.stride() == total.stride() else torch.add(term, total)
