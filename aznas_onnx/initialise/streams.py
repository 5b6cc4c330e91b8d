"""Random streams: one generator for each weight, input and output gradient, derived from one seed.

Each tensor has its own stream, so that its numbers depend on the seed and on its place in the graph alone, not on the
order of sampling. The pass can therefore sample weights block by block with the same result.
"""

from __future__ import annotations

import enum

import numpy as np
import torch

from aznas_onnx.caches import cached

__all__ = ["Stream", "generator", "rademacher"]


class Stream(enum.IntEnum):
    """The purpose of a random tensor."""

    WEIGHT = 0
    INPUT = 1
    RADEMACHER = 2
    LABEL = 3  # random classes, for proxies that need a loss
    POSITION = 4  # which rows of a matrix a proxy looks at
    DIRECTION = 5  # random directions in the space of the outputs


def generator(seed: int, stream: Stream, index: int, device: torch.device) -> torch.Generator:
    """Return a fresh generator for tensor number `index` of a stream.

    The same seed gives the same numbers on the same kind of device; CPU and CUDA have different generators.
    """
    return torch.Generator(device).manual_seed(_state(seed, int(stream), index))


@cached(2**16, "a search needs the same seeds for every candidate")
def _state(seed: int, stream: int, index: int) -> int:
    """Mix a seed with a tensor's place; a search needs the same ones for every candidate."""
    return int(np.random.SeedSequence((seed, stream, index)).generate_state(1, np.uint64)[0])


def rademacher(shape: tuple[int, ...], device: torch.device, source: torch.Generator) -> torch.Tensor:
    """Sample a float32 tensor whose elements are -1 or 1 with equal probability.

    Eight elements come from one random byte by a table of all bytes: on a CPU a third of the time of sampling each
    element as an integer, and a fifth of ``bernoulli_``.
    """
    count = 1
    for size in shape:
        count *= size
    words = torch.empty((count + 63) // 64, dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=source)
    octets = words.view(torch.uint8).to(torch.int32)
    return _signs_of_bytes(device).index_select(0, octets).view(-1)[:count].view(shape)


@cached(8, "one table a device")
def _signs_of_bytes(device: torch.device) -> torch.Tensor:
    """Return the (256, 8) table of the bits of each byte as -1 and 1."""
    octets = np.arange(256, dtype=np.uint8)[:, None]
    return torch.from_numpy(np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1).to(device)
