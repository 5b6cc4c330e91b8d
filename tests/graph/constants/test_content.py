"""Tables that follow a formula, and numbers that follow none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from aznas_onnx.caches import CACHES
from aznas_onnx.graph import Constant
from aznas_onnx.graph.constants.content import Content, content, content_of, is_mask, varying
from tests.graph.builders import weights

POSITIONS = np.arange(40)[:, None]
FREQUENCIES = 10_000.0 ** (-np.arange(16) / 16)


def sinusoids(positions: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.sin(positions * FREQUENCIES), np.cos(positions * FREQUENCIES)], axis=1)


def anchors(sizes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Centres of the cells of several grids, in cells, as YOLO adds them."""
    xs = [np.tile(np.arange(size) + 0.5, size) for size in sizes]
    ys = [np.repeat(np.arange(size) + 0.5, size) for size in sizes]
    return np.stack([np.concatenate(xs), np.concatenate(ys)])[None]


def in_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def boxes(size: int) -> npt.NDArray[np.float64]:
    """Corners of nine boxes around each cell of a grid, as RetinaNet has them."""
    around = np.array([[-a * b, -a / b, a * b, a / b] for a in (22.6, 32.0, 40.3) for b in (0.7, 1.0, 1.4)])
    steps = 8 * np.arange(size)
    cells = np.stack([np.tile(steps, size), np.repeat(steps, size)] * 2, axis=1)
    return (cells[:, None] + around).reshape(-1, 4)


ROWS, COLUMNS = np.repeat(np.arange(14), 14)[:, None], np.tile(np.arange(14), 14)[:, None]
STEPS = np.arange(64)
HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
FORMULAS = {
    "positions": sinusoids(POSITIONS),
    "few positions": sinusoids(POSITIONS[:6]),
    "positions of a later window": sinusoids(POSITIONS + 300),
    "positions of an image": np.concatenate([sinusoids(ROWS), sinusoids(COLUMNS)], axis=1)[None],
    "rotary factors": np.concatenate([np.cos(POSITIONS * FREQUENCIES)] * 2, axis=1)[None, None],
    "rotary frequencies": FREQUENCIES,
    "frequencies, each twice": np.repeat(FREQUENCIES, 2),
    "cosine transform": np.cos(np.pi / 64 * (STEPS + 0.5) * STEPS[:, None]),
    "Fourier transform": np.sin(2 * np.pi * np.outer(STEPS, STEPS) / 64),
    "window": HANN,
    "windowed Fourier transform": (HANN * np.cos(2 * np.pi * np.outer(np.arange(33), np.arange(256)) / 256))[:, None],
    "identity": np.eye(3),
    "flat identity": np.eye(3).reshape(1, 9),
    "one-hot": np.eye(7)[[0, 3, 6, 1]],
    "average": np.kron(np.eye(4), np.full((8, 8), 1 / 8)),
    "mel filters": np.maximum(0, 1 - 0.7 * np.abs(np.arange(40)[:, None] / 2 - np.arange(20))),
    "slopes of ALiBi": 0.5 ** np.arange(1, 9).reshape(8, 1, 1),
    "ALiBi": -(0.5 ** np.arange(1, 9).reshape(8, 1, 1)) * np.abs(np.arange(20) - np.arange(20)[:, None]),
    "centres": anchors((8, 4, 2)),
    "centres of a large image": anchors((80, 40, 20)),
    "strides": np.repeat([8.0, 16.0, 32.0], [64, 16, 4])[None],
    "two strides": np.array([8.0, 16.0]),
    "boxes": boxes(8),
    "boxes of a small image": boxes(3),
    "normalised grid": np.concatenate([ROWS + 0.5, COLUMNS + 0.5], axis=1) / 14,
    "logits of a grid": np.log((COLUMNS + 0.5) / (13.5 - COLUMNS)),
    "bins": np.arange(16.0).reshape(1, 16, 1, 1),
    "Sobel": np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "causal mask": np.triu(np.full((9, 9), -np.inf), 1),
    "tiled positions": np.broadcast_to(sinusoids(POSITIONS), (3, 40, 32)),
}
FREE = {
    "matrix": weights(32, 16),
    "small matrix": weights(3, 3),
    "short vector": weights(4),
    "vector": weights(64),
    "decay": -np.exp(weights(32, 12) * 0.2),
    "wide range": -np.exp(8 * weights(32)),
    "kernels": weights(16, 1, 7, 7),
    "two heads": weights(2, 9, 9),
    "table, repeated for each sample": np.broadcast_to(weights(1, 9, 8), (4, 9, 8)),
    "half precision": weights(64, 16).astype(np.float16),
    "two classes in bfloat16": in_bfloat16(0.01 * weights(25_088, 2)),
    "scales in half precision": (1 + 0.05 * weights(4096)).astype(np.float16),
    "scales in bfloat16": in_bfloat16(1 + 0.05 * weights(4096)),
    "pruned": weights(32, 32) * (weights(32, 32, seed=1) > 0.6),
    "random walk": np.cumsum(weights(16, 8), axis=0),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_table_that_somebody_computed_follows_a_formula(name: str) -> None:
    assert content(FORMULAS[name].astype(np.float32)) is Content.FORMULA


@pytest.mark.parametrize("name", FREE)
def test_trained_numbers_follow_none(name: str) -> None:
    assert content(FREE[name].astype(np.float32)) is Content.FREE


def test_no_random_numbers_are_taken_for_a_formula() -> None:
    shapes = [(4,), (6,), (8,), (3, 3), (4, 4), (5, 2), (8, 4), (2, 16), (16, 2), (4, 1, 3, 3)]
    found = [content(weights(*shapes[seed % 10], seed=seed)) for seed in range(2000)]
    assert found.count(Content.FREE) == 2000


def test_one_value_says_nothing_and_neither_does_none() -> None:
    assert content(np.zeros((4, 4), np.float32)) is Content.UNIFORM
    assert content(np.full(3, 0.1, np.float32)) is Content.UNIFORM
    assert content(None) is Content.UNKNOWN


def test_repeated_numbers_are_no_formula_where_pairs_are_looked_up() -> None:
    table = weights(2, 9)[:, np.arange(256).reshape(16, 16) % 9]
    assert content(table) is Content.FORMULA
    assert content(table, repeats=False) is Content.FREE


def test_a_constant_is_judged_once_for_each_question_as_long_as_it_lives() -> None:
    reads = []

    def read() -> npt.NDArray[np.float32]:
        reads.append(1)
        return np.tile(weights(16), 16)

    constant = Constant(shape=(256,), dtype=np.dtype(np.float32), read=read)
    assert [content_of(constant, repeats=repeats) for repeats in (True, False, True)] == [
        Content.FORMULA,
        Content.FREE,
        Content.FORMULA,
    ]
    assert len(reads) == 2
    (cache,) = (cache for name, cache in CACHES.items() if name.endswith("content._known"))
    before = cache.size()
    del constant
    assert cache.size() == before - 1


def test_masks() -> None:
    assert is_mask(np.array([0.0, -np.inf, 0.0], np.float32))
    assert is_mask(np.where(np.eye(8) > 0, 0, -100.0).astype(np.float32))
    assert not is_mask(weights(1, 4, 8, 8))


def test_what_an_exporter_expanded_varies_along_what_it_was() -> None:
    assert varying(np.broadcast_to(weights(1, 5, 3), (4, 5, 3))).shape == (1, 5, 3)
    assert varying(weights(4, 5)).shape == (4, 5)
    assert Constant.of(varying(np.zeros((4, 5)))).elements == 1
