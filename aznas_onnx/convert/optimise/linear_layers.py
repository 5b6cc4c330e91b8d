"""Run products with weights, and the bias and GELU behind them, as one call of oneDNN on a CPU."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, number, text
from aznas_onnx.convert.inplace_activations import gelu
from aznas_onnx.convert.onednn import has_onednn
from aznas_onnx.convert.optimise.program_graph import ProgramGraph
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.graph.ir.tensor_info import TensorInfos
from aznas_onnx.operators.sets import LINEAR

__all__ = ["LinearLayer", "with_linear_layers"]

Tensor = torch.Tensor
Kernel = Callable[..., Tensor]

_LEAST_MACS = 2**22  # below it a call of oneDNN costs more than it gains


def with_linear_layers(
    program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str], device: torch.device
) -> Program:
    """Return a program in which a product with a constant is one step with the bias and the GELU behind it.

    - `program`: Compiled from `graph`, for `device`.
    - `infos`: Shapes of the graph's tensors.
    - `keep`: Tensors needed after the run, besides the program's outputs.
    """
    if device.type != "cpu" or _kernel() is None:
        return program
    layers = _Layers(program, graph, infos, keep)
    found = {step.node: step for node in layers.products() if (step := layers.step(node)) is not None}
    absorbed = {name for step in found.values() for name in step.absorbed}
    steps = (found.get(step.node, step) for step in program.steps if step.node not in absorbed)
    return replace(program, steps=tuple(steps))


class _Layers:
    """Finds linear layers in a program's nodes."""

    def __init__(self, program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str]) -> None:
        self._program = ProgramGraph(program, graph, infos, keep)
        self._constants = program.constants
        self._joined = {name for step in program.steps for name in (*step.absorbed, step.node) if step.absorbed}

    def products(self) -> Iterable[Node]:
        """Yield the products that are large enough and not yet part of another step."""
        for node in self._program.nodes:
            if node in LINEAR and node.name not in self._joined and self._is_worth_it(node):
                yield node

    def step(self, product: Node) -> Step | None:
        """Return a product as a step, with what only its result passes through; None for other forms than a layer's."""
        nodes, bias = [product], product.input(2)
        if product.is_op("Gemm") and not self._is_plain(product):
            return None
        addition = None if bias else self._program.only_reader(product.outputs[0], "Add")
        if addition is not None and (other := self._bias(addition, product.outputs[0])):
            nodes, bias = [*nodes, addition], other
        activation = self._program.only_reader(nodes[-1].outputs[0], "Gelu")
        nodes = nodes if activation is None else [*nodes, activation]
        reader = self._program.only_reader(nodes[-1].outputs[0], "MatMul", "Gemm")
        layer = LinearLayer(
            by_output=product.is_op("Gemm") and bool(integer(product, "transB", 0)),
            gelu="" if activation is None else text(activation, "approximate", "none"),
            owns_gradient=reader is not None and reader.inputs[0] == nodes[-1].outputs[0],
        )
        return Step(
            node=nodes[-1].name,
            run=layer,
            inputs=(*product.inputs[:2], bias) if bias else product.inputs[:2],
            outputs=nodes[-1].outputs,
            absorbed=tuple(node.name for node in nodes[:-1]),
        )

    def _is_worth_it(self, product: Node) -> bool:
        x, weight = map(self._program.shape, product.inputs[:2])
        constant = self._constants.get(product.inputs[1])
        if len(x) < 2 or len(weight) != 2 or constant is None or not constant.is_floating_point():
            return False
        return math.prod(self._program.shape(product.outputs[0])) * x[-1] >= _LEAST_MACS

    def _is_plain(self, gemm: Node) -> bool:
        """Whether a Gemm is a product with a weight, plus a bias or nothing."""
        if number(gemm, "alpha", 1.0) != 1.0 or integer(gemm, "transA", 0):
            return False
        bias = gemm.input(2)
        return not bias or (number(gemm, "beta", 1.0) == 1.0 and self._is_bias(bias, gemm.outputs[0]))

    def _bias(self, addition: Node, product: str) -> str:
        """Return the bias that is added to a product; empty where something else is."""
        other = next((name for name in addition.inputs if name != product), "")
        return other if self._is_bias(other, product) else ""

    def _is_bias(self, name: str, product: str) -> bool:
        return name in self._constants and self._program.shape(name) == self._program.shape(product)[-1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLayer:
    """A linear layer, with GELU or without: the function of a step of ``(x, weight)`` or ``(x, weight, bias)``.

    - `by_output`: Whether the weight is (outputs, inputs) instead of (inputs, outputs).
    - `gelu`: How GELU is computed, as in ONNX; empty without one.
    - `owns_gradient`: Whether the gradient has no other reference, so that GELU's derivative can overwrite it.
    """

    by_output: bool
    gelu: str
    owns_gradient: bool

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the features; contiguous."""
        by_output = weight if self.by_output else weight.t()
        flat = x.reshape(-1, x.shape[-1])
        is_constant = not (weight.requires_grad or (bias is not None and bias.requires_grad))
        kernel = _kernel() if x.dtype is torch.float32 and x.device.type == "cpu" and is_constant else None
        if kernel is None:
            made = F.linear(flat, by_output, bias)
            made = F.gelu(made, approximate=self.gelu) if self.gelu else made
        elif x.requires_grad and torch.is_grad_enabled():
            made = _Linear.apply(flat, by_output, bias, kernel, self)
        else:
            made = kernel(flat, by_output, bias, "gelu" if self.gelu else "none", [], self.gelu)
        # As torch.matmul's, the result is no view for autograd, so that a later step can overwrite it.
        shaped: Tensor = torch.ops.aten._unsafe_view(made, (*x.shape[:-1], made.shape[-1]))
        return shaped


class _Linear(torch.autograd.Function):
    """A layer of constants: it has no derivative by its weight and bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, by_output: Tensor, bias: Tensor | None, kernel: Kernel, layer: LinearLayer
    ) -> Tensor:
        made = kernel(x, by_output, bias, "none", [], "")
        ctx.kernel, ctx.layer = kernel, layer
        ctx.save_for_backward(by_output, *((made,) if layer.gelu else ()))
        return F.gelu(made, approximate=layer.gelu) if layer.gelu else made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_output, *saved = ctx.saved_tensors
        if saved:
            place = gradient if ctx.layer.owns_gradient else torch.empty_like(gradient)
            gradient = gelu(ctx.layer.gelu).differentiate(gradient, saved[0], place)
        return ctx.kernel(gradient, by_output.t(), None, "none", [], ""), None, None, None, None


@lru_cache(maxsize=1)
def _kernel() -> Kernel | None:
    """Return oneDNN's linear layer; None where torch has none, or another one than this module knows.

    It takes ``(x, weight, bias, activation, scalars, algorithm)``, has no derivative, and is private to torch. It was
    measured on x86 only.
    """
    kernel: Kernel | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    is_there = has_onednn() and platform.machine() in ("x86_64", "AMD64")
    return kernel if kernel is not None and is_there and _is_known(kernel) else None


@torch.no_grad()
def _is_known(kernel: Kernel) -> bool:
    """Whether a kernel computes what :class:`LinearLayer` asks of it, on a small example."""
    x, weight = (torch.linspace(-1.0, 1.0, 60).view(shape) for shape in ((3, 20), (20, 3)))
    for algorithm in ("none", "tanh"):
        wanted = F.gelu(F.linear(x, weight.t(), weight[0]), approximate=algorithm)
        try:
            made = kernel(x, weight.t(), weight[0], "gelu", [], algorithm)
        except (RuntimeError, TypeError):
            return False
        if made.shape != wanted.shape or not torch.allclose(made, wanted, atol=1e-5):
            return False
    return True
