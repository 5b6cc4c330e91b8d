"""Run steps in place, forward and backward: saves an allocation and a pass over memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from aznas_onnx.convert.attributes import integer
from aznas_onnx.convert.inplace_activations import Activation
from aznas_onnx.convert.operators.convolution import Convolution
from aznas_onnx.convert.operators.normalization import NormaliseByBatch
from aznas_onnx.convert.operators.pooling import AveragePool
from aznas_onnx.convert.optimise.average_pools import AverageOfNeighbours
from aznas_onnx.convert.optimise.grouped_look_ups import ScoresWithPositions
from aznas_onnx.convert.optimise.large_maps import ConvWithoutSavedInput, softmax_in_place
from aznas_onnx.convert.optimise.linear_layers import LinearLayer
from aznas_onnx.convert.optimise.normalised_activation import NormalisedActivation
from aznas_onnx.convert.optimise.normalised_pointwise import NormalisedPointwise
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
_MOST_WORK = 16  # products a wide value that take the place of a pass over a wide map: more take longer than it
_LARGE_BYTES = 2**21  # size below which the Python callback in backward costs more than the copy it saves


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
        steps = _with_fewer_large_maps(steps, nodes, free, own_gradient, infos)
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
        is_large = infos[step.outputs[0]].size_bytes >= _LARGE_BYTES
        of_input, of_gradient = step.inputs[0] in free, is_large and step.outputs[0] in own_gradient
        if not (of_input or of_gradient):
            return step
        return replace(step, run=_Overwriting(step.run, overwrites_input=of_input, overwrites_gradient=of_gradient))
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
    """Join normalisations with activations, let convolutions go of their inputs, and run Softmax in place.

    For large tensors only.
    """
    made = {step.outputs[0]: step for step in steps}
    changed: dict[str, Step] = {}
    absorbed: set[str] = set()
    for step in steps:
        if step.absorbed or not step.inputs or infos[step.inputs[0]].size_bytes < _LARGE_BYTES:
            continue
        node, is_own = nodes[step.node], step.outputs[0] in own_gradient
        normalisation = made.get(step.inputs[0]) if step.inputs[0] in free else None
        if isinstance(step.run, Convolution):
            changed[step.node] = replace(step, run=ConvWithoutSavedInput(step.run))
        elif is_own and step.inputs[0] in free and _is_over_last_axis(node, infos):
            changed[step.node] = replace(step, run=softmax_in_place)
        elif (
            normalisation is not None
            and isinstance(normalisation.run, NormaliseByBatch)
            and isinstance(step.run, Activation)
        ):
            of_input = normalisation.inputs[0] in free
            run = NormalisedActivation(
                normalisation.run.epsilon, step.run, overwrites_input=of_input, overwrites_gradient=is_own
            )
            joined = replace(step, run=run, inputs=normalisation.inputs, absorbed=(normalisation.node,))
            widening = made.get(normalisation.inputs[0]) if of_input else None
            if widening is not None and isinstance(widening.run, Convolution) and _widens(widening, infos):
                inputs = (*widening.inputs, *normalisation.inputs[1:])
                names = (widening.node, normalisation.node)
                joined = replace(step, run=NormalisedPointwise(widening.run, run), inputs=inputs, absorbed=names)
            changed[step.node] = joined
            absorbed.update(joined.absorbed)
    return tuple(changed.get(step.node, step) for step in steps if step.node not in absorbed)


def _widens(step: Step, infos: TensorInfos) -> bool:
    """Whether a convolution is pointwise, without bias, and its input has few channels, also beside its output."""
    is_plain = isinstance(step.run, Convolution) and step.run.is_plain and len(step.inputs) == 2
    outputs, inputs, *kernel = infos.shape(step.inputs[1])
    return is_plain and inputs**2 <= _MOST_WORK * outputs and set(kernel) == {1}


def _is_over_last_axis(node: Node, infos: TensorInfos) -> bool:
    """Whether a node is a Softmax over the last axis alone."""
    if not node.is_op("Softmax") or node.version < 13:  # older ones go over all axes from one on
        return False
    return integer(node, "axis", -1) in (-1, len(infos.shape(node.inputs[0])) - 1)


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
