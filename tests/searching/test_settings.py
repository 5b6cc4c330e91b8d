from __future__ import annotations

import json
from typing import Any

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.searching import Budget, CountConvention, Limit, Strategy, StudySettings
from aznas_onnx.searching.identity import Identity
from tests.searching.fakes import settings


def test_json_is_read_back() -> None:
    one = settings(budget=Budget(macs=Limit(1, 2)), count=CountConvention.PAPER, strategy=Strategy.RANDOM)
    assert StudySettings.from_json(json.loads(json.dumps(one.as_json()))) == one


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 1}, "seed is 0, not 1"),
        ({"strategy": Strategy.RANDOM}, "strategy is 'evolution', not 'random'"),
        ({"count": CountConvention.PAPER}, "count is 'graph', not 'paper'"),
        ({"top_k": 7}, "top_k is 16, not 7"),
        ({"budget": Budget(macs=Limit(None, 600))}, "budget.macs is any, not at most 600"),
        ({"scoring": {"scorer": "fake", "batch_size": 8}}, "scoring.batch_size is unset, not 8"),
        ({"scoring": {}}, "scoring.scorer is 'fake', not unset"),
        (
            {"space": {"name": "digits", "options": {"length": 7}, "code": None, "reference": None}},
            "space.options.length is 8, not 7",
        ),
    ],
)
def test_every_difference_is_reported(change: dict[str, Any], expected: str) -> None:
    assert settings().differences(settings(**change)) == (expected,)


def test_what_is_scored_once_is_part_of_the_settings() -> None:
    by_network = settings(identity=Identity.NETWORK)
    assert StudySettings.from_json(json.loads(json.dumps(by_network.as_json()))) == by_network
    assert settings().differences(by_network) == ("identity is 'genotype', not 'network'",)
    assert "identity" not in settings().as_json()  # as in studies from before


def test_where_the_space_was_found_is_no_difference() -> None:
    moved = settings(space={**settings().space.as_json(), "reference": "elsewhere.py"})
    assert settings().differences(moved) == ()


@pytest.mark.parametrize(("change", "message"), [({"top_k": 0}, "top-k is 0"), ({"seed": -1}, "seed is -1")])
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**change)
