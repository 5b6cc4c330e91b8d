from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.proxies.engine.positions import match


def strides(grid_in, grid_out, *, are_tokens: bool = False):
    found = match(grid_in, grid_out, are_tokens=are_tokens)
    return None if found is None else (found.strides_in, found.strides_out, found.coarse)


@pytest.mark.parametrize(
    ("grid_in", "grid_out", "expected"),
    [
        ((56, 56), (56, 56), ((1, 1), (1, 1), (56, 56))),
        ((56, 56), (28, 28), ((2, 2), (1, 1), (28, 28))),
        ((56, 28), (28, 28), ((2, 1), (1, 1), (28, 28))),
        ((7, 7), (4, 4), ((2, 2), (1, 1), (4, 4))),  # padded: 8 = 2 x 4
        ((35, 35), (17, 17), ((2, 2), (1, 1), (17, 17))),  # no padding in the network
        ((149, 149), (147, 147), ((1, 1), (1, 1), (147, 147))),
        ((12, 12), (8, 8), ((1, 1), (1, 1), (8, 8))),  # 5x5 without padding
        ((14, 14), (28, 28), ((1, 1), (2, 2), (14, 14))),
        ((7, 7), (), ((7, 7), (1, 1), (1, 1))),
        ((), (), ((), (), ())),
        ((1000,), (500,), ((2,), (1,), (500,))),
        ((4, 8, 8), (2, 4, 4), ((2, 2, 2), (1, 1, 1), (2, 4, 4))),
        ((6, 12, 8), (12, 8), ((6, 1, 1), (1, 1, 1), (1, 12, 8))),  # the last of six maps
        ((20, 2), (20,), ((1, 2), (1, 1), (20, 1))),  # both directions of a recurrent layer
        ((6, 12, 8), (9, 8), None),
    ],
)
def test_images_and_signals(grid_in, grid_out, expected):
    assert strides(grid_in, grid_out) == expected


@pytest.mark.parametrize(
    ("tokens_in", "tokens_out", "expected"),
    [
        (197, 197, ((1,), (1,), (197,))),
        (3136, 784, ((2, 2), (1, 1), (28, 28))),
        (784, 3136, ((1, 1), (2, 2), (28, 28))),
        (100, 50, ((2,), (1,), (50,))),
        (197, 196, None),
        (197, 50, None),
    ],
)
def test_tokens(tokens_in, tokens_out, expected):
    assert strides((tokens_in,), (tokens_out,), are_tokens=True) == expected


@pytest.mark.parametrize(
    ("grid_in", "grid_out", "expected"),
    [
        ((14, 14), (196,), ((1, 1), (1, 1), (14, 14))),
        ((14, 28), (98,), ((2, 2), (1, 1), (7, 14))),
        ((196,), (14, 14), ((1, 1), (1, 1), (14, 14))),
        ((14, 14), (784,), ((1, 1), (2, 2), (14, 14))),
        ((14, 14), (197,), None),
        ((4, 4, 4), (8, 8), None),
    ],
)
def test_images_beside_tokens(grid_in, grid_out, expected):
    assert strides(grid_in, grid_out) == expected


def test_offsets_are_the_channels_of_pixel_unshuffle():
    x = torch.randn(2, 3, 8, 6)
    found = match((8, 6), (4, 3), are_tokens=False)
    offsets = torch.stack(found.offsets_in(x.movedim(1, -1)), dim=-1)  # batch, h, w, channel, offset
    expected = F.pixel_unshuffle(x, 2).unflatten(1, (3, 4)).permute(0, 3, 4, 1, 2)
    assert torch.equal(offsets, expected)


def test_positions_left_over_are_cut_evenly():
    x = torch.arange(12.0).reshape(1, 12, 1)
    (offset,) = match((12,), (8,), are_tokens=False).offsets_in(x)
    assert offset.flatten().tolist() == list(range(2, 10))


def test_positions_missing_are_zeros_at_the_end():
    x = torch.arange(1.0, 8.0).reshape(1, 7, 1)
    (both,) = match((7,), (4,), are_tokens=False).offsets_in(x)
    assert both.tolist() == [[[1, 2], [3, 4], [5, 6], [7, 0]]]


@pytest.mark.parametrize("size", [8, 7, 9])
def test_offsets_that_lie_behind_one_another_are_one_view(size):
    x = torch.randn(2, size, size, 3)
    found = match((size, size), (4, 4), are_tokens=False)
    upper, lower = found.offsets_in(x)
    assert upper.shape == lower.shape == (2, 4, 4, 6)
    apart = found.offsets_in(x.movedim(-1, 1).contiguous().movedim(1, -1))
    assert torch.equal(torch.cat([upper, lower], dim=-1), torch.cat(apart, dim=-1))
