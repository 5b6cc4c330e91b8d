"""A candidate's place in a reference set, where not all of its proxies can be compared."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.gating.reference_check import ReferenceCheck
from aznas_onnx.gating.seeded_scores import SeededScores
from aznas_onnx.gating.sequential_test import Decision
from aznas_onnx.references.reference_set import Member, ReferenceSet, ReferenceSettings
from aznas_onnx.results import ProxyScores, ProxyValue, Status


def reference_set(*names: str) -> ReferenceSet:
    return ReferenceSet(
        name="ours",
        description="made by hand",
        command="",
        settings=ReferenceSettings(effort="fast", batch_size=4, input_shape=(3, 8, 8)),
        members=tuple(
            Member(model=f"net{index}", values=MappingProxyType(dict.fromkeys(names, float(index))), params=1)
            for index in range(3)
        ),
    )


def drawn(**values: float) -> SeededScores:
    """Return a candidate with these values under each of two seeds."""
    candidate = SeededScores("new.onnx", lambda: pytest.fail("nothing is scored"), 0)
    proxies = {name: ProxyValue(mean=value, per_seed=(value, value)) for name, value in values.items()}
    candidate._values = {name: [value, value] for name, value in values.items()}
    candidate._last = ProxyScores(model="new.onnx", status=Status.OK, proxies=proxies)
    candidate.seeds = 2
    return candidate


def test_proxies_that_take_no_part_are_reported_in_the_order_of_the_reference_set() -> None:
    names = ("zeta", "alpha", "macs", "mid", "beta", "omega")
    check = ReferenceCheck(candidate=drawn(macs=9.0), reference_set=reference_set(*names), min_percentile=10)
    (decided,) = check.run(lambda estimate, limit: Decision.PASS)
    assert decided.rule == "min_percentile"
    assert [warning.partition(" ")[0] for warning in check.warnings] == ["zeta", "alpha", "mid", "beta", "omega"]


def test_a_reference_set_of_other_proxies_than_were_scored_is_refused() -> None:
    check = ReferenceCheck(candidate=drawn(macs=9.0), reference_set=reference_set("naswot"), min_percentile=10)
    with pytest.raises(SettingsError, match=r"'ours' cannot judge new.onnx: it holds naswot only, and none of these"):
        check.run(lambda estimate, limit: Decision.PASS)
