from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aznas_onnx.gating import COMPARED
from aznas_onnx.proxies import AZ
from aznas_onnx.proxies.from_blocks import BLOCKWISE, IDLE_BLOCKS
from aznas_onnx.proxies.literature import LITERATURE
from aznas_onnx.proxies.structural import STRUCTURAL
from aznas_onnx.ranking import Ensemble, aggregate
from aznas_onnx.references.proxy_scales import PROXY_SCALES, scale_for
from aznas_onnx.references.rank_scores import (
    difference,
    log_rank_scores,
    percentile,
    reference_score,
    terms,
)
from aznas_onnx.references.reference_set import Member, ReferenceSet, ReferenceSettings

BASELINE = {"expressivity": 40.0, "progressivity": -0.5, "trainability": -0.3, "macs": 1e9}


def reference_set(*rows: tuple[float, float]) -> ReferenceSet:
    members = [
        Member(model=str(index), values=MappingProxyType({"expressivity": first, "macs": second}), params=1)
        for index, (first, second) in enumerate(rows)
    ]
    return ReferenceSet(
        name="test",
        description="made by hand",
        command="",
        settings=ReferenceSettings(effort="fast", batch_size=4, input_shape=(3, 8, 8)),
        members=tuple(members),
    )


def test_an_equal_network_scores_0() -> None:
    assert difference(BASELINE, BASELINE) == 0.0


@pytest.mark.parametrize("name", list(COMPARED))
def test_one_worse_proxy_costs_without_limit_and_one_better_gains_at_most_ln_2(name: str) -> None:
    worse = {"expressivity": 1.0, "progressivity": -9.0, "trainability": -50.0, "macs": 1e5}
    better = {"expressivity": 4000.0, "progressivity": 9.0, "trainability": 0.0, "macs": 1e15}
    assert difference({**BASELINE, name: worse[name]}, BASELINE) < -10
    assert 0 < difference({**BASELINE, name: better[name]}, BASELINE) <= math.log(2)


def test_every_built_in_proxy_has_a_spread() -> None:
    built_in = (*AZ, *BLOCKWISE, *STRUCTURAL, *LITERATURE, IDLE_BLOCKS)
    assert set(PROXY_SCALES) == {proxy.name for proxy in built_in}
    assert all(spread.deviation > 0 for spread in PROXY_SCALES.values())


def test_lower_values_of_a_proxy_that_is_better_low_count_as_better() -> None:
    assert scale_for("te_nas_ntk", {}).between(10.0, 20.0) > 0 > scale_for("synflow", {}).between(10.0, 20.0)
    assert difference({"te_nas_ntk": 10.0}, {"te_nas_ntk": 20.0}) > 0


def test_a_deviation_that_is_given_comes_first() -> None:
    candidate, baseline = {"macs": 1.0}, {"macs": 2.0}
    assert difference(candidate, baseline, deviations={"macs": 100.0}) == pytest.approx(
        math.log(0.4960106 / 0.5), rel=1e-4
    )


def test_weights_multiply_and_linear_adds_shares() -> None:
    candidate = {**BASELINE, "macs": 0.66e9}
    plain = difference(candidate, BASELINE)
    assert difference(candidate, BASELINE, Ensemble.of(["az", "macs:2"])) == pytest.approx(2 * plain)
    assert difference(candidate, BASELINE, Ensemble.of(["az", "macs:0"])) == 0.0
    linear = difference(candidate, BASELINE, Ensemble.of(["az"], "linear"))
    assert linear == pytest.approx(math.exp(plain) / 2 - 0.5)


def test_one_bad_proxy_is_not_made_up_for_by_three_good_ones() -> None:
    candidate = {"expressivity": 80.0, "progressivity": 2.0, "trainability": 0.0, "macs": 1e8}
    assert difference(candidate, BASELINE) < -2


def test_a_fifth_fewer_multiply_adds_alone_are_tolerated_and_a_third_fewer_are_not() -> None:
    assert difference({**BASELINE, "macs": 0.8e9}, BASELINE) > -0.5
    assert difference({**BASELINE, "macs": 0.66e9}, BASELINE) < -0.5


@given(
    st.fixed_dictionaries(
        {
            "expressivity": st.floats(1, 500),
            "progressivity": st.floats(-3, 1),
            "trainability": st.floats(-20, 0),
            "macs": st.floats(1e6, 1e11),
        }
    ),
    st.sampled_from(list(COMPARED)),
    st.floats(1.001, 3),
)
def test_the_score_rises_with_every_proxy(values: dict[str, float], name: str, factor: float) -> None:
    raised = {**values, name: values[name] * factor if values[name] > 0 else values[name] / factor}
    assert terms(raised, BASELINE)[name] >= terms(values, BASELINE)[name]
    assert difference(raised, BASELINE) >= difference(values, BASELINE)


def test_members_have_the_order_that_eq_12_gives_them() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 2))
    drawn = reference_set(*[(float(a), float(b)) for a, b in rows])
    ours, theirs = log_rank_scores(drawn, ("expressivity", "macs")), aggregate(rows)
    # Rank shares are taken at the middle of a rank and not at its end, which weighs the lowest ranks a little more.
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98
    assert np.argmax(ours) == np.argmax(theirs)


def test_a_network_between_two_members_has_a_score_between_theirs() -> None:
    drawn = reference_set((1.0, 10.0), (2.0, 20.0), (3.0, 30.0))
    scores = [reference_score({"expressivity": x, "macs": 10 * x}, drawn) for x in (1.0, 1.5, 2.0, 2.9, 3.0)]
    assert scores == sorted(scores)
    assert len(set(scores)) == 5


def test_ties_and_missing_values_share_a_rank() -> None:
    drawn = reference_set((-math.inf, 5.0), (1.0, 5.0), (1.0, 5.0), (2.0, 5.0))
    scores = log_rank_scores(drawn, ("expressivity", "macs"))
    assert scores[1] == scores[2]
    assert scores[0] < scores[1] < scores[3]
    missing, lowest, tied = (reference_score({"expressivity": x}, drawn) for x in (-math.inf, 0.0, 1.0))
    assert missing < lowest < tied


@pytest.mark.parametrize(("score", "expected"), [(-9.0, 0.0), (1.0, 12.5), (2.5, 50.0), (4.0, 87.5), (9.0, 100.0)])
def test_percentiles_count_ties_half(score: float, expected: float) -> None:
    assert percentile(score, np.array([1.0, 2.0, 3.0, 4.0])) == expected
