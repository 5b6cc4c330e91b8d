from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.ranking import Aggregation, Ensemble, aggregate, rank
from aznas_onnx.results import ProxyScores, ProxyValue, Status

OF_RANKS = (Aggregation.LOG_RANK, Aggregation.LINEAR)
VALUES = st.one_of(st.integers(-5, 5).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
MATRICES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=VALUES)


def value(number: float | None, *, applies: bool = True) -> ProxyValue:
    return ProxyValue(mean=number, reason=None if number is not None else "none", applies=applies)


def candidate(**proxies: float | ProxyValue | None) -> ProxyScores:
    values = {name: v if isinstance(v, ProxyValue) else value(v) for name, v in proxies.items()}
    return ProxyScores(model="m", status=Status.OK, proxies=values)


FAILED = ProxyScores(model="broken", status=Status.FAILED, reason="not ONNX")


def by_definition(matrix: np.ndarray) -> list[float]:
    """Eq. 12, written out."""
    m = len(matrix)
    total = [0.0] * m
    for column in matrix.T:
        cleaned = [v if math.isfinite(v) else -math.inf for v in column]
        for i, v in enumerate(cleaned):
            below, equal = sum(w < v for w in cleaned), sum(w == v for w in cleaned)
            total[i] += math.log((below + (equal + 1) / 2) / m)
    return total


# ---- aggregate ----------------------------------------------------------------------------------------------------
@given(MATRICES)
def test_is_equation_12(matrix):
    assert aggregate(matrix).tolist() == pytest.approx(by_definition(matrix), abs=1e-12)


@given(MATRICES, st.randoms(use_true_random=False), st.sampled_from(OF_RANKS))
def test_permuting_candidates_permutes_scores(matrix, random, aggregation):
    order = list(range(len(matrix)))
    random.shuffle(order)
    assert aggregate(matrix[order], aggregation).tolist() == aggregate(matrix, aggregation)[order].tolist()


@given(MATRICES, st.randoms(use_true_random=False))
def test_the_order_of_proxies_does_not_matter(matrix, random):
    order = list(range(matrix.shape[1]))
    random.shuffle(order)
    assert aggregate(matrix[:, order]).tolist() == aggregate(matrix).tolist()


@given(MATRICES, st.sampled_from([np.arctan, np.exp, lambda v: 3 * v - 7, lambda v: v**3]))
def test_strictly_increasing_transforms_change_nothing(matrix, transform):
    finite = np.where(np.isfinite(matrix), matrix, np.nan)
    assert aggregate(transform(finite)).tolist() == aggregate(finite).tolist()


@given(MATRICES)
def test_what_is_not_finite_ranks_lowest_and_alike(matrix):
    replaced = np.where(np.isfinite(matrix), matrix, -100.0)
    assert aggregate(matrix).tolist() == aggregate(replaced).tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_small_order_of_two_proxies(count):
    for first, second in itertools.product(itertools.product(range(count), repeat=count), repeat=2):
        matrix = np.array([first, second], dtype=float).T
        assert aggregate(matrix).tolist() == pytest.approx(by_definition(matrix), abs=1e-12)


def test_ties_share_their_ranks():
    assert aggregate([[1.0], [1.0], [2.0]]).tolist() == pytest.approx([math.log(1.5 / 3), math.log(1.5 / 3), 0.0])


def test_the_best_of_all_proxies_scores_zero():
    assert aggregate([[1.0, 5.0], [2.0, 6.0]])[1] == 0.0


def test_linear_sums_the_shares():
    assert aggregate([[1.0, 2.0], [2.0, 1.0]], "linear").tolist() == [1.5, 1.5]


def test_log_rank_punishes_one_bad_rank_more_than_linear_does():
    balanced, lopsided, rest = [2.0, 2.0], [1.0, 3.0], [[3.0, 1.0]]
    logarithmic, linear = (aggregate([balanced, lopsided, *rest], a) for a in ("log-rank", "linear"))
    assert logarithmic[0] > logarithmic[1]
    assert linear[0] == linear[1]


def test_no_candidates_give_no_scores():
    assert aggregate(np.zeros((0, 4))).tolist() == []


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(SettingsError, match="n_candidates"):
        aggregate(np.zeros(shape))


# ---- rank ---------------------------------------------------------------------------------------------------------
def test_one_is_best_and_order_lists_it_first():
    ranking = rank([candidate(macs=1.0), candidate(macs=3.0), candidate(macs=2.0)])
    assert ranking.rank == (3, 1, 2)
    assert ranking.order == (1, 2, 0)
    assert ranking.az_score == pytest.approx((math.log(1 / 3), 0.0, math.log(2 / 3)))


def test_equal_candidates_share_the_better_rank():
    ranking = rank([candidate(macs=2.0), candidate(macs=1.0), candidate(macs=2.0)])
    assert ranking.rank == (1, 3, 1)
    assert ranking.order == (0, 2, 1)


def test_failed_models_have_no_rank_and_do_not_count():
    ranking = rank([FAILED, candidate(macs=1.0), FAILED, candidate(macs=2.0)])
    assert ranking.rank == (None, 2, None, 1)
    assert ranking.order == (3, 1)
    assert ranking.az_score[1] == pytest.approx(math.log(1 / 2))


@pytest.mark.parametrize("scores", [[], [candidate(macs=1.0)], [candidate(macs=1.0), FAILED], [FAILED, FAILED]])
def test_fewer_than_two_candidates_have_no_rank(scores):
    ranking = rank(scores)
    assert ranking.rank == (None,) * len(scores)
    assert ranking.az_score == (None,) * len(scores)
    assert ranking.order == ()


def test_a_proxy_without_a_value_ranks_its_candidate_lowest():
    ranking = rank([candidate(expressivity=None), candidate(expressivity=-1e6), candidate(expressivity=5.0)])
    assert ranking.rank == (3, 2, 1)


def test_a_proxy_that_does_not_apply_to_one_candidate_is_left_out_for_all():
    transformer = candidate(macs=2.0, progressivity=value(None, applies=False))
    ranking = rank([transformer, candidate(macs=1.0, progressivity=9.0)])
    assert ranking.proxies == ("macs",)
    assert ranking.rank == (1, 2)
    assert "not defined for 1 of 2 models" in ranking.warnings[0]


def test_among_transformers_alone_nothing_is_warned_of():
    transformers = [candidate(macs=m, progressivity=value(None, applies=False)) for m in (1.0, 2.0)]
    ranking = rank(transformers)
    assert ranking.proxies == ("macs",)
    assert ranking.warnings == ()


def test_a_proxy_that_one_candidate_lacks_is_left_out_with_a_warning():
    ranking = rank([candidate(macs=1.0, expressivity=1.0), candidate(macs=2.0)])
    assert ranking.proxies == ("macs",)
    assert "1 of 2 models have none" in ranking.warnings[0]


def test_without_a_common_proxy_nothing_is_ranked():
    ranking = rank([candidate(macs=1.0), candidate(expressivity=1.0)])
    assert ranking.rank == (None, None)
    assert ranking.proxies == ()


def test_proxies_can_be_chosen_by_name_and_group():
    scores = [candidate(macs=1.0, expressivity=2.0), candidate(macs=2.0, expressivity=1.0)]
    assert rank(scores, proxies=["complexity"]).rank == (2, 1)
    assert rank(scores, proxies=["expressivity"]).rank == (1, 2)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match=r"did you mean 'expressivity'"):
        rank([], proxies=["expresivity"])
    with pytest.raises(SettingsError, match=r"'log-rank', 'linear'"):
        rank([], aggregation="median")


# ---- weights ------------------------------------------------------------------------------------------------------
@given(MATRICES, st.sampled_from(OF_RANKS))
def test_a_weight_counts_a_proxy_that_often(matrix, aggregation):
    weights = [1 + index % 3 for index in range(matrix.shape[1])]
    repeated = np.column_stack([matrix[:, index] for index, times in enumerate(weights) for _ in range(times)])
    found = aggregate(matrix, aggregation, weights)
    assert found.tolist() == pytest.approx(aggregate(repeated, aggregation).tolist(), abs=1e-9)


def test_names_carry_weights_into_a_ranking():
    candidates = [candidate(expressivity=1.0, macs=2.0), candidate(expressivity=2.0, macs=1.0)]
    assert rank(candidates).rank == (1, 1)
    heavy = rank(candidates, proxies=["expressivity", "macs:3"])
    assert heavy.rank == (1, 2)
    assert heavy.az_score == pytest.approx((math.log(1 / 2), 3 * math.log(1 / 2)))
    assert heavy.weights == {"macs": 3.0}
    assert rank(candidates, weights={"macs": 3.0}) == heavy


def test_a_proxy_of_weight_zero_takes_no_part():
    candidates = [candidate(expressivity=1.0, macs=2.0), candidate(expressivity=2.0, macs=1.0)]
    assert rank(candidates, proxies=["expressivity", "macs:0"]) == rank(candidates, proxies=["expressivity"])


def test_a_negative_weight_is_an_error():
    with pytest.raises(SettingsError, match="weight of proxy 'macs' is -1; 0 or a positive"):
        rank([candidate(macs=1.0)], proxies=["macs:-1"])
    with pytest.raises(SettingsError, match="weight of proxy 'macs' is nan"):
        rank([candidate(macs=1.0)], weights={"macs": math.nan})


def test_an_assembly_reads_back():
    ensemble = Ensemble.of(["az", "synflow:0.5"], "linear")
    assert Ensemble.from_json(ensemble.as_json()) == ensemble
    assert not ensemble.is_default
    assert Ensemble.of(["macs", "az"]).is_default
