"""The harness of benchmarks/search_regret.py, on pools whose outcome can be worked out."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import Record, read_scores
from aznas_onnx.results import ProxyValue
from aznas_onnx.spaces import GenotypeError, get
from benchmarks.closed_pool import ClosedPool, with_insertions
from benchmarks.search_regret import MeasuredPool, expected_best, largest, main, ranked, row, searched, worth

ACCURACIES = np.array([90.0, 91.0, 91.0, 93.5, 94.0, 99.0])


def pool_of(space: str, archs: Sequence[str]) -> ClosedPool:
    return ClosedPool(get(space), archs)


def neighbours(pool: ClosedPool, text: str, changes: int) -> list[str]:
    rng = np.random.default_rng(0)
    return sorted({pool.format(pool.mutate(pool.parse(text), rng, changes)) for _ in range(200)})


def test_a_mutation_gives_the_members_that_its_changes_can_make() -> None:
    pool = pool_of("nb-macro", ["00000000", "00000001", "00000010", "00000022", "00022222"])
    assert neighbours(pool, "00000000", 1) == ["00000001", "00000010"]
    assert neighbours(pool, "00000000", 2) == ["00000001", "00000010", "00000022"]
    assert neighbours(pool, "00022222", 2) == ["00000022"]  # three changes away: none is nearer
    assert neighbours(pool, "00022222", 5) == ["00000000", "00000001", "00000010", "00000022"]


def test_samples_and_the_start_are_members() -> None:
    members = ["8:8:8:8:8", "64:64:64:64:64", "8:16:32:48:64"]
    pool = pool_of("nats-sss", members)
    rng = np.random.default_rng(0)
    assert {pool.format(pool.sample(rng)) for _ in range(50)} == set(members)
    assert pool.format(pool.start(rng)) in members
    with pytest.raises(GenotypeError, match="'8:8:8:8:16' is not in the pool"):
        pool.parse("8:8:8:8:16")
    assert pool.params(pool.parse("8:8:8:8:8")) == 11_714


def test_transnas_macro_counts_insertions() -> None:
    assert with_insertions((1, 2, 3), (1, 3)) == with_insertions((1, 3), (1, 2, 3)) == 1
    assert with_insertions((1, 2, 3, 4), (2, 3, 4, 1)) == 2
    assert with_insertions((), (1, 2)) == 2
    pool = pool_of("transnas-macro", ["64-4311-basic", "64-43111-basic", "64-431111-basic"])
    assert neighbours(pool, "64-4311-basic", 1) == ["64-43111-basic"]


def test_what_is_no_pool_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"changes are counted in nb201, .*; not in mbv2"):
        pool_of("mbv2", ["x", "y"])
    with pytest.raises(SettingsError, match="a pool of 1 is too small"):
        pool_of("nats-sss", ["8:8:8:8:8"])


@pytest.mark.parametrize("trained", range(1, 7))
def test_the_expected_best_is_the_mean_over_all_choices(trained: int) -> None:
    every = [max(chosen) for chosen in itertools.combinations(ACCURACIES, trained)]
    assert expected_best(ACCURACIES[::-1], trained) == pytest.approx(np.mean(every), rel=1e-12)


def test_worth_is_the_number_of_trainings_that_reach_as_much() -> None:
    for trained in range(1, 7):
        reached = expected_best(ACCURACIES, trained)
        assert worth(ACCURACIES, reached - 1e-7) == trained
        assert worth(ACCURACIES, reached + 1e-6) == min(trained + 1, 6)
    assert worth(ACCURACIES, 0.0) == 1


def measured_pool(n: int = 15) -> MeasuredPool:
    """Networks whose accuracy is their expressivity, and whose MACs say the opposite."""
    space = get("nats-sss")
    rng = np.random.default_rng(0)
    archs = sorted({space.format(space.sample(rng)) for _ in range(n)})
    records, accuracies = {}, []
    for arch in archs:
        total = sum(map(int, arch.split(":")))
        proxies = {"expressivity": ProxyValue(mean=float(total)), "macs": ProxyValue(mean=0.0)}
        records[arch] = Record(arch=arch, proxies=proxies, macs=-total, params=total // 100)
        accuracies.append([total, -total])
    return MeasuredPool(
        ClosedPool(space, archs), tuple(archs), records, ("up", "down"), np.array(accuracies, dtype=np.float64)
    )


def test_a_search_that_scores_everything_finds_what_the_ranking_finds() -> None:
    pool = measured_pool()
    best = ranked(pool, "expressivity", 0, pool.archs)
    assert sorted(pool.of(best.archs)[:, 0]) == sorted(pool.accuracies[:, 0])[-10:]
    every = searched(pool, "expressivity", 10_000, seed=0)
    assert set(every.scored) == set(best.scored) == set(pool.archs)
    assert pool.of(every.archs[:1]).tolist() == pool.of(best.archs[:1]).tolist()
    some = searched(pool, "expressivity", 8, seed=1)
    assert some == searched(pool, "expressivity", 8, seed=1)
    assert len(set(some.scored)) == 8
    assert set(ranked(pool, "expressivity", 1, some.scored).archs) == set(some.archs)


def test_a_row_has_means_regret_and_worth() -> None:
    pool = measured_pool()
    found = row(pool, "whole", [ranked(pool, "expressivity", seed, pool.archs) for seed in range(2)])
    optimum = pool.accuracies.max(axis=0)
    assert found["winner"][0] == found["best_of_top"][0] == optimum[0]
    assert found["regret"][0] == 0
    assert found["winner"][1] == -found["winner"][0]  # the smallest of the other column
    assert found["best_of_top"][1] > found["winner"][1]
    assert found["worth"][0] > 0.5 * len(pool.archs)
    assert found["worth"][1] == 1
    assert found["worth_of_top"][1] > 1


def test_the_largest_come_first_and_equal_ones_at_random() -> None:
    pool = measured_pool()
    assert pool.of(largest(pool, "macs", 0).archs)[:, 0].tolist() == sorted(pool.accuracies[:, 0])[:10]
    winners = {largest(pool, "params", seed).archs[0] for seed in range(30)}
    assert len(winners) > 1
    assert {pool.records[arch].params for arch in winners} == {max(one.params for one in pool.records.values())}


def test_a_run_scores_what_the_file_lacks_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, scores, output = tmp_path / "truth.csv", tmp_path / "scores.jsonl", tmp_path / "found.json"
    rows = ["00000000,80", "01000000,81", "00010000,82", "00001000,82", "20000000,90", "10000002,"]
    truth.write_text("\n".join(["arch,acc", *rows]))

    def run(pool: int) -> dict[str, Any]:
        command = f"search_regret nb-macro --truth {truth} --scores {scores} --pool {pool} --seeds 1 --trainings 1 3 9"
        monkeypatch.setattr(sys, "argv", [*command.split(), "-o", str(output), "--ensembles", "macs", "params+macs"])
        assert main() == 0
        found: dict[str, Any] = json.loads(output.read_text())
        return found

    assert run(3)["pool"] == len(read_scores(scores).records) == 3
    lines = scores.read_text()
    found = run(9)
    assert scores.read_text().startswith(lines)
    assert found["pool"] == len(read_scores(scores).records) == 4  # two are one network, one was not measured
    assert found["optimum"] == [90]
    by_way = {one["way"]: one for one in found["rows"]}
    assert by_way["most MACs"]["winner"] == by_way["whole pool by `macs`"]["winner"] == [90]
    assert by_way["search by `macs`"]["regret"] == [0]  # it scores all four
    assert by_way["random search, 1 trained"]["winner"] == [pytest.approx((80 + 81 + 82 + 90) / 4)]
    assert "random search, 9 trained" not in by_way
    shown = capsys.readouterr().out
    assert "acc; the best of 4 networks: 90.00\n\n| Chosen by | Winner | Worst of 1 | Best of top 10 |" in shown
    assert "| search by `macs` | 90.00 | 90.00 | 90.00 | 0.00 | 0.00 | 4 | 4 |" in shown
    monkeypatch.setattr(sys, "argv", f"search_regret nb-macro --truth {truth} --scores {scores}".split())
    with pytest.raises(SettingsError, match=r"has no expressivity, .*; name another file to score anew"):
        main()
