from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.references import BUNDLED, Member, ReferenceSet, ReferenceSettings, find_reference, place, rank_in
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from tests.cli.samples import scores

SETTINGS = ReferenceSettings(effort="balanced", batch_size=16, input_shape=(3, 32, 32))
_ROUNDING = {"trainability": 1e-2}  # the number of threads changes it by up to 0.3 %; with as many as built it, by 1e-9
_SLOW = ("autoformer-small", "autoformer-base")


def member(name: str, value: float | None) -> Member:
    return Member(model=name, values=MappingProxyType({"expressivity": value, "macs": 2e6}), params=7)


def reference_set() -> ReferenceSet:
    return ReferenceSet(
        name="ours",
        description="made by hand",
        command="aznas reference build ...",
        settings=SETTINGS,
        members=(member("a", 1.5), member("b", None), member("c", 3.25)),
        software=MappingProxyType({"torch": "2"}),
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "ours.json"
    reference_set().write(path)
    assert ReferenceSet.read(path) == reference_set()
    with_blocks = replace(reference_set(), settings=replace(SETTINGS, blocks=("*/add",)))
    with_blocks.write(path)
    assert ReferenceSet.read(path) == with_blocks
    assert len(path.read_text().splitlines()) < 40  # a line for each network, for a diff that people can read
    assert list(tmp_path.iterdir()) == [path]


def test_new_scores_join_and_replace_those_of_the_same_name() -> None:
    values = {"expressivity": ProxyValue(mean=9.0), "macs": ProxyValue(mean=1e6)}
    added = [
        scores("b", proxies=values),
        scores("d", proxies=values),
        ProxyScores(model="e", status=Status.FAILED, reason="broken"),
    ]
    joined = reference_set().joined(added)
    assert [one.model for one in joined.members] == ["a", "b", "c", "d"]
    assert joined.members[1].values["expressivity"] == 9.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"effort": "paper"}, "it has effort paper and not balanced; leave these options out"),
        ({"input_shape": (3, 64, 64)}, "it has input shape 3x64x64 and not 3x32x32; export the network for that input"),
        ({"batch_size": 4, "keep_graph": True}, "batch size 4 and not 16, keep graph true and not false"),
        ({"blocks": ("*/add", "stem")}, "it has blocks */add, stem and not none; leave these options out"),
    ],
)
def test_what_was_scored_in_another_way_is_refused_with_the_remedy(changes: dict[str, Any], message: str) -> None:
    SETTINGS.refuse_others(SETTINGS, name="ours", of="net.onnx")
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        SETTINGS.refuse_others(replace(SETTINGS, **changes), name="ours", of="net.onnx")
    assert str(caught.value).startswith("net.onnx does not compare with reference set 'ours'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no reference: it is not JSON"),
        ("[]", "is no reference: it has no schema"),
        ('{"schema": "aznas.score/1"}', "it has schema 'aznas.score/1', and 'aznas.reference/1' was expected"),
        ('{"schema": "aznas.reference/1"}', "is a damaged reference"),
    ],
)
def test_a_file_that_is_no_reference_is_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ref.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        find_reference(path)


def test_a_reference_of_one_network_is_refused() -> None:
    with pytest.raises(SettingsError, match="has 1 networks; 2 or more are needed"):
        replace(reference_set(), members=(member("a", 1.0),))


def test_networks_without_a_common_proxy_are_no_reference() -> None:
    other = Member(model="d", values=MappingProxyType({"naswot": 1.0}), params=7)
    with pytest.raises(SettingsError, match="'ours' have no proxy in common"):
        replace(reference_set(), members=(*reference_set().members, other))


def test_an_unknown_name_suggests_one() -> None:
    with pytest.raises(UnknownNameError, match=r"there is no reference set 'mbv2-600'; did you mean mbv2-600M"):
        find_reference("mbv2-600")


@pytest.mark.parametrize("bundled", BUNDLED, ids=lambda bundled: bundled.name)
def test_what_ships_is_there_and_says_how_it_was_made(bundled: Any, repository: Path) -> None:
    found = find_reference(bundled.name)
    assert (found.name, found.description) == (bundled.name, bundled.description)
    assert f"--sample {len(found.members)} " in bundled.arguments
    assert found.command.endswith(bundled.arguments)
    assert {"expressivity", "trainability", "macs"} <= set(found.proxies)
    stored = repository / "aznas_onnx" / "references" / "data" / f"{bundled.name}.json"
    assert stored.stat().st_size < 100_000
    assert json.loads(stored.read_text())["schema"] == "aznas.reference/1"


def test_every_bundled_file_is_listed(repository: Path) -> None:
    stored = {path.stem for path in (repository / "aznas_onnx" / "references" / "data").iterdir()}
    assert stored == {bundled.name for bundled in BUNDLED}


@pytest.mark.parametrize(
    "name", [pytest.param(one.name, marks=[pytest.mark.slow] * (one.name in _SLOW)) for one in BUNDLED]
)
def test_the_first_network_of_a_bundled_reference_set_still_has_its_score(name: str) -> None:
    from aznas_onnx.scoring import score
    from aznas_onnx.spaces import get

    found = find_reference(name)
    first, space = found.members[0], get(name.partition("-")[0] if name.startswith("mbv2") else name)
    options = found.options()
    options["device"] = "cpu"
    fresh = score(space.source(space.parse(first.model)), **options)
    assert fresh.params == first.params
    for proxy, value in first.values.items():
        assert fresh.proxies[proxy].mean == pytest.approx(value, rel=_ROUNDING.get(proxy, 1e-4)), proxy


def test_places_of_the_best_and_the_worst() -> None:
    drawn = find_reference("nb201")
    values = {name: drawn.column(name) for name in drawn.proxies}
    best = {name: ProxyValue(mean=max(column)) for name, column in values.items()}
    worst = {name: ProxyValue(mean=None, reason="none") for name in values}
    ranking, places = rank_in([scores("bad", proxies=worst), scores("good", proxies=best)], drawn)
    assert ranking.order == (1, 0)
    assert ranking.rank == (2, 1)
    assert places[0] is not None
    assert places[1] is not None
    assert places[1].percentile == 100.0
    assert places[0].percentile == 0.0


def test_a_failed_network_has_no_place() -> None:
    failed = ProxyScores(model="a", status=Status.FAILED, reason="broken")
    assert place(failed, reference_set()) is None
