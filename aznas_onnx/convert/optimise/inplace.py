"""Run steps in place, forward and backward: saves an allocation and a pass over memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from aznas_onnx.convert.attributes import integer, number
from aznas_onnx.convert.optimise.fused import OverwritesGradient
from aznas_onnx.convert.optimise.grouped_look_ups import ScoresWithPositions
from aznas_onnx.convert.optimise.large_maps import ConvWithoutSavedInput, FusedBatchNormRelu, softmax_in_place
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
_LARGE_BYTES = 2**23  # size below which the Python callback in backward costs more than the copy it saves
_HUGE_BYTES = 2**25  # what going through a map in pieces is worth


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
    steps = tuple(_inplace_step(step, nodes[step.node], free, own_gradient, program, infos) for step in program.steps)
    return replace(
        program, steps=_with_fewer_large_maps(steps, nodes, free, own_gradient, infos) if fewer_large_maps else steps
    )


def _output_is_free(step: Step, node: Node, infos: TensorInfos) -> bool:
    """Whether a step has a new output tensor, whose values its derivative does not need."""
    if node.is_op("Gather"):  # one index alone gives a view
        return len(infos[node.inputs[1]].shape or ()) > 0
    makes_new = node in ARITHMETIC or node.is_op("BatchNormalization") or _multiplies(step, node)
    return makes_new or isinstance(step.run, ScoresWithPositions)


def _multiplies(step: Step, node: Node) -> bool:
    """Whether a step is one product of torch, which has a new output tensor and a new gradient."""
    return node in LINEAR or node.is_op("Conv") or isinstance(step.run, LinearLayer)


def _inplace_step(
    step: Step, node: Node, free: Collection[str], own_gradient: Collection[str], program: Program, infos: TensorInfos
) -> Step:
    if node.is_op("Relu") and step.inputs[0] in free:
        is_large = infos[step.outputs[0]].size_bytes >= _LARGE_BYTES
        overwrites_gradient = is_large and step.outputs[0] in own_gradient
        return replace(step, run=_relu_both_ways if overwrites_gradient else torch.relu_)
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


def _with_fewer_large_maps(
    steps: Sequence[Step],
    nodes: Mapping[str, Node],
    free: Collection[str],
    own_gradient: Collection[str],
    infos: TensorInfos,
) -> tuple[Step, ...]:
    """Let convolutions go of huge inputs; join normalisations with the ReLUs that overwrite huge maps both ways.

    A Softmax overwrites a large input both ways, too, and some activations the gradient.
    """
    made = {step.outputs[0]: step for step in steps if nodes[step.node].is_op("BatchNormalization")}
    changed: dict[str, Step] = {}
    absorbed: set[str] = set()
    for step in steps:
        if step.absorbed or not step.inputs or infos[step.inputs[0]].size_bytes < _LARGE_BYTES:
            continue
        if step.outputs[0] in own_gradient:
            activation = OverwritesGradient.of(nodes[step.node])
            if activation is not None:
                changed[step.node] = replace(step, run=activation)
            elif step.inputs[0] in free and _is_over_last_axis(nodes[step.node], infos):
                changed[step.node] = replace(step, run=softmax_in_place)
        if infos[step.inputs[0]].size_bytes < _HUGE_BYTES:
            continue
        if nodes[step.node].is_op("Conv"):
            changed[step.node] = replace(step, run=ConvWithoutSavedInput(step.run))
        normalisation = made.get(step.inputs[0]) if step.run is _relu_both_ways else None
        # One that uses the statistics of the batch, and outputs none of them, reads no others.
        if normalisation is not None and len(normalisation.inputs) == 3 and not any(normalisation.outputs[1:]):
            epsilon = number(nodes[normalisation.node], "epsilon", 1e-5)
            run = FusedBatchNormRelu(epsilon, overwrites=normalisation.inputs[0] in free)
            changed[step.node] = replace(step, run=run, inputs=normalisation.inputs, absorbed=(normalisation.node,))
            absorbed.add(normalisation.node)
    return tuple(changed.get(step.node, step) for step in steps if step.node not in absorbed)


def _is_over_last_axis(node: Node, infos: TensorInfos) -> bool:
    """Whether a node is a Softmax over the last axis alone."""
    if not node.is_op("Softmax") or node.version < 13:  # older ones go over all axes from one on
        return False
    return integer(node, "axis", -1) in (-1, len(infos.shape(node.inputs[0])) - 1)


class _ReluBothWays(torch.autograd.Function):
    """ReLU in place; its derivative overwrites the gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.mark_dirty(x)
        x.relu_()
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (output,) = ctx.saved_tensors
        found: torch.Tensor = torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)
        return found


def _relu_both_ways(x: torch.Tensor) -> torch.Tensor:
    return _ReluBothWays.apply(x) if x.requires_grad else x.relu_()


def _add_to_second(term: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    # A sum has the memory layout of its first operand; later steps, random signs included, depend on it.
    return total.add_(term) if term.stride() == total.stride() else torch.add(term, total)
