from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies import PROXIES
from aznas_onnx.ranking import Aggregation, CohortKind, Ensemble, for_cohort, kind_of, rank
from aznas_onnx.results import ProxyScores, ProxyValue, Status

Column = dict[str, ProxyValue]


def column(values: Mapping[str, float] | None = None, *, is_transformer: bool = False) -> Column:
    """Return the proxies of a network like all others but for some values."""
    usual = dict.fromkeys((proxy.name for proxy in PROXIES.resolve(["best"])), 1.0)
    found = {name: ProxyValue(mean=value) for name, value in {**usual, **(values or {})}.items()}
    if is_transformer:
        found["progressivity"] = ProxyValue(mean=None, reason="none", applies=False)
    return found


def cohort(values: Mapping[str, float] | None = None, count: int = 20) -> list[Column]:
    """Return networks of which each has its own multiple of some values."""
    return [column({name: (1 + n) * value for name, value in (values or {}).items()}) for n in range(count)]


WIRED = {"depth": 1.0, "params": 1.0, "live_params": 1.0}
WITHOUT_AN_EDGE = WIRED | {"live_params": 0.5}


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (cohort({"effective_rank": 1.0}), CohortKind.WIDTHS),
        (cohort(WIRED), CohortKind.WIRING),
        (cohort(WITHOUT_AN_EDGE), CohortKind.EDGES),
        ([*cohort(WIRED, 18), *cohort(WITHOUT_AN_EDGE, 2)], CohortKind.EDGES),
        ([*cohort(WIRED, 19), *cohort(WITHOUT_AN_EDGE, 1)], CohortKind.WIRING),
        (cohort({"depth": 1.0, "block_count": 1.0}), CohortKind.STAGES),
        (cohort({"depth": 1.0, "block_count": 1.0, "final_positions": 1.0}), CohortKind.RESOLUTIONS),
        ([column({"depth": float(number)}, is_transformer=True) for number in range(9)], CohortKind.TRANSFORMERS),
        ([column({"depth": float(number)}, is_transformer=number > 5) for number in range(9)], CohortKind.WIRING),
    ],
)
def test_what_varies_is_seen_from_structure(columns: list[Column], kind: CohortKind) -> None:
    assert kind_of(columns) is kind


def test_without_structure_nothing_tells_what_varies() -> None:
    columns = cohort()
    del columns[3]["depth"]
    with pytest.raises(SettingsError, match="without depth; score with proxies best"):
        kind_of(columns)


def test_best_ranks_by_the_proxies_of_the_kind() -> None:
    columns = [column({"effective_rank": value, "macs": -value}) for value in (3.0, 1.0, 2.0)]
    scores = [ProxyScores(model=str(number), status=Status.OK, proxies=one) for number, one in enumerate(columns)]
    ranking = rank(scores, proxies=["best"])
    assert ranking.kind is CohortKind.WIDTHS
    assert ranking.aggregation is Aggregation.LINEAR
    assert ranking.order == (0, 2, 1)
    assert set(ranking.proxies) == {proxy.name for proxy in PROXIES.resolve(["best-widths"])}
    assert rank(scores, proxies=["best-widths"]).az_score == ranking.az_score
    assert rank(scores, proxies=["best"], aggregation="log-rank").kind is None


def test_other_proxies_and_weights_count_beside_best() -> None:
    ensemble, kind = for_cohort(Ensemble.of(["best", "expressivity:3", "synflow:0.5"]), cohort({"effective_rank": 1.0}))
    assert kind is CohortKind.WIDTHS
    weights = {name: ensemble.weight(name) for name in ("expressivity", "effective_rank", "synflow", "macs", "depth")}
    assert weights == {"expressivity": 3, "effective_rank": 2, "synflow": 0.5, "macs": 0, "depth": 0}


def test_each_kind_has_its_group_within_best() -> None:
    best = {proxy.name for proxy in PROXIES.resolve(["best"])}
    for kind in CohortKind:
        assert {proxy.name for proxy in PROXIES.resolve([kind.group])} <= best
        assert Ensemble.of([kind.group]).aggregation in (Aggregation.LINEAR, Aggregation.LOG_RANK)


def test_the_first_group_with_an_aggregation_of_its_own_decides() -> None:
    assert Ensemble.of(["az"]).aggregation is Aggregation.LOG_RANK
    assert Ensemble.of(["best-nb201"]).aggregation is Aggregation.LOG_RANK
    assert Ensemble.of(["az", "best-widths:2"]).aggregation is Aggregation.LINEAR
    assert Ensemble.of(["best"]).aggregation is Aggregation.BY_KIND
    assert Ensemble.of(["best"], "linear").aggregation is Aggregation.LINEAR


def test_the_documentation_lists_the_members_of_each_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "truth.md").read_text(encoding="utf-8")
    for kind in CohortKind:
        ensemble = Ensemble.of([kind.group])
        members = [proxy.name for proxy in PROXIES.resolve([kind.group])]
        named = [name if ensemble.weight(name) == 1 else f"{ensemble.weight(name):g} {name}" for name in members]
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{kind.group}` |")]
        *_, proxies, ranks = row.removesuffix(" |").split(" | ")
        assert proxies.replace("MACs", "macs") == ", ".join(named)
        assert ranks == ensemble.aggregation.value
