from __future__ import annotations

import math

import pytest

from aznas_onnx.proxies import PROXIES, Outcome
from aznas_onnx.scoring.values import inapplicable, value_of, warnings_of

PROXY = PROXIES["expressivity"]
LOST = Outcome(value=-math.inf, reason="the features are constant")


def outcomes(*values: float) -> list[Outcome]:
    return [Outcome(value=value) if math.isfinite(value) else LOST for value in values]


def test_the_mean_is_over_the_seeds_that_gave_a_value():
    value = value_of(PROXY, outcomes(1.0, -math.inf, 3.0))
    assert value.mean == 2.0
    assert value.stderr == pytest.approx(1.0)
    assert value.per_seed == (1.0, -math.inf, 3.0)


def test_lost_seeds_are_warned_of():
    assert warnings_of(PROXY, outcomes(1.0, -math.inf, 3.0)) == [
        "expressivity has no finite value for 1 of 3 seeds: the features are constant"
    ]


@pytest.mark.parametrize("values", [(-math.inf,), (1.0, -math.inf), (1.0, -math.inf, -math.inf)])
def test_without_a_value_for_most_seeds_there_is_a_reason_instead(values):
    value = value_of(PROXY, outcomes(*values))
    assert value.mean is None
    assert value.reason == "the features are constant"
    assert warnings_of(PROXY, outcomes(*values)) == []


def test_warnings_are_given_once():
    assert warnings_of(PROXY, [Outcome(value=1.0, warnings=("w",)), Outcome(value=2.0, warnings=("w",))]) == ["w"]


def test_what_does_not_apply_says_so():
    value = inapplicable(PROXIES["progressivity"])
    assert not value.applies
    assert value.mean is None
    assert "transformers" in value.reason
