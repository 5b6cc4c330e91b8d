"""Steps on large feature maps that save less for the backward pass, on a CPU.

=================================================  ==================================================================
Steps                                              become
=================================================  ==================================================================
convolution                                        one that lets go of its input, which its derivative does not read
softmax                                            one in place, whose derivative overwrites the gradient
normalisation, activation                          one step with one saved map
widening convolution, normalisation, activation    one step whose derivative passes over the wide map once
=================================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from aznas_onnx.convert.attributes import integer
from aznas_onnx.convert.inplace_activations import Activation
from aznas_onnx.convert.operators.convolution import Convolution
from aznas_onnx.convert.operators.normalization import NormaliseByBatch
from aznas_onnx.convert.optimise.normalised_activation import NormalisedActivation
from aznas_onnx.convert.optimise.normalised_pointwise import NormalisedPointwise
from aznas_onnx.convert.program import Step
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.tensor_info import TensorInfo, TensorInfos

__all__ = ["ConvWithoutSavedInput", "is_large", "softmax_in_place", "with_fewer_large_maps"]

Tensor = torch.Tensor
_LARGE_BYTES = 2**21
_MOST_WORK = 16  # products a wide value that take the place of a pass over a wide map: more take longer than it


def is_large(info: TensorInfo) -> bool:
    """Whether a map is so large that saving a copy of it is worth a call of Python in the backward pass."""
    return info.size_bytes >= _LARGE_BYTES


def with_fewer_large_maps(
    steps: Sequence[Step],
    nodes: Mapping[str, Node],
    free: Collection[str],
    own_gradient: Collection[str],
    infos: TensorInfos,
) -> tuple[Step, ...]:
    """Return steps that save less, with the same results, and the same derivatives up to rounding.

    - `nodes`: That of each step, by name.
    - `free`: Tensors that their one reader can overwrite.
    - `own_gradient`: Tensors whose gradient has no other references.
    """
    made = {step.outputs[0]: step for step in steps}
    changed: dict[str, Step] = {}
    for step in steps:
        if step.absorbed or not step.inputs or not is_large(infos[step.inputs[0]]):
            continue
        is_own, is_free = step.outputs[0] in own_gradient, step.inputs[0] in free
        if isinstance(step.run, Convolution):
            changed[step.node] = replace(step, run=ConvWithoutSavedInput(step.run))
        elif is_own and is_free and _is_softmax_of_rows(nodes[step.node], infos):
            changed[step.node] = replace(step, run=softmax_in_place)
        elif is_free and isinstance(step.run, Activation):
            before = made.get(step.inputs[0])
            if before is not None and isinstance(before.run, NormaliseByBatch):
                is_free = before.inputs[0] in free
                run = NormalisedActivation(
                    before.run.epsilon, step.run, overwrites_input=is_free, overwrites_gradient=is_own
                )
                widening = made.get(before.inputs[0]) if is_free else None
                changed[step.node] = _with_normalisation(step, run, before, widening, infos)
    absorbed = {name for step in changed.values() for name in step.absorbed}
    return tuple(changed.get(step.node, step) for step in steps if step.node not in absorbed)


def _with_normalisation(
    step: Step, run: NormalisedActivation, before: Step, widening: Step | None, infos: TensorInfos
) -> Step:
    """Return an activation with the normalisation before it, and with the convolution before that if it widens."""
    if widening is None or not isinstance(widening.run, Convolution) or not _widens(widening, widening.run, infos):
        return replace(step, run=run, inputs=before.inputs, absorbed=(before.node,))
    inputs = (*widening.inputs, *before.inputs[1:])
    joined = NormalisedPointwise(widening.run, run)
    return replace(step, run=joined, inputs=inputs, absorbed=(widening.node, before.node))


def _widens(step: Step, convolution: Convolution, infos: TensorInfos) -> bool:
    """Whether a convolution is pointwise, without bias, and its input has few channels, also beside its output."""
    outputs, inputs, *kernel = infos.shape(step.inputs[1])
    is_narrow = inputs**2 <= _MOST_WORK * outputs and set(kernel) == {1}
    return convolution.is_plain and len(step.inputs) == 2 and is_narrow


def _is_softmax_of_rows(node: Node, infos: TensorInfos) -> bool:
    """Whether a node is a Softmax over the last axis alone."""
    if not node.is_op("Softmax") or node.version < 13:  # older ones go over all axes from one on
        return False
    return integer(node, "axis", -1) in (-1, len(infos.shape(node.inputs[0])) - 1)


class ConvWithoutSavedInput:
    """A convolution that does not save its input for the derivative by its weight, which is not needed.

    - `convolution`: Of a step of ``(x, weight[, bias])``.
    """

    def __init__(self, convolution: Convolution) -> None:
        self._convolution = convolution

    def __call__(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """Return the convolution."""
        if not x.requires_grad or any(tensor.requires_grad for tensor in (weight, *bias)):
            return self._convolution(x, weight, *bias)
        result: Tensor = _ConvFunction.apply(x, weight, self._convolution, *bias)
        return result


class _ConvFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, convolution: Convolution, *bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.convolution = convolution
        ctx.shape = x.shape
        return convolution(x, weight, *bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        derivative = ctx.convolution.input_gradient(gradient, ctx.shape, weight)
        return (derivative, *(None for _ in ctx.needs_input_grad[1:]))


def softmax_in_place(x: Tensor) -> Tensor:
    """Return the softmax over the last axis in place of the input; the derivative overwrites the gradient.

    Neither can have other references.
    """
    result: Tensor = _SoftmaxFunction.apply(x) if x.requires_grad else torch.softmax(x, -1, out=x)
    return result


class _SoftmaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        torch.softmax(x, -1, out=x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        found: Tensor = torch.ops.aten._softmax_backward_data.out(
            gradient, output, -1, output.dtype, grad_input=gradient
        )
        return found
