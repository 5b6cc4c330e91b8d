"""Second moments of features and gradients, and what their spectra say. The arithmetic of Eq. 1-3 and 10.

Feature maps come as (batch, *positions, channels), whatever their memory order; a map that is stored so is never
copied. Sums run over pieces of the batch that fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from aznas_onnx.proxies.positions import Matching

__all__ = ["covariance", "entropies", "jacobian_gram", "spectral_norms", "spectra"]

Tensor = torch.Tensor
_ENTROPY_OFFSET = 1e-8  # of the published code
_PIECE_ELEMENTS = {"cpu": 2**20}
_LARGE_PIECE_ELEMENTS = 2**26
_HALVED_WIDTH = 256  # a symmetric product of wider matrices is split, which saves up to half of it


def covariance(features: Tensor) -> Tensor:
    """Return a symmetric matrix that has the nonzero eigenvalues of the covariance of features (Eq. 1-2).

    The covariance is divided by the number of samples n, as in the published code, not by n - 1.

    Parameters
    ----------
    features
        (batch, *positions, channels), float32.

    Returns
    -------
    Tensor
        (channels, channels), or (n, n) where there are fewer samples than channels. Only the lower triangle is
        meant.
    """
    channels = features.shape[-1]
    samples = features.numel() // channels
    mean = features.mean(dim=tuple(range(features.dim() - 1)))
    if samples < channels:
        centred = (features - mean).reshape(samples, channels)
        return _lower_product(centred.t() * samples**-0.5)
    result = features.new_zeros(channels, channels)
    for piece in _pieces(features):
        _add_lower_product(result, (piece - mean).reshape(-1, channels))
    return result.div_(samples)


def jacobian_gram(g_in: Tensor, g_out: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """Return a symmetric matrix whose largest eigenvalue is the squared spectral norm of A (Eq. 10).

    Parameters
    ----------
    g_in, g_out
        (batch, *positions, channels): Rademacher signs, and their product with the block's Jacobian.
    matching
        Of the positions of the two.

    Returns
    -------
    gram
        A^T A or A A^T, whichever is smaller; where there are fewer samples than channels, a matrix of the samples.
        Only the lower triangle is meant.
    is_identity
        0-d bool tensor: whether the two are equal.
    """
    samples = g_out.shape[0] * matching.positions
    is_identity = torch.tensor(g_in.shape == g_out.shape, device=g_in.device)
    width_in = g_in.shape[-1] * _product(matching.strides_in)
    width_out = g_out.shape[-1] * _product(matching.strides_out)
    if samples < min(width_in, width_out):
        if g_in.shape == g_out.shape:
            is_identity = (g_in == g_out).all()
        return _gram_of_samples(_unshuffled(matching.offsets_in(g_in)), _unshuffled(matching.offsets_out(g_out))), is_identity
    jacobian = g_in.new_zeros(width_in, width_out)
    for piece_in, piece_out in zip(*map(_pieces, (g_in, g_out)), strict=True):
        if piece_in.shape == piece_out.shape:
            is_identity = is_identity & (piece_in == piece_out).all()
        _add_cross_product(jacobian, matching.offsets_in(piece_in), matching.offsets_out(piece_out))
    jacobian.div_(samples)
    return _lower_product(jacobian if width_in >= width_out else jacobian.t()), is_identity
