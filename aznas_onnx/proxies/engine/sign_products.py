"""Products of gradients and signs in integers, four times as fast as in float32 where a CPU multiplies bytes (VNNI).

A gradient becomes two bytes, ``256 h + l`` units of 1/32,639 of the largest of its piece, and a sign one. Their
products are summed exactly. What is left is the rounding of the gradients: independent from sample to sample, of at
most ``32 * 0.29 / 32,639 = 3e-4`` of their root mean square. An estimate of c x c elements from n samples has noise of
their whole root mean square already, so its spectral norm changes by about ``3e-4 / sqrt(c)`` of itself at most.
"""

from __future__ import annotations

import math

import torch

from aznas_onnx.caches import cached
from aznas_onnx.convert.onednn import has_onednn

__all__ = ["add_sign_product", "multiplies_bytes", "products_of_signs", "rounded", "unit_of"]

Tensor = torch.Tensor
_MOST_UNITS = 32_639  # 127 * 256 + 127
_LARGEST_PEAK = 32.0  # over the root mean square
_CHUNK_ELEMENTS = 2**18  # in the cache of a core
_MOST_SAMPLES = 2**16  # in the sums of one product: 2^16 * 2^15 units fit


@cached(1, "one processor a process")
def multiplies_bytes() -> bool:
    """Whether torch multiplies bytes on this CPU, and the CPU has the instructions for that."""
    has_instructions = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return hasattr(torch, "_int_mm") and has_onednn() and bool(has_instructions())


def unit_of(gradients: Tensor) -> float | None:
    """Return the unit that gradients are rounded to; None where that is too large."""
    peak = float(torch.stack(torch.aminmax(gradients)).abs().max())
    mean = float(torch.linalg.vector_norm(gradients)) / math.sqrt(gradients.numel())
    return peak / _MOST_UNITS if 0.0 < peak <= _LARGEST_PEAK * mean < math.inf else None


def rounded(gradients: Tensor, unit: float) -> Tensor:
    """Return gradients of the shape (..., channels) in units, as bytes: (samples, 2 * channels), the lower first."""
    words = torch.empty(gradients.shape, dtype=torch.int16, device="cpu")
    half = torch.tensor(128.0, device="cpu")
    size = max(1, _CHUNK_ELEMENTS // gradients[0].numel())
    for chunk, word in zip(torch.split(gradients, size), torch.split(words, size), strict=True):
        word.copy_(torch.add(half, chunk, alpha=1.0 / unit).round_())
    # 128 more make the lower byte start at zero; flipping its highest bit then makes it a signed number.
    return words.bitwise_xor_(128).view(-1, words.shape[-1]).view(torch.int8)


def add_sign_product(total: Tensor, octets: Tensor, signs: Tensor, unit: float) -> None:
    """Add ``G^T S`` to `total`, in place.

    - `octets`: The gradients G in units.
    - `signs`: S as int8, (samples, channels).
    """
    for start in range(0, len(signs), _MOST_SAMPLES):
        end = start + _MOST_SAMPLES
        products = torch._int_mm(octets[start:end].t(), signs[start:end])
        lower, upper = products.view(-1, 2, signs.shape[1]).unbind(1)
        total.add_(upper.mul_(256).add_(lower), alpha=unit)


def products_of_signs(signs: Tensor) -> Tensor:
    """Return ``S S^T`` for signs S in float32."""
    octets = signs.to(torch.int8)
    return torch._int_mm(octets, octets.t()).float()
