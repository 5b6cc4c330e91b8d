from __future__ import annotations

import math

import pytest

from aznas_onnx.proxies import PROXIES, BlockEvidence, Evidence, Outcome
from aznas_onnx.scoring.aggregate_seeds import impossible_values, inapplicable, value_of, warnings_of

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


def of_blocks(*sigmas: float, entropy: float = 1.0, directions: int = 8) -> Evidence:
    blocks = (
        BlockEvidence(name=f"b{at}", entropy=entropy, directions=directions, variance=1.0, sigma=sigma)
        for at, sigma in enumerate(sigmas)
    )
    return Evidence(blocks=tuple(blocks), macs=1, params=1)


@pytest.mark.parametrize(
    ("name", "evidence", "value", "words"),
    [
        ("trainability", of_blocks(1.0, 1e-5, 0.5), -50_000.0, "block 'b1' multiplies them by 1.0e-05"),
        ("expressivity", of_blocks(1.0, 1.0), 4.3, "2 blocks lie between 0 and 4.159"),
        ("expressivity", of_blocks(1.0, 1.0), -0.1, "between 0 and"),
        ("progressivity", of_blocks(1.0, 1.0), -2.2, "differ by 2.079 at most"),
        ("macs", of_blocks(1.0), 0.0, "multiplies somewhere"),
        ("bottleneck", of_blocks(1.0), 2.5, "between 0 and 2.079"),
    ],
)
def test_a_value_that_no_network_can_have_is_doubted(name: str, evidence: Evidence, value: float, words: str) -> None:
    (sentence,) = impossible_values(PROXIES[name], [evidence], [Outcome(value=value)])
    assert sentence.startswith(f"{name} is ")
    assert words in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [("trainability", -97.0), ("trainability", 0.0), ("expressivity", 4.159), ("progressivity", 2.0), ("macs", 1.0)],
)
def test_any_other_value_is_not(name: str, value: float) -> None:
    assert impossible_values(PROXIES[name], [of_blocks(1.0, 1.0)], [Outcome(value=value)]) == []


def test_a_value_that_is_not_finite_has_a_reason_already() -> None:
    assert impossible_values(PROXIES["trainability"], [of_blocks(1.0)], [Outcome(value=-math.inf, reason="so")]) == []
