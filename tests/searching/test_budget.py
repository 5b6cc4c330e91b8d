from __future__ import annotations

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.searching.budget import Budget, Limit


def test_both_ends_are_admitted() -> None:
    limit = Limit(4, 6)
    assert [limit.admits(value) for value in (3, 4, 5, 6, 7)] == [False, True, True, True, False]
    assert [limit.distance(value) for value in (1, 4, 6, 9)] == [3, 0, 0, 3]


def test_an_open_end_admits_everything() -> None:
    assert Limit().admits(0)
    assert Limit(minimum=5).admits(10**18)
    assert Limit(maximum=5).admits(0)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((-1, None), "-1 is negative"),
        ((None, -5), "-5 is negative"),
        ((2000, 1000), "from 2,000 to 1,000 admits nothing"),
    ],
)
def test_a_range_that_cannot_be_meant_is_refused(ends: tuple[int | None, int | None], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Limit(*ends)


def test_counts_are_read_with_their_suffix() -> None:
    assert Limit("1K", "600M") == Limit(1_000, 600_000_000)  # type: ignore[arg-type]
    assert Budget(macs="600M", layers=14) == Budget(macs=Limit(None, 600_000_000), layers=Limit(None, 14))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"maximum of a budget is 2\.5; a whole number or a text such as '600M'"):
        Limit(None, 2.5)  # type: ignore[arg-type]


def test_it_reads_as_people_write() -> None:
    budget = Budget(macs=Limit(None, 600_000_000), params=Limit(4_000_000, 6_000_000), layers=Limit(3))
    assert str(budget) == "MACs at most 600M, parameters 4M to 6M, layers at least 3"
    assert str(Budget()) == "no limits"
    assert str(Limit()) == "any"


def test_json_is_read_back() -> None:
    budget = Budget(macs=Limit(None, 600_000_000), layers=Limit(3, 14))
    assert budget.as_json() == {"macs": [None, 600_000_000], "params": [None, None], "layers": [3, 14]}
    assert Budget.from_json(budget.as_json()) == budget


def test_a_latency_is_one_more_limit() -> None:
    budget = Budget(macs=Limit(None, 600_000_000), latency_ms=20.0)
    assert str(budget) == "MACs at most 600M, latency at most 20 ms"
    assert Budget.from_json(budget.as_json()) == budget
    with pytest.raises(SettingsError, match="a latency of 0 ms admits nothing"):
        Budget(latency_ms=0.0)
