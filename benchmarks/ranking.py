"""Time of ranking a growing history per iteration of a search: updated, or from scratch.

    python benchmarks/ranking.py [--candidates 100000] [--top-k 1024]

An iteration adds one candidate and picks the top-k to mutate from. Both ways give Eq. 12 over the whole history, which
is checked at the end. Exits with 1 where keeping it up to date takes more than the limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aznas_onnx.ranking import aggregate
from aznas_onnx.searching import Leaderboard

PROXIES = 4
REPEATS = 50
LIMIT_MS = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--top-k", type=int, default=1024)
    arguments = parser.parse_args()
    print(f"{'history':>9} {'kept':>10} {'again':>10}   median milliseconds per iteration, k = {arguments.top_k:,}")
    for size in (arguments.candidates // 100, arguments.candidates // 10, arguments.candidates):
        kept, again = compare(size, arguments.top_k)
        print(f"{size:>9,} {kept:>10.3f} {again:>10.3f}")
    return int(kept > LIMIT_MS)


def compare(size: int, k: int) -> tuple[float, float]:
    """Return median milliseconds per iteration of both ways, at a history of `size` candidates."""
    rng = np.random.default_rng(0)
    history = rng.normal(size=(size + REPEATS, PROXIES))
    history[rng.random(history.shape) < 0.02] = -np.inf  # as some candidates of nb201 have it
    board = Leaderboard(PROXIES)
    board.extend(history[:size])
    kept = median_ms(lambda turn: step(board, history[size + turn], k), REPEATS)
    again = median_ms(lambda turn: rank_again(history[: size + turn + 1], k), 5)
    np.testing.assert_allclose(board.az_scores(), aggregate(history), rtol=0, atol=1e-12)
    assert sorted(rank_again(history, k).tolist()) == board.top(k).tolist()
    return kept, again


def step(board: Leaderboard, row: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.intp]:
    board.add(row)
    return board.top(k)


def rank_again(history: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.intp]:
    return np.argsort(-aggregate(history), kind="stable")[:k]


def median_ms(run: Callable[[int], object], repeats: int) -> float:
    seconds = []
    for turn in range(repeats):
        start = time.perf_counter()
        run(turn)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))


if __name__ == "__main__":
    sys.exit(main())
