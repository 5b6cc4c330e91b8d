"""Random images with the statistics of photographs."""

from __future__ import annotations

import torch

__all__ = ["natural_images"]

Tensor = torch.Tensor
_SHARED, _OWN = 1.5, 0.5  # of a channel: the mean of all, and its own field
_MOST_COLOURS = 4


def natural_images(noise: Tensor) -> Tensor:
    """Return images of standard normal numbers (samples, three further axes), the channels on the first or last.

    Each channel is a Gaussian field whose amplitude falls with the frequency f as 1/f, as in photographs; the constant
    part has the amplitude of the lowest frequency. Channels are mixed (nearly grey), and the batch is scaled to unit
    deviation.
    """
    is_channels_last = noise.shape[3] <= _MOST_COLOURS < noise.shape[1]
    maps = noise.movedim(3, 1) if is_channels_last else noise
    height, width = maps.shape[2:]
    frequency = torch.hypot(*torch.meshgrid(_frequencies(height, noise), _frequencies(width, noise), indexing="ij"))
    fields: Tensor = torch.fft.ifft2(torch.fft.fft2(maps) / frequency.clamp_min(1.0 / max(height, width))).real
    images = _SHARED * fields.mean(dim=1, keepdim=True) + _OWN * fields
    images = images / images.std()
    return images.movedim(1, 3) if is_channels_last else images


def _frequencies(size: int, like: Tensor) -> Tensor:
    found: Tensor = torch.fft.fftfreq(size, device=like.device, dtype=like.dtype)
    return found
