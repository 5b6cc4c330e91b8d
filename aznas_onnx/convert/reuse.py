"""Steps that may overwrite what they read, forwards and backwards: buffers that need not be, nor be gone through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from aznas_onnx.convert.attributes import number
from aznas_onnx.convert.large_maps import LetInputGo, NormaliseAndRectify
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import Graph, Node

__all__ = ["overwriting"]


# Operators that make a tensor of their own, whose values their derivative does not need.
_LETS_GO = frozenset("Add BatchNormalization Conv Gemm MatMul".split())
_LARGE_BYTES = 2**23  # what a call from the backward pass into Python is worth
_HUGE_BYTES = 2**25  # what going through a map in pieces is worth


def overwriting(
    program: Program, graph: Graph, facts: Facts, keep: Collection[str], *, spares_large: bool = True
) -> Program:
    """Return a program in which ReLUs and sums overwrite an input that nothing else needs.

    Parameters
    ----------
    program
        Compiled from `graph`.
    facts
        Shapes of the graph's tensors.
    keep
        Tensors that are wanted after the run, beside the program's outputs.
    spares_large
        Whether to keep fewer of the largest feature maps (:mod:`~aznas_onnx.convert.large_maps`); for a CPU.

    Returns
    -------
    Program
        With the same results and derivatives, but for the rounding of derivatives by large maps. Whoever looks at the
        tensors between the steps must not use it.
    """
    nodes = {node.name: node for node in graph.nodes}
    producers = {name: nodes[step.node] for step in program.steps for name in step.outputs if name}
    readers = Counter(name for step in program.steps for name in step.inputs if name)
    single = {name for name in producers if readers[name] == 1 and name not in keep and name not in program.outputs}
    free = {name for name in single if producers[name].is_op(*_LETS_GO) or _picks_many(producers[name], facts)}
    # A convolution's derivative makes a gradient that nobody else holds.
    convolved = {step.inputs[0] for step in program.steps if nodes[step.node].is_op("Conv")}
    steps = tuple(_overwriting(step, nodes[step.node], free, single & convolved, facts) for step in program.steps)
    return replace(program, steps=_sparing_large(steps, nodes, free, facts) if spares_large else steps)


def _picks_many(node: Node, facts: Facts) -> bool:
    """Whether a node gathers by more than one index: one alone gives a view."""
    return node.is_op("Gather") and len(facts[node.inputs[1]].shape or ()) > 0


def _overwriting(step: Step, node: Node, free: Collection[str], convolved: Collection[str], facts: Facts) -> Step:
    if not step.inputs or step.inputs[0] not in free:
        return step
    if node.is_op("Relu"):
        is_large = facts[step.outputs[0]].size_bytes >= _LARGE_BYTES
        overwrites_gradient = is_large and step.outputs[0] in convolved
        return replace(step, run=_relu_both_ways if overwrites_gradient else torch.relu_)
    if node.is_op("Add") and node.version >= 7:  # older ones name the axis to broadcast along
        made, read = facts[step.outputs[0]], facts[step.inputs[0]]
        if made.shape is not None and made.shape == read.shape and made.dtype.kind == "f":
            return replace(step, run=_add_to)
    return step


def _sparing_large(
    steps: Sequence[Step], nodes: Mapping[str, Node], free: Collection[str], facts: Facts
) -> tuple[Step, ...]:
    """Let convolutions go of huge inputs; join normalisations with the ReLUs that overwrite huge maps both ways."""
    made = {step.outputs[0]: step for step in steps if nodes[step.node].is_op("BatchNormalization")}
    changed: dict[str, Step] = {}
    absorbed: set[str] = set()
    for step in steps:
        if not step.inputs or facts[step.inputs[0]].size_bytes < _HUGE_BYTES:
            continue
        if nodes[step.node].is_op("Conv"):
            changed[step.node] = replace(step, run=LetInputGo(step.run))
        normalisation = made.get(step.inputs[0]) if step.run is _relu_both_ways else None
        # One that uses the statistics of the batch, and hands out none of them, reads no others.
        if normalisation is not None and len(normalisation.inputs) == 3 and not any(normalisation.outputs[1:]):
            epsilon = number(nodes[normalisation.node], "epsilon", 1e-5)
            run = NormaliseAndRectify(epsilon, overwrites=normalisation.inputs[0] in free)
            changed[step.node] = replace(step, run=run, inputs=normalisation.inputs, absorbed=(normalisation.node,))
            absorbed.add(normalisation.node)
    return tuple(changed.get(step.node, step) for step in steps if step.node not in absorbed)


class _ReluBothWays(torch.autograd.Function):
    """ReLU in place of its input, whose derivative takes the place of the gradient."""

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


def _add_to(total: torch.Tensor, term: torch.Tensor) -> torch.Tensor:
    return total.add_(term)
