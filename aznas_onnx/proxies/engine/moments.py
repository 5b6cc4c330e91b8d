"""Second moments of features and gradients, and their spectra: the arithmetic of Eq. 1-3 and 10.

Feature maps have the shape (batch, *positions, channels) in any memory order; a map in that memory order is never
copied as a whole. Sums run over pieces of the batch that fit into the processor's cache.

Of symmetric results only the lower triangle is valid, which is the part that ``eigvalsh`` reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from aznas_onnx.convert.onednn import has_onednn
from aznas_onnx.proxies.engine.eigenvalues import solvable
from aznas_onnx.proxies.engine.krylov import krylov_matrix
from aznas_onnx.proxies.engine.positions import Matching
from aznas_onnx.proxies.engine.sign_products import (
    add_sign_product,
    multiplies_bytes,
    products_of_signs,
    rounded,
    unit_of,
)

__all__ = ["JacobianGram", "covariance", "entropy", "jacobian_gram", "squared_norm"]

Tensor = torch.Tensor
_ENTROPY_OFFSET = 1e-8  # of the published code
_PIECE_ELEMENTS = 2**22  # 16 MiB: in a CPU's cache, yet long enough for several threads
_LARGE_PIECE_ELEMENTS = 2**26  # elsewhere
_STRIP = 128  # columns of a symmetric product that are computed at a time
_KRYLOV_WIDTH = 384  # from here on the largest eigenvalue alone is cheaper than all
_LARGE_KRYLOV_WIDTH = 512  # elsewhere
_INTEGER_WIDTH = 192  # from here on rounding to integers takes less time than their product saves
_LARGEST_MEAN = 8.0  # the squared mean of features over their variance, from which on it is subtracted first
_NARROW, _MANY_ROWS, _PARTS = 96, 2**15, 16  # channels, rows and samples of products that run as convolutions
_LEAST_SIGNAL = 0.02


def covariance(features: Tensor) -> Tensor:
    """Return a symmetric matrix that has the nonzero eigenvalues of the covariance of features (Eq. 1-2).

    The covariance is divided by the number of samples n, as in the published code, not by n - 1.

    - `features`: (batch, *positions, channels), float32.

    Returns: (channels, channels), or (n, n) where there are fewer samples than channels.
    """
    channels = features.shape[-1]
    samples = features.numel() // channels
    if samples < channels:
        centred = (features - features.mean(dim=tuple(range(features.dim() - 1)))).reshape(samples, channels)
        return _symmetric_product(centred.t()).div_(samples)
    features = _in_memory_order(features, features)
    result = _with_small_mean(features, samples) if features.device.type == "cpu" else None
    return _centred_first(features, samples) if result is None else result


def _with_small_mean(features: Tensor, samples: int) -> Tensor | None:
    """Return ``E[x x^T] - m m^T`` with the mean m, in one pass over the features; None where m is large.

    The rounding of the products is that of the trace of ``E[x x^T]``, so it is at most ``1 + |m|^2 / trace(C)`` times
    that of products of centred features: at most 9 times. Behind normalisation and ReLU the ratio is below 1.
    """
    channels = features.shape[-1]
    result, total = features.new_zeros(channels, channels), features.new_zeros(channels)
    seen = 0
    for piece in _pieces(features, _piece_size(features)):
        rows = piece.reshape(-1, channels)
        total.add_(rows.sum(0))
        _add_symmetric_product(result, rows)
        seen += len(rows)
        square = float(torch.dot(total, total)) / seen
        if not square * (1.0 + 1.0 / _LARGEST_MEAN) <= float(result.diagonal().sum()):  # also where it is not finite
            return None
    return result.addr_(total, total, alpha=-1.0 / samples).div_(samples)


def _centred_first(features: Tensor, samples: int) -> Tensor:
    channels = features.shape[-1]
    mean = features.mean(dim=tuple(range(features.dim() - 1)))
    result = features.new_zeros(channels, channels)
    for piece in _pieces(features, _piece_size(features)):
        _add_symmetric_product(result, (piece - mean).reshape(-1, channels))
    return result.div_(samples)


class JacobianGram(NamedTuple):
    """The estimate of a block's Jacobian A (Eq. 10).

    - `matrix`: Symmetric, with the squared spectral norm of the estimate as its largest eigenvalue: A^T A or A A^T,
      whichever is smaller; where there are fewer samples than channels, a matrix of the samples; where both are wide,
      the part of A^T A with its largest eigenvalue.
    - `signal`: 0-d: the share of the estimate's squared Frobenius norm that is not noise of few samples; None where not
      requested.
    - `is_identity`: 0-d bool: whether the gradients at input and output are equal.
    """

    matrix: Tensor
    signal: Tensor | None
    is_identity: Tensor


def jacobian_gram(g_in: Tensor, g_out: Tensor, matching: Matching, *, with_signal: bool = False) -> JacobianGram:
    """Estimate a block's Jacobian (Eq. 10).

    - `g_in`, `g_out`: (batch, *positions, channels): the signs' product with the block's Jacobian, and the signs.
    - `matching`: Of the positions of the two.
    - `with_signal`: Whether to estimate the share of signal, too.
    """
    samples = g_out.shape[0] * matching.positions
    width_in = g_in.shape[-1] * math.prod(matching.strides_in)
    width_out = g_out.shape[-1] * math.prod(matching.strides_out)
    narrow = min(g_in.shape[-1], g_out.shape[-1])
    in_integers = with_signal and g_in.device.type == "cpu" and narrow >= _INTEGER_WIDTH and multiplies_bytes()
    is_identity = _equal(g_in, g_out)
    if samples < min(width_in, width_out):
        inner = _products_of_samples(matching.offsets_in(g_in), samples, of_signs=False)
        outer = _products_of_samples(matching.offsets_out(g_out), samples, of_signs=in_integers)
        gram, total = _gram_of_samples(inner, outer)
        signal = _signal(total, g_in, width_in * width_out / samples) if with_signal else None
        return JacobianGram(gram, signal, is_identity)
    jacobian = g_in.new_zeros(width_in, width_out)
    size = min(_piece_size(g_in), _piece_size(g_out))
    for piece_in, piece_out in zip(_pieces(g_in, size), _pieces(g_out, size), strict=True):
        unit = unit_of(piece_in) if in_integers else None
        _add_products(jacobian, matching.offsets_in(piece_in), matching.offsets_out(piece_out), unit)
    jacobian.div_(samples)
    total = torch.linalg.vector_norm(jacobian).square()
    signal = _signal(total, g_in, width_in * width_out / samples) if with_signal else None
    return JacobianGram(_gram(solvable(jacobian)), signal, is_identity)


def _equal(one: Tensor, other: Tensor) -> Tensor:
    """Return whether two tensors are equal, a 0-d bool; on a CPU the first sample nearly always decides."""
    if one.shape == other.shape and one.device.type != "cpu":
        return (one == other).all()
    is_equal = one.shape == other.shape and torch.equal(one[:1], other[:1]) and torch.equal(one, other)
    return torch.full((), is_equal, device=one.device)


def entropy(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entropy of L1-normalised eigenvalues (Eq. 3), and whether rounding left it without a value.

    Where features lie in a subspace, rounding makes some eigenvalues negative. They count as 0 here. In the published
    code the logarithm of those below its offset is NaN, which it reports as minus infinity: for cells of pooling and
    skips, but also, at some seeds and not at others, for ordinary networks without normalisation.

    - Returns `value`: 0-d tensor in nats; NaN where the eigenvalues are all 0 or not finite.
    - Returns `is_singular`: 0-d bool tensor: whether the published code has no value.
    """
    shares = spectrum / spectrum.sum()
    is_singular = shares[0] < -_ENTROPY_OFFSET
    shares = shares.clamp_min(0.0)
    return -(shares * torch.log(shares + _ENTROPY_OFFSET)).sum(), is_singular


def squared_norm(spectrum: Tensor) -> Tensor:
    """Return the squared spectral norm of a matrix from the eigenvalues of its Gram matrix, a 0-d tensor."""
    return spectrum[-1].clamp_min(0.0)


def _signal(total: Tensor, g_in: Tensor, ratio: float) -> Tensor:
    """Return the share of signal in a squared Frobenius norm; at least a fiftieth.

    Each element of A is a mean over samples of g_in times a sign, so its variance is the mean square of g_in over the
    number of samples; `ratio` is that of elements to samples. This holds for any number of samples, also for fewer than
    channels.
    """
    noise: Tensor = torch.linalg.vector_norm(g_in).square() * (ratio / g_in.numel())
    share: Tensor = noise.to(total.device) / total.clamp_min(torch.finfo(torch.float32).tiny)
    return (1.0 - share).clamp_min(_LEAST_SIGNAL)


def _piece_size(tensor: Tensor) -> int:
    """Return how many samples of a tensor one piece has."""
    wanted = _PIECE_ELEMENTS if tensor.device.type == "cpu" else _LARGE_PIECE_ELEMENTS
    # The sum of a product is read and written once per piece, so pieces must not be small in comparison.
    wanted = max(wanted, 2 * tensor.shape[-1] ** 2)
    return max(1, wanted // max(1, tensor[0].numel()))


def _pieces(tensor: Tensor, size: int) -> Sequence[Tensor]:
    return (tensor,) if size >= tensor.shape[0] else torch.split(tensor, size)


def _in_memory_order(tensor: Tensor, like: Tensor) -> Tensor:
    """Sort the axes of a tensor but the last by the strides of another, so that rows of channels need no copy."""
    strides = like.stride()[:-1]
    axes = sorted(range(len(strides)), key=strides.__getitem__, reverse=True)
    return tensor if axes == list(range(len(strides))) else tensor.permute(*axes, -1)


def _add_products(total: Tensor, left: Sequence[Tensor], right: Sequence[Tensor], unit: float | None) -> None:
    """Add ``L^T R`` to `total`, in place, where L and R are offsets side by side.

    - `unit`: For products in integers; None for those in float32.
    """
    columns = [_in_memory_order(offset, left[0]).reshape(-1, offset.shape[-1]) for offset in right]
    signs = [] if unit is None else [column.to(torch.int8) for column in columns]
    for i, offset in enumerate(left):
        offset = _in_memory_order(offset, left[0])
        rows = offset.reshape(-1, offset.shape[-1]) if unit is None else rounded(offset, unit)
        for j, column in enumerate(columns):
            height, width = offset.shape[-1], column.shape[1]
            part = total[i * height : (i + 1) * height, j * width : (j + 1) * width]
            if unit is None:
                _add_product(part, rows, column)
            else:
                add_sign_product(part, rows, signs[j], unit)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``L^T R`` to `total`, in place.

    On a CPU, narrow products of many rows run as the derivative of a pointwise convolution by its weight, which takes
    0.4 to 0.8 of the time of a matrix product.
    """
    rows, widths = len(left), (left.shape[1], right.shape[1])
    is_narrow = left.device.type == "cpu" and max(widths) <= _NARROW and rows >= _MANY_ROWS and rows % _PARTS == 0
    if not (is_narrow and left.is_contiguous() and right.is_contiguous() and has_onednn()):
        total.addmm_(left.t(), right)
        return
    maps = [part.view(_PARTS, rows // _PARTS, 1, -1).permute(0, 3, 1, 2) for part in (left, right)]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        maps[0], maps[1], left.new_empty(*widths, 1, 1), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1,
        [False, True, False],
    )  # fmt: skip
    total.add_(found[1].view(widths))


def _symmetric_product(matrix: Tensor) -> Tensor:
    """Return the lower triangle of ``M^T M``."""
    result = matrix.new_zeros(matrix.shape[1], matrix.shape[1])
    _add_symmetric_product(result, matrix)
    return result


def _add_symmetric_product(total: Tensor, matrix: Tensor) -> None:
    """Add the lower triangle of ``M^T M`` to `total`, in place.

    By strips of rows, each up to the diagonal: of k strips (k + 1) / 2k of the full product. Narrower strips take
    longer.
    """
    width = matrix.shape[1]
    if width <= _STRIP:
        _add_product(total, matrix, matrix)
        return
    strips = -(-width // _STRIP)
    size = -(-width // (16 * strips)) * 16
    for start in range(0, width, size):
        end = min(start + size, width)
        total[start:end, :end].addmm_(matrix[:, start:end].t(), matrix[:, :end])


def _gram(jacobian: Tensor) -> Tensor:
    """Return a matrix with the largest eigenvalue of ``A^T A``."""
    tall = jacobian if jacobian.shape[0] >= jacobian.shape[1] else jacobian.t()
    width = tall.shape[1]
    if not _is_wide(width, tall.device):
        return _symmetric_product(tall)
    return krylov_matrix(lambda vector: torch.mv(tall.t(), torch.mv(tall, vector)), width, tall.device)


def _is_wide(width: int, device: torch.device) -> bool:
    return width >= (_KRYLOV_WIDTH if device.type == "cpu" else _LARGE_KRYLOV_WIDTH)


def _gram_of_samples(inner: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix with the largest eigenvalue of ``A A^T`` for ``A = L^T R / n``, and the squared norm of A.

    The nonzero eigenvalues of A A^T are those of ``(L L^T) (R R^T) / n^2``, and with the Cholesky factor C of
    ``R R^T`` those of the symmetric ``C^T (L L^T) C / n^2``; its squared Frobenius norm is that matrix' trace.

    - `inner`, `outer`: The lower triangles of L L^T and R R^T.
    """
    samples = len(inner)
    # Signs have nearly orthogonal rows, but with as many samples as channels the smallest eigenvalue comes near
    # rounding; this moves the largest one by a millionth.
    outer.diagonal().add_(1e-6 * outer.diagonal().mean())
    total = 2.0 * (inner * outer).sum() - torch.dot(inner.diagonal(), outer.diagonal())
    factor = torch.linalg.cholesky_ex(outer).L
    inner = inner + inner.tril(-1).t()
    square = float(samples) ** 2
    if not _is_wide(samples, inner.device):
        return torch.mm(factor.t(), torch.mm(inner, factor)).div_(square), total / square

    def apply(vector: Tensor) -> Tensor:
        return torch.mv(factor.t(), torch.mv(inner, torch.mv(factor, vector)))

    return krylov_matrix(apply, samples, inner.device).div_(square), total / square


def _products_of_samples(offsets: Sequence[Tensor], samples: int, *, of_signs: bool) -> Tensor:
    """Return the lower triangle of the samples' products, and zeros."""
    result = offsets[0].new_zeros(samples, samples)
    for offset in offsets:
        rows = offset.reshape(samples, -1)
        if of_signs:
            result.add_(products_of_signs(rows))
        else:
            _add_symmetric_product(result, rows.t())
    return solvable(result.tril_())
