"""Normalisation by the batch and an activation as one step, on a CPU.

As two steps they save two maps for the derivative and write two more in the backward pass. As one step they save the
input of the normalisation alone, and the derivative overwrites the gradient, in pieces that stay in the processor's
cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from aznas_onnx.convert.inplace_activations import Activation

__all__ = ["ChannelMatrix", "NormalisedActivation", "Vectors", "has_matrix", "matrix_of"]

Tensor = torch.Tensor

_PIECE_BYTES = 2**21  # fits into the processor's cache


class NormalisedActivation:
    """Normalise by the statistics of the batch, then activate: the function of a step of ``(x, scale, bias)``.

    - `epsilon`: Added to the variance.
    - `activation`: The activation.
    - `overwrites_input`: Whether the result can take the place of the input where no derivative is needed.
    - `overwrites_gradient`: Whether the gradient of the result has no other reference, so that it can be overwritten.
    """

    def __init__(
        self, epsilon: float, activation: Activation, *, overwrites_input: bool, overwrites_gradient: bool
    ) -> None:
        self.epsilon = epsilon
        self.activation = activation
        self.overwrites_gradient = overwrites_gradient
        self._overwrites_input = overwrites_input

    def __call__(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the activation of the normalised input: (batch, channels, ...)."""
        are_constants = not (scale.requires_grad or bias.requires_grad)  # and not computed from the block's input
        if are_constants and x.requires_grad and has_matrix(x):
            result: Tensor = _ActivationFunction.apply(x, scale, bias, self)
            return result
        if are_constants and not x.requires_grad and self._overwrites_input and has_matrix(x):
            statistics = x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
            torch.native_batch_norm(x, scale, bias, None, None, True, 0.0, self.epsilon, out=(x, *statistics))
            return self.activation.overwrite(x)
        return self.activation(torch.batch_norm(x, scale, bias, None, None, True, 0.0, self.epsilon, True))

    def normalise(self, x: Tensor, scale: Tensor, bias: Tensor) -> tuple[Tensor, Vectors, bool]:
        """Return the activation, what the derivative needs besides the input, and whether the input is normalised now.

        The normalised values take the place of the input where that is allowed and they have mean 0 and variance 1.
        """
        options = (x, scale, bias, None, None, True, 0.0, self.epsilon)
        if self._overwrites_input and _is_standard(scale, bias):
            mean, inverse_std = torch.empty_like(scale), torch.empty_like(scale)
            torch.native_batch_norm(*options, out=(x, mean, inverse_std))
            return self.activation(x), Vectors(scale, bias, mean, inverse_std), True
        result, mean, inverse_std = torch.native_batch_norm(*options)
        return self.activation.overwrite(result), Vectors(scale, bias, mean, inverse_std), False

    def differentiate(self, gradient: Tensor, x: Tensor, by: Vectors, *, is_normalised: bool) -> tuple[Tensor, Tensor]:
        """Return the gradient at the normalised value, and its sums, alone and times (x - mean) / std: (2, channels).

        - `gradient`: At the result; it is overwritten where that is allowed.
        - `is_normalised`: Whether `x` is (x - mean) / std already.
        """
        if not has_matrix(gradient) or gradient.is_contiguous() != x.is_contiguous():
            gradient = written = torch.empty_like(x).copy_(gradient)
        else:
            written = gradient if self.overwrites_gradient else torch.empty_like(gradient)
        matrices = matrix_of(written), matrix_of(gradient), matrix_of(x)
        return written, _differentiate(*matrices, by, self.activation, is_normalised=is_normalised)


class _ActivationFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, step: NormalisedActivation) -> Tensor:
        result, vectors, ctx.is_normalised = step.normalise(x, scale, bias)
        ctx.save_for_backward(x, *vectors)
        ctx.step = step
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        by = Vectors(*saved)
        d, sums = ctx.step.differentiate(gradient, x, by, is_normalised=ctx.is_normalised)
        read, written = matrix_of(x), matrix_of(d)
        factors = by.factors(sums, x.numel() // x.shape[1], is_normalised=ctx.is_normalised)
        spread = (read.spread(vector.to(x.dtype)) for vector in factors)
        for part, values, by_d, by_x, constant in zip(written.pieces(), read.pieces(), *spread, strict=True):
            torch.addcmul(constant, part, by_d, out=part)
            part.addcmul_(values, by_x)
        return d, None, None, None


class Vectors(NamedTuple):
    """What the derivative of a normalisation needs: a number for each channel."""

    scale: Tensor
    bias: Tensor
    mean: Tensor
    inverse_std: Tensor

    def factors(self, sums: Tensor, count: int, *, is_normalised: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the derivative as factors of d and x, and a constant, in double precision.

        With d the gradient at the normalised value, u = (x - mean) / std, and sums over a channel's n values it is
        scale / std * (d - sum(d) / n - u * sum(d * u) / n), which is linear in d and x.

        - `sums`: Of d and of d * u.
        - `count`: n.
        - `is_normalised`: Whether x is u.
        """
        slope = (self.scale * self.inverse_std).double()
        constant, by_x = -slope * sums / count
        if not is_normalised:
            by_x = by_x * self.inverse_std
            constant = constant - by_x * self.mean
        return slope, by_x, constant


class ChannelMatrix(NamedTuple):
    """A feature map without copying it.

    - `values`: Positions times channels, or (by row) samples and channels times positions.
    - `by_row`: Whether a row belongs to one channel, and not a column.
    """

    values: Tensor
    by_row: bool

    def pieces(self) -> list[Tensor]:
        """Return its rows in pieces that fit into the cache."""
        return list(torch.split(self.values, self._rows()))

    def spread(self, vector: Tensor) -> list[Tensor]:
        """Return for each piece what broadcasts a number for each channel over it."""
        repeats = len(self.values) // len(vector)
        if not self.by_row:
            return [vector] * (1 + (len(self.values) - 1) // self._rows())
        return list(torch.split(vector.repeat(repeats).unsqueeze(1), self._rows()))

    def _rows(self) -> int:
        return max(1, _PIECE_BYTES // (self.values.shape[1] * self.values.element_size()))


def has_matrix(x: Tensor) -> bool:
    """Whether a map is contiguous with its channels in front or at the end."""
    return x.numel() > 0 and (x.is_contiguous() or x.movedim(1, -1).is_contiguous())


def matrix_of(x: Tensor) -> ChannelMatrix:
    """Return a map that :func:`has_matrix` as that matrix."""
    if x.is_contiguous():
        return ChannelMatrix(x.view(x.shape[0] * x.shape[1], -1), by_row=True)
    return ChannelMatrix(x.movedim(1, -1).view(-1, x.shape[1]), by_row=False)


def _is_standard(scale: Tensor, bias: Tensor) -> bool:
    """Whether all scales are 1 and all biases 0."""
    return bool((scale == 1.0).all() and (bias == 0.0).all())


def _differentiate(
    written: ChannelMatrix,
    gradient: ChannelMatrix,
    x: ChannelMatrix,
    by: Vectors,
    activation: Activation,
    *,
    is_normalised: bool,
) -> Tensor:
    """Write the gradient at the normalised value, and return its sums as :meth:`NormalisedActivation.differentiate`."""
    pieces = x.pieces()
    rows, columns = x.values.shape
    sums = x.values.new_empty(2, rows) if x.by_row else x.values.new_empty(2, len(pieces), columns)
    buffers = x.values.new_empty(2, len(pieces[0]), columns)
    is_standard = is_normalised or _is_standard(by.scale, by.bias)
    vectors = map(x.spread, (-by.mean * by.inverse_std, by.inverse_std, by.scale, by.bias))
    first = 0
    for number, (values, given, d, shift, inverse_std, scale, bias) in enumerate(
        zip(pieces, gradient.pieces(), written.pieces(), *vectors, strict=True)
    ):
        buffer, scaled = buffers[:, : len(values)]
        standard = values if is_normalised else torch.addcmul(shift, values, inverse_std, out=buffer)
        normalised = standard if is_standard else torch.addcmul(bias, standard, scale, out=scaled)
        activation.differentiate(given, normalised, d)
        axis, place = (1, slice(first, first + len(values))) if x.by_row else (0, number)
        torch.sum(d, axis, out=sums[0, place])
        torch.sum(torch.mul(standard, d, out=buffer), axis, out=sums[1, place])
        first += len(values)
    return sums.view(2, -1, len(by.mean)).double().sum(1)
