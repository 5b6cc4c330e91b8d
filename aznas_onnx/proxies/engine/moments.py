"""Second moments of features and gradients, and their spectra: the arithmetic of Eq. 1-3 and 10.

Feature maps have the shape (batch, *positions, channels) in any memory order; a map in that memory order is never
copied as a whole. Sums run over pieces of the batch that fit into the processor's cache.

Of symmetric results only the lower triangle is valid, which is the part that ``eigvalsh`` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from aznas_onnx.proxies.engine.positions import Matching

__all__ = ["JacobianGram", "covariance", "entropy", "jacobian_gram", "solvable", "spectra", "squared_norm"]

Tensor = torch.Tensor
_ENTROPY_OFFSET = 1e-8  # of the published code
_PIECE_ELEMENTS = 2**22  # 16 MiB: in a CPU's cache, yet long enough for several threads
_LARGE_PIECE_ELEMENTS = 2**26  # elsewhere
_WHOLE_WIDTH = 256  # symmetric products of wider matrices are computed by halves
_KRYLOV_WIDTH = 512  # from here on the largest eigenvalue alone is cheaper than all
_KRYLOV_STEPS = 96
_LEAST_SIGNAL = 0.02


def covariance(features: Tensor) -> Tensor:
    """Return a symmetric matrix that has the nonzero eigenvalues of the covariance of features (Eq. 1-2).

    The covariance is divided by the number of samples n, as in the published code, not by n - 1.

    - `features`: (batch, *positions, channels), float32.

    Returns: (channels, channels), or (n, n) where there are fewer samples than channels.
    """
    channels = features.shape[-1]
    samples = features.numel() // channels
    mean = features.mean(dim=tuple(range(features.dim() - 1)))
    if samples < channels:
        centred = (features - mean).reshape(samples, channels)
        return _symmetric_product(centred.t()).div_(samples)
    result = features.new_zeros(channels, channels)
    for piece in torch.split(features, _piece_size(features)):
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
    may_be_identity = g_in.shape == g_out.shape
    is_identity = torch.full((), may_be_identity, device=g_in.device)
    if samples < min(width_in, width_out):
        gram = _gram_of_samples(_joined(matching.offsets_in(g_in)), _joined(matching.offsets_out(g_out)))
        equal = _equal(g_in, g_out) if may_be_identity else is_identity
        signal = _signal(gram.diagonal().sum(), g_in, width_in * width_out / samples) if with_signal else None
        return JacobianGram(gram, signal, equal)
    jacobian = g_in.new_zeros(width_in, width_out)
    size = min(_piece_size(g_in), _piece_size(g_out))
    for piece_in, piece_out in zip(torch.split(g_in, size), torch.split(g_out, size), strict=True):
        if may_be_identity:
            is_identity = is_identity & _equal(piece_in, piece_out)
            # Nearly always decided by the first piece; the test is free on a CPU.
            may_be_identity = g_in.device.type != "cpu" or bool(is_identity)
        _add_products(jacobian, matching.offsets_in(piece_in), matching.offsets_out(piece_out))
    jacobian.div_(samples)
    signal = _signal(jacobian.square().sum(), g_in, width_in * width_out / samples) if with_signal else None
    tall = solvable(jacobian if width_in >= width_out else jacobian.t())
    gram = _krylov_gram(tall) if tall.shape[1] >= _KRYLOV_WIDTH else _symmetric_product(tall)
    return JacobianGram(gram, signal, is_identity)


def _equal(one: Tensor, other: Tensor) -> Tensor:
    """Return whether two tensors are equal, a 0-d bool; on a CPU the first sample nearly always decides."""
    if one.device.type == "cpu":
        is_equal = torch.equal(one[:1], other[:1]) and torch.equal(one, other)
        return torch.full((), is_equal, device=one.device)
    return (one == other).all()


def spectra(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return the eigenvalues of symmetric matrices, ascending; all matrices of one size at a time.

    A matrix that is not finite has NaN eigenvalues instead of an error, so that the other blocks keep their results.
    """
    found: dict[int, Tensor] = {}
    sizes = {matrix.shape[0]: None for matrix in matrices}
    with _one_thread():
        for size in sizes:
            members = [index for index, matrix in enumerate(matrices) if matrix.shape[0] == size]
            stack = torch.stack([matrices[index] for index in members])
            is_finite = stack.diagonal(dim1=-2, dim2=-1).sum(-1).isfinite()  # a Gram matrix is bounded by its trace
            stack.masked_fill_(~is_finite[:, None, None], 0.0)
            values = torch.where(is_finite[:, None], torch.linalg.eigvalsh(stack), torch.nan)
            found.update(zip(members, values, strict=True))
    return [found[index] for index in range(len(matrices))]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Factorise on one thread: several wait for each other after every column.

    On idle cores that gains a little; where something else runs on them, one such wait takes a time slice, and a
    matrix of width 1,024 took 8 seconds instead of 0.08.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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


def solvable(matrix: Tensor) -> Tensor:
    """Move a matrix to where it can be factorised: torch cannot do that on Apple's GPUs."""
    return matrix.cpu() if matrix.device.type == "mps" else matrix


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


def _joined(offsets: Sequence[Tensor]) -> Tensor:
    """Return offsets as one (samples, offsets * channels) matrix."""
    return torch.cat([offset.reshape(-1, offset.shape[-1]) for offset in offsets], dim=1)


def _add_products(total: Tensor, left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    """Add ``L^T R`` to `total`, in place, where L and R are offsets side by side."""
    rows = [offset.reshape(-1, offset.shape[-1]) for offset in left]
    columns = [offset.reshape(-1, offset.shape[-1]) for offset in right]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            height, width = row.shape[1], column.shape[1]
            total[i * height : (i + 1) * height, j * width : (j + 1) * width].addmm_(row.t(), column)


def _symmetric_product(matrix: Tensor) -> Tensor:
    """Return the lower triangle of ``M^T M``."""
    result = matrix.new_zeros(matrix.shape[1], matrix.shape[1])
    _add_symmetric_product(result, matrix)
    return result


def _add_symmetric_product(total: Tensor, matrix: Tensor) -> None:
    """Add the lower triangle of ``M^T M`` to `total`, in place.

    By halves: of four quarters only three are needed, and the two on the diagonal are symmetric again, so the work
    goes towards one half of the full product.
    """
    width = matrix.shape[1]
    if width <= _WHOLE_WIDTH:
        total.addmm_(matrix.t(), matrix)
        return
    half = width // 2
    _add_symmetric_product(total[:half, :half], matrix[:, :half])
    total[half:, :half].addmm_(matrix[:, half:].t(), matrix[:, :half])
    _add_symmetric_product(total[half:, half:], matrix[:, half:])


def _gram_of_samples(left: Tensor, right: Tensor) -> Tensor:
    """Return a matrix of the samples with the largest eigenvalue of ``A A^T`` for ``A = L^T R / n``.

    The nonzero eigenvalues of A A^T are those of ``(L L^T) (R R^T) / n^2``, and with the Cholesky factor C of
    ``R R^T`` those of the symmetric ``C^T (L L^T) C / n^2``.
    """
    samples = left.shape[0]
    outer = solvable(torch.mm(right, right.t()))
    # Signs have nearly orthogonal rows, but with as many samples as channels the smallest eigenvalue comes near
    # rounding; this moves the largest one by a millionth.
    outer.diagonal().add_(1e-6 * outer.diagonal().mean())
    factor = torch.linalg.cholesky_ex(outer).L
    inner = solvable(torch.mm(left, left.t()))
    return torch.mm(factor.t(), torch.mm(inner, factor)).div_(float(samples) ** 2)


def _krylov_gram(matrix: Tensor) -> Tensor:
    """Return a small matrix with the largest eigenvalue of ``M^T M``, found by the Lanczos method.

    M^T M is restricted to the space of v, (M^T M) v, (M^T M)^2 v, ... with a fixed random v. The result can only be
    too small; on Jacobian estimates, whose spectrum ends like that of a random matrix, by less than float32 rounding,
    and by 1e-4 on spectra made to be hard. At width 2,048 that takes a fifth of the time of ``eigvalsh``, and a
    hundredth of that of ``svdvals``.
    """
    tiny = torch.finfo(torch.float32).tiny
    scale = matrix.norm().clamp_min(tiny)
    matrix = matrix / scale  # squares of a vanishing gradient would underflow
    source = torch.Generator("cpu").manual_seed(0)
    vector = torch.randn(matrix.shape[1], generator=source, device="cpu").to(matrix.device)
    basis = matrix.new_empty(_KRYLOV_STEPS, matrix.shape[1])
    for step in range(_KRYLOV_STEPS):
        basis[step] = vector / vector.norm().clamp_min(tiny)
        vector = torch.mv(matrix.t(), torch.mv(matrix, basis[step]))
        for _ in range(2):  # once is not enough: the subtracted part is most of the vector
            vector = vector - torch.mv(basis[: step + 1].t(), torch.mv(basis[: step + 1], vector))
    directions, _ = torch.linalg.qr(basis.t())
    return _symmetric_product(torch.mm(matrix, directions) * scale)
