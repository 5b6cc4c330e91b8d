"""Average pools of stride 1 as depthwise convolutions with equal weights, which a CPU runs up to ten times faster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from aznas_onnx.convert.operators.pooling import AveragePool
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["AverageOfNeighbours", "with_pools_as_convolutions"]

Tensor = torch.Tensor
_LEAST_BYTES = 2**19  # of a map: below, the calls take as long as the pool


def with_pools_as_convolutions(program: Program, infos: TensorInfos) -> Program:
    """Return a program whose larger average pools of stride 1 and unchanged size are depthwise convolutions.

    - `infos`: Shapes of the tensors.
    """
    return replace(program, steps=tuple(_replaced(step, infos) for step in program.steps))


def _replaced(step: Step, infos: TensorInfos) -> Step:
    if not isinstance(step.run, AveragePool) or infos[step.inputs[0]].size_bytes < _LEAST_BYTES:
        return step
    pool, sizes = step.run, infos.shape(step.inputs[0])[2:]
    keeps_size = all(kernel == 2 * pad + 1 for kernel, pad in zip(pool.kernel, pool.padding, strict=True))
    if len(sizes) != 2 or max(pool.strides) > 1 or not keeps_size or min(sizes) < max(pool.kernel):
        return step
    return replace(step, run=AverageOfNeighbours(pool))


@dataclass(frozen=True, slots=True)
class AverageOfNeighbours:
    """The average over a window around each position of a (batch, channels, height, width) tensor.

    - `pool`: Of stride 1 and an odd kernel, padded so that the size does not change.
    """

    pool: AveragePool

    def __call__(self, x: Tensor) -> Tensor:
        """Return the averages; a narrower type than float32 would round the weights."""
        if x.dtype is not torch.float32:
            return self.pool(x)
        result: Tensor = _AverageFunction.apply(x, self) if x.requires_grad else self.averages(x)
        return result

    def averages(self, x: Tensor) -> Tensor:
        """Return the average over each window."""
        sums = self._sums(x)
        self._weight_borders(sums)
        return sums

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Return the derivative by the input from that by the output: each window gives every element its share."""
        shares = gradient.clone()
        self._weight_borders(shares)
        return self._sums(shares)

    def _sums(self, x: Tensor) -> Tensor:
        """Return the sums over the windows, divided by the number of elements of a whole window."""
        (height, width), channels = self.pool.kernel, x.shape[1]
        weight = x.new_full((channels, 1, height, width), 1.0 / (height * width))
        return torch.conv2d(x, weight, None, 1, self.pool.padding, 1, channels)

    def _weight_borders(self, x: Tensor) -> None:
        """Multiply, in place, by the elements of a whole window per element of the part inside the map."""
        if self.pool.counts_pads:
            return
        for axis, pad in enumerate(self.pool.padding, start=2):
            for position, factor in _border_factors(pad):
                x.select(axis, position).mul_(factor)


def _border_factors(pad: int) -> Iterator[tuple[int, float]]:
    """Yield positions at both ends of an axis and what part of the window there is inside, inverted."""
    kernel = 2 * pad + 1
    for position in range(pad):
        factor = kernel / (kernel - pad + position)
        yield position, factor
        yield -1 - position, factor


class _AverageFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, average: AverageOfNeighbours) -> Tensor:
        ctx.average = average
        return average.averages(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.average.input_gradient(gradient), None
