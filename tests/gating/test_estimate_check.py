from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aznas_onnx.calibration import Calibration
from aznas_onnx.gating import Policy
from aznas_onnx.gating.estimate_check import EstimateCheck
from aznas_onnx.gating.result import Check
from aznas_onnx.gating.seeded_scores import SeededScores
from aznas_onnx.gating.sequential_test import Decision
from aznas_onnx.gating.statistical_check import decider
from aznas_onnx.results import ProxyScores
from tests.calibration.samples import scored

DECIDE = decider(0.99, n_looks=1, n_checks=1)


@pytest.fixture(scope="module")
def shipped() -> ProxyScores:
    return scored("mnasnet")


def larger(scores: ProxyScores, factor: float) -> ProxyScores:
    """Return what a network of the same design would have with so many times the MACs and parameters."""
    macs, params = round(factor * (scores.macs or 0)), round(factor * (scores.params or 0))
    proxies = {
        name: replace(one, mean=one.mean * (factor if name in ("macs", "activations") else 1.0)) if one.mean else one
        for name, one in scores.proxies.items()
    }
    return replace(scores, macs=macs, params=params, proxies=proxies)


def checks(
    candidate: ProxyScores,
    baseline: ProxyScores,
    calibration: Calibration,
    **rules: Any,
) -> list[Check]:
    def seeded(name: str, scores: ProxyScores) -> SeededScores:
        def score_seeds(seeds: Sequence[int]) -> ProxyScores:
            again = {
                key: replace(one, per_seed=((math.nan if one.mean is None else one.mean),) * len(seeds))
                for key, one in scores.proxies.items()
            }
            return replace(scores, model=name, proxies=again)

        found = SeededScores(name, lambda: cast("Any", SimpleNamespace(scores=score_seeds)), 0)
        found.extend(4)
        return found

    check = EstimateCheck(
        candidate=seeded("new.onnx", candidate),
        baseline=seeded("shipped.onnx", baseline),
        policy=Policy.of(baseline=["shipped.onnx"], **rules),
        calibration=calibration,
        accepts_smaller=bool(rules.get("allow_smaller")),
    )
    return check.run(DECIDE)


def test_a_larger_one_of_the_design_passes_and_a_smaller_one_is_rejected(
    imagenet: Calibration, shipped: ProxyScores
) -> None:
    (up,) = checks(larger(shipped, 2.0), shipped, imagenet)
    assert (up.rule, up.verdict) == ("baseline_estimate", Decision.PASS)
    assert "points higher than shipped.onnx" in up.reason
    (down,) = checks(shipped, larger(shipped, 2.0), imagenet)
    assert down.verdict is Decision.REJECT
    assert "points lower than shipped.onnx" in down.reason
    assert "AZ score" not in down.reason
    assert up.value == pytest.approx(-(down.value or 0))


def test_a_policy_may_trade_accuracy_for_macs(imagenet: Calibration, shipped: ProxyScores) -> None:
    big = larger(shipped, 2.0)
    for rules in ({"max_drop": 6.0}, {"drop_per_halving": 6.0}):
        (check,) = checks(shipped, big, imagenet, **rules)
        assert check.verdict is Decision.PASS
    relation, floor = checks(big, shipped, imagenet, min_estimate=99.0)
    assert (relation.verdict, floor.verdict) == (Decision.PASS, Decision.REJECT)
    assert floor.rule == "min_estimate"


def test_an_equal_network_passes_by_its_signals(imagenet: Calibration, shipped: ProxyScores) -> None:
    (check,) = checks(shipped, shipped, imagenet)
    assert (check.rule, check.verdict) == ("baseline_score", Decision.PASS)


def test_a_damaged_network_of_the_same_size_is_rejected(imagenet: Calibration, shipped: ProxyScores) -> None:
    weak = replace(shipped.proxies["expressivity"], mean=(shipped.proxies["expressivity"].mean or 0) / 3)
    (check,) = checks(replace(shipped, proxies={**shipped.proxies, "expressivity": weak}), shipped, imagenet)
    assert (check.rule, check.verdict) == ("baseline_score", Decision.REJECT)


def test_other_parts_outside_the_support_are_undecided(imagenet: Calibration, shipped: ProxyScores) -> None:
    text = replace(shipped, design={**shipped.design, "image_channels": 0.0, "softmaxes": 1.0})
    (check,) = checks(text, shipped, imagenet)
    assert check.verdict is Decision.INCONCLUSIVE
    assert "new.onnx: its input is no image of three channels" in check.reason
    assert "train both, or calibrate" in check.reason


def test_the_same_parts_outside_the_support_are_compared_by_signals(
    imagenet: Calibration, shipped: ProxyScores
) -> None:
    tiny = replace(shipped, design={**shipped.design, "input_positions": 2 * math.log(32)})
    (check,) = checks(tiny, tiny, imagenet)
    assert (check.rule, check.verdict) == ("baseline_score", Decision.PASS)


def test_old_policies_mean_the_papers_comparison() -> None:
    assert Policy.of(baseline=["a.onnx"]).is_by_estimate
    assert not Policy.of(baseline=["a.onnx"], compare="az").is_by_estimate
    for rule in ({"tolerance": 0.5}, {"proxies": ["az", "synflow"]}, {"aggregate": "linear"}):
        assert Policy.of(baseline=["a.onnx"], **rule).compare == "az"
    assert Policy.of(baseline=["a.onnx"], tolerance=0.5, compare="estimate").is_by_estimate
