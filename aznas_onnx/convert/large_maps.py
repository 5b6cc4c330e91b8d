"""Steps on feature maps so large that what they keep for the backward pass decides its peak memory. Imports torch.

Without them, a convolution, its normalisation and its ReLU keep two maps and make two more on the way back: the
convolution behind holds its input, although the derivative by the input does not read it, and the normalisation's
derivative is a new map. With them it is one map that is kept, and the gradient is overwritten. That also spares the
time in which the kernel clears the pages of new maps, which for large ones is most of a pass. On a CPU only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

__all__ = ["LetInputGo", "NormaliseAndRectify"]

Tensor = torch.Tensor

_PIECE_BYTES = 2**20  # what stays in the processor's cache


class LetInputGo:
    """A convolution that does not hold its input for the derivative by its weight, which is not asked for.

    The derivative by the input reads the input's shape and memory order, and autograd keeps the values all the same.

    Parameters
    ----------
    run
        The convolution, of ``(x, weight)`` or ``(x, weight, bias)``.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run: Callable[..., Tensor] = run

    def __call__(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """Return the convolution."""
        if weight.requires_grad or not x.requires_grad:
            return self._run(x, weight, *bias)

        address, shape = x.data_ptr(), x.shape  # autograd holds the hook, so it must not hold the input

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
    """Return memory that nobody has written or will read: it takes up addresses and no pages."""
    if isinstance(packed, torch.Tensor):
        return packed
    return torch.empty_strided(packed.size, packed.stride, dtype=packed.dtype, device=packed.device)


class NormaliseAndRectify:
    """Normalise by the statistics of the batch, then ReLU: the function of a step of ``(x, scale, bias)``.

    Nobody but the step may hold the gradient of its result, which is overwritten.

    Parameters
    ----------
    epsilon
        Added to the variance.
    overwrites
        Whether the result may take the place of the input where no derivative is asked for.
    """

    def __init__(self, epsilon: float, *, overwrites: bool) -> None:
        self.epsilon = epsilon
        self._overwrites = overwrites

    def __call__(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the rectified, normalised input: (batch, channels, ...)."""
        if x.requires_grad:
            result: Tensor = _Function.apply(x, scale, bias, self.epsilon)
            return result
        if self._overwrites and _as_matrix(x) is not None:
            statistics = x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
            torch.native_batch_norm(x, scale, bias, None, None, True, 0.0, self.epsilon, out=(x, *statistics))
            return x.relu_()
        return torch.batch_norm(x, scale, bias, None, None, True, 0.0, self.epsilon, True).relu_()


class _Function(torch.autograd.Function):
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

    Attributes
    ----------
    values
        Positions times channels, or (by row) samples and channels times positions.
    by_row
        Whether a row belongs to one channel, and not a column.
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
    """Return the derivative as torch computes it, for maps that are no matrices."""
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
    rows, columns = x.values.shape
    channels = len(mean)
    repeats = rows // channels if x.by_row else 1
    slope = scale * inverse_std

    def spread(channel_values: Tensor) -> Tensor:
        return channel_values.repeat(repeats).unsqueeze(1) if x.by_row else channel_values

    size = max(1, _PIECE_BYTES // (columns * x.values.element_size()))
    pieces = [slice(first, first + size) for first in range(0, rows, size)]
    sums = x.values.new_empty(2, rows) if x.by_row else x.values.new_empty(2, len(pieces), channels)
    buffers = x.values.new_empty(2, min(size, rows), columns)
    means, slopes, biases = spread(mean), spread(slope), spread(bias)
    for number, piece in enumerate(pieces):
        values, d = x.values[piece], gradient.values[piece]
        centred, normalised = buffers[:, : len(values)]
        mean_, slope_, bias_ = (v[piece] if x.by_row else v for v in (means, slopes, biases))
        torch.sub(values, mean_, out=centred)
        torch.addcmul(bias_, centred, slope_, out=normalised)
        torch.ops.aten.threshold_backward.grad_input(d, normalised, 0, grad_input=d)
        axis, place = (1, piece) if x.by_row else (0, number)
        torch.sum(d, axis, out=sums[0, place])
        torch.sum(centred.mul_(d), axis, out=sums[1, place])

    total, product = sums.view(2, -1, channels).double().sum(1)
    count = x.values.numel() // channels
    by_x = -slope.double() * inverse_std.double() ** 2 * product / count
    offset = spread((-slope.double() * total / count - by_x * mean.double()).to(slope.dtype))
    factors = spread(by_x.to(slope.dtype))
    for piece in pieces:
        values, d = x.values[piece], gradient.values[piece]
        offset_, slope_, factor = (v[piece] if x.by_row else v for v in (offset, slopes, factors))
        torch.addcmul(offset_, d, slope_, out=d)
        d.addcmul_(values, factor)
