"""Match positions of a block's input with positions of its output.

The Jacobian estimate (Eq. 10) sums g_in(p) g_out(p)^T over positions p, so the two must have the same positions.
Where a block changes the resolution, the finer side is pixel-unshuffled by the stride, as the published code does:

    input 56 x 56, output 28 x 28    stride 2: four offsets of the input, each 28 x 28, stacked as channels
    input 14 x 14, output 28 x 28    the same with the roles exchanged (upsampling; our extension)
    input 35 x 35, output 17 x 17    stride 2 of the 34 x 34 in the middle (a convolution without padding)
    3136 tokens, output 784          a 56 x 56 grid and a 28 x 28 grid
    6 steps of 12 x 8, output 12 x 8 stride 6 over the steps
    197 tokens, output 196           no match: the block is left out
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F

__all__ = ["Matching", "match"]

Grid = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The common grid of two grids of positions.

    - `fine_in`, `fine_out`: The grids of both sides; tokens can be viewed as an image.
    - `coarse`: The common grid.
    - `strides_in`, `strides_out`: Positions of each side per position of the common grid, per axis.
    """

    fine_in: Grid
    fine_out: Grid
    coarse: Grid
    strides_in: Grid
    strides_out: Grid

    @property
    def positions(self) -> int:
        """Number of common positions of one sample."""
        return math.prod(self.coarse)

    def offsets_in(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the views of a (batch, *grid, channels) tensor of the input side, one for each offset.

        Offsets that lie behind one another in memory are one view, with the channels of all of them.
        """
        return list(_offsets(tensor, self.fine_in, self.coarse, self.strides_in))

    def offsets_out(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the same for the output side."""
        return list(_offsets(tensor, self.fine_out, self.coarse, self.strides_out))


def match(grid_in: Grid, grid_out: Grid, *, are_tokens: bool) -> Matching | None:
    """Match the positions of a block's input with those of its output.

    - `grid_in`, `grid_out`: Sizes of all axes that are neither batch nor channels; empty for a feature vector.
    - `are_tokens`: Whether single axes are sequences of tokens (channels last) rather than signals: a token more or
      less is then no border effect.

    Returns: None where no stride relates the two.
    """
    if len(grid_in) == len(grid_out) == 1 and are_tokens:
        return _match_tokens(grid_in[0], grid_out[0])
    if len(grid_in) == 1 and len(grid_out) > 1:
        grid_in = _as_image(grid_in[0], grid_out)
    elif len(grid_out) == 1 and len(grid_in) > 1:
        grid_out = _as_image(grid_out[0], grid_in)
    grid_in, grid_out = _padded(grid_in, grid_out), _padded(grid_out, grid_in)
    return _match_axes(grid_in, grid_out) if len(grid_in) == len(grid_out) else None


def _match_tokens(tokens_in: int, tokens_out: int) -> Matching | None:
    large, small = max(tokens_in, tokens_out), min(tokens_in, tokens_out)
    side_in, side_out = math.isqrt(tokens_in), math.isqrt(tokens_out)
    are_squares = side_in**2 == tokens_in and side_out**2 == tokens_out
    if are_squares and max(side_in, side_out) % min(side_in, side_out) == 0:
        return _match_axes((side_in, side_in), (side_out, side_out))
    return _match_axes((tokens_in,), (tokens_out,)) if large % small == 0 else None


def _as_image(tokens: int, image: Grid) -> Grid:
    """View tokens as a grid of the proportions of `image`; the tokens themselves where that is not possible."""
    total = math.prod(image)
    power = 1.0 / len(image)
    coarser, finer = round((total / tokens) ** power), round((tokens / total) ** power)
    if coarser and total == tokens * coarser ** len(image) and all(size % coarser == 0 for size in image):
        return tuple(size // coarser for size in image)
    if finer and tokens == total * finer ** len(image):
        return tuple(size * finer for size in image)
    return (tokens,)


def _padded(grid: Grid, other: Grid) -> Grid:
    """Return a grid with axes of size 1 where only the other has some: steps of a sequence, directions of a layer."""
    missing = max(len(other) - len(grid), 0)
    if missing and other[missing:] == grid:
        return (1,) * missing + grid
    return grid + (1,) * missing if missing and other[: len(grid)] == grid else grid


def _match_axes(grid_in: Grid, grid_out: Grid) -> Matching:
    coarse = tuple(min(pair) for pair in zip(grid_in, grid_out, strict=True))
    return Matching(
        fine_in=grid_in,
        fine_out=grid_out,
        coarse=coarse,
        strides_in=tuple(map(_stride, grid_in, coarse)),
        strides_out=tuple(map(_stride, grid_out, coarse)),
    )


def _stride(fine: int, coarse: int) -> int:
    """Return the integer stride that leaves the fewest positions over; the smaller one of two equally good.

    The published code truncates ``fine / coarse``, which is the same wherever the division is exact; where it is
    not, that code fails.
    """
    down, up = fine // coarse, fine // coarse + 1
    return down if fine - down * coarse <= up * coarse - fine else up


def _offsets(tensor: torch.Tensor, fine: Grid, coarse: Grid, strides: Grid) -> Iterator[torch.Tensor]:
    batch, channels = tensor.shape[0], tensor.shape[-1]
    tensor = tensor.reshape(batch, *fine, channels)
    tensor = _fit(tensor, tuple(size * stride for size, stride in zip(coarse, strides, strict=True)))
    if strides and strides[-1] > 1 and tensor.stride()[-2:] == (channels, 1):
        tensor = tensor.reshape(*tensor.shape[:-2], coarse[-1], strides[-1] * channels)
        strides = (*strides[:-1], 1)
    for offset in product(*map(range, strides)):
        steps = (slice(start, None, stride) for start, stride in zip(offset, strides, strict=True))
        index = (slice(None), *steps)
        yield tensor[index]


def _fit(tensor: torch.Tensor, wanted: Grid) -> torch.Tensor:
    """Cut each axis evenly, or pad it with zeros at its end, to the size that the stride needs."""
    pads = [max(want - have, 0) for want, have in zip(wanted, tensor.shape[1:-1], strict=True)]
    if any(pads):
        tensor = F.pad(tensor, [0, 0, *(size for pad in reversed(pads) for size in (0, pad))])
    for axis, want in enumerate(wanted, start=1):
        tensor = tensor.narrow(axis, (tensor.shape[axis] - want) // 2, want)
    return tensor
