"""Steps on large feature maps that save less for the backward pass.

Without them, Conv, normalisation and ReLU save two maps and make two more in the backward pass: the next convolution
saves its input, although the derivative by the input does not read it, and the derivative of the normalisation is a new
map. With them one map is saved, and the gradient is overwritten. That also saves the time in which the kernel clears
the pages of new maps. On a CPU only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

__all__ = ["ConvWithoutSavedInput", "FusedBatchNormRelu", "softmax_in_place"]

Tensor = torch.Tensor

_PIECE_BYTES = 2**20  # fits into the processor's cache


class ConvWithoutSavedInput:
    """A convolution that does not save its input for the derivative by its weight, which is not needed.

    The derivative by the input reads the input's shape and memory order only, but autograd saves the values, too.

    - `run`: The convolution, of ``(x, weight)`` or ``(x, weight, bias)``.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run: Callable[..., Tensor] = run

    def __call__(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """Return the convolution."""
        if weight.requires_grad or not x.requires_grad:
            return self._run(x, weight, *bias)

        address, shape = x.data_ptr(), x.shape  # autograd references the hook, so the hook must not reference the input

        def pack(saved: Tensor) -> Tensor | _Layout:
            is_input = saved.data_ptr() == address and saved.shape == shape
            return _Layout(saved.shape, saved.stride(), saved.dtype, saved.device) if is_input else saved

        with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
            return self._run(x, weight, *bias)


class _Layout(NamedTuple):
    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _unpack(packed: Tensor | _Layout) -> Tensor:
    """Return uninitialised storage; the OS never commits pages for it."""
    if isinstance(packed, torch.Tensor):
        return packed
    return torch.empty_strided(packed.size, packed.stride, dtype=packed.dtype, device=packed.device)


class FusedBatchNormRelu:
    """Normalise by the statistics of the batch, then ReLU: the function of a step of ``(x, scale, bias)``.

    The gradient of its result is overwritten and must have no other reference.

    - `epsilon`: Added to the variance.
    - `overwrites`: Whether the result can overwrite the input where no derivative is needed.
    """

    def __init__(self, epsilon: float, *, overwrites: bool) -> None:
        self._epsilon = epsilon
        self._overwrites = overwrites

    def __call__(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the rectified, normalised input: (batch, channels, ...)."""
        are_constants = not (scale.requires_grad or bias.requires_grad)  # and not computed from the block's input
        if are_constants and x.requires_grad:
            result: Tensor = _LargeMapFunction.apply(x, scale, bias, self._epsilon)
            return result
        if are_constants and self._overwrites and _as_matrix(x) is not None:
            statistics = x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
            torch.native_batch_norm(x, scale, bias, None, None, True, 0.0, self._epsilon, out=(x, *statistics))
            return x.relu_()
        return torch.batch_norm(x, scale, bias, None, None, True, 0.0, self._epsilon, True).relu_()


class _LargeMapFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        result, mean, inverse_std = torch.native_batch_norm(x, scale, bias, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(x, scale, bias, mean, inverse_std)
        ctx.epsilon = epsilon
        return result.relu_()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, bias, mean, inverse_std = ctx.saved_tensors
        read, written = _as_matrix(x), _as_matrix(gradient)
        if read is None or written is None or read.by_row != written.by_row:
            return _derivative(gradient, x, scale, bias, mean, inverse_std, ctx.epsilon), None, None, None
        _overwrite(written, read, scale, bias, mean, inverse_std)
        return gradient, None, None, None


class _Matrix(NamedTuple):
    """A feature map without copying it.

    - `values`: Positions times channels, or (by row) samples and channels times positions.
    - `by_row`: Whether a row belongs to one channel, and not a column.
    """

    values: Tensor
    by_row: bool


def _as_matrix(x: Tensor) -> _Matrix | None:
    samples, channels = x.shape[:2]
    if x.is_contiguous():
        return _Matrix(x.view(samples * channels, -1), by_row=True)
    last = x.permute(0, *range(2, x.dim()), 1)
    return _Matrix(last.view(-1, channels), by_row=False) if last.is_contiguous() else None


def _derivative(
    gradient: Tensor, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, inverse_std: Tensor, epsilon: float
) -> Tensor:
    """Return the derivative as torch computes it, for maps that are not matrices."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    normalised = torch.addcmul(bias.view(shape), x - mean.view(shape), (scale * inverse_std).view(shape))
    found: tuple[Tensor, ...] = torch.ops.aten.native_batch_norm_backward(
        gradient * (normalised > 0), x, scale, None, None, mean, inverse_std, True, epsilon, [True, False, False]
    )
    return found[0]


def _overwrite(gradient: _Matrix, x: _Matrix, scale: Tensor, bias: Tensor, mean: Tensor, inverse_std: Tensor) -> None:
    """Write the derivative over the gradient.

    With c = x - mean and d the gradient where the normalised value is positive, sums over a channel's n values:
    scale / std * (d - sum(d) / n - c * sum(d * c) / (n * variance)), which is linear in d and x.
    """
    slope = scale * inverse_std
    total, product = _rectify_and_sum(gradient, x, mean, slope, bias)
    count = x.values.numel() // len(mean)
    by_x = -slope.double() * inverse_std.double() ** 2 * product / count
    offset = -slope.double() * total / count - by_x * mean.double()
    vectors = [_Spread(x, vector.to(slope.dtype)) for vector in (slope, by_x, offset)]
    for piece in _pieces(x):
        values, d = x.values[piece], gradient.values[piece]
        by_d, factor, constant = (vector[piece] for vector in vectors)
        torch.addcmul(constant, d, by_d, out=d)
        d.addcmul_(values, factor)


def _rectify_and_sum(gradient: _Matrix, x: _Matrix, mean: Tensor, slope: Tensor, bias: Tensor) -> Tensor:
    """Set the gradient to zero where the ReLU is; return the sums of it and of it times x - mean: (2, channels)."""
    pieces = _pieces(x)
    rows, columns = x.values.shape
    sums = x.values.new_empty(2, rows) if x.by_row else x.values.new_empty(2, len(pieces), columns)
    buffers = x.values.new_empty(2, min(pieces[0].stop, rows), columns)
    vectors = [_Spread(x, vector) for vector in (mean, slope, bias)]
    for number, piece in enumerate(pieces):
        values, d = x.values[piece], gradient.values[piece]
        centred, normalised = buffers[:, : len(values)]
        middle, factor, shift = (vector[piece] for vector in vectors)
        torch.sub(values, middle, out=centred)
        torch.addcmul(shift, centred, factor, out=normalised)
        torch.ops.aten.threshold_backward.grad_input(d, normalised, 0, grad_input=d)
        axis, place = (1, piece) if x.by_row else (0, number)
        torch.sum(d, axis, out=sums[0, place])
        torch.sum(centred.mul_(d), axis, out=sums[1, place])
    return sums.view(2, -1, len(mean)).double().sum(1)


def _pieces(x: _Matrix) -> list[slice]:
    """Return the rows of each piece that fits into the cache."""
    rows, columns = x.values.shape
    length = max(1, _PIECE_BYTES // (columns * x.values.element_size()))
    return [slice(first, first + length) for first in range(0, rows, length)]


class _Spread:
    """A number for each channel, as what broadcasts over some rows of a matrix."""

    def __init__(self, matrix: _Matrix, vector: Tensor) -> None:
        self._by_row = matrix.by_row
        repeats = len(matrix.values) // len(vector)
        self._vector = vector.repeat(repeats).unsqueeze(1) if matrix.by_row else vector

    def __getitem__(self, rows: slice) -> Tensor:
        return self._vector[rows] if self._by_row else self._vector


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
