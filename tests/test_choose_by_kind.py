from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from aznas_onnx.ranking import Aggregation, CohortKind
from benchmarks.choose_by_kind import BROAD, CANDIDATES, Benchmark, Choice, choose, without

FOUR = np.arange(4.0)


def benchmark(name: str, kind: CohortKind, shares: Mapping[str, np.ndarray], accuracies: np.ndarray) -> Benchmark:
    """Return a benchmark of networks that are equal in all but some candidates."""
    values = np.zeros((len(accuracies), len(CANDIDATES)), dtype=np.float32)
    for proxy, column in shares.items():
        values[:, CANDIDATES.index(proxy)] = column
    first, second = np.triu_indices(len(accuracies), 1)
    gaps = values[first] - values[second]
    return Benchmark(
        name=name,
        kind=kind,
        differences={Aggregation.LINEAR: gaps, Aggregation.LOG_RANK: gaps},
        order=np.sign(accuracies[first] - accuracies[second])[:, None].astype(np.float32),
    )


def of(**weights: int) -> np.ndarray:
    return np.array([[weights.get(name, 0) for name in CANDIDATES]])


def test_tau_is_that_of_scipy() -> None:
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    columns = {"macs": rng.integers(0, 5, 30).astype(float), "depth": rng.integers(0, 5, 30).astype(float)}
    accuracies = rng.integers(0, 9, 30).astype(float)
    one = benchmark("a", CohortKind.WIDTHS, columns, accuracies)
    expected = kendalltau(columns["macs"] + 2 * columns["depth"], accuracies).statistic
    assert one.tau(of(macs=1, depth=2), Aggregation.LINEAR)[0, 0] == pytest.approx(expected, abs=1e-6)
    assert one.tau(of(layers=1), Aggregation.LINEAR)[0, 0] == 0


def test_what_misleads_counts_less_and_what_varies_nowhere_nothing() -> None:
    one = benchmark("a", CohortKind.WIDTHS, {"macs": -FOUR, "expressivity": FOUR}, FOUR)
    found = choose([one], CohortKind.WIDTHS)
    assert one.tau(found.weights[None], found.aggregation)[0, 0] == 1
    chosen = {name for name, weight in zip(CANDIDATES, found.weights, strict=True) if weight}
    assert chosen <= {"macs", "expressivity"}


def test_a_kind_without_benchmarks_has_the_broad_set() -> None:
    micro = benchmark("transnas-micro", CohortKind.EDGES, {"macs": FOUR}, FOUR)
    macro = benchmark("transnas-macro", CohortKind.RESOLUTIONS, {"macs": -FOUR}, FOUR)
    found = without([micro, macro], micro)
    assert {name for name, weight in zip(CANDIDATES, found.weights, strict=True) if weight} == set(BROAD)


def test_the_shipped_groups_can_be_read_as_choices() -> None:
    for kind in CohortKind:
        assert Choice.of(kind.group).weights.sum() > 0
