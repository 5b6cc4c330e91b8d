from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import pytest

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.proxies import (
    PROXIES,
    BlockEvidence,
    Direction,
    Evidence,
    Need,
    Outcome,
    Proxy,
    ProxyRegistry,
    StatisticResult,
)
from aznas_onnx.structure import Structure


def block(index: int = 0, **fields) -> BlockEvidence:
    return BlockEvidence(name=f"b{index}", **fields)


# What whole-network measurements found: whatever value a proxy reads of them is a number.
MEASURED = {
    proxy.measurement.name: StatisticResult(values=defaultdict(lambda: 1.5, {"any": 1.5}))
    for proxy in PROXIES.values()
    if proxy.measurement is not None
}


STRUCTURE = Structure(
    layers=5,
    depth=4,
    shortest_path=2,
    spatial_depth=3,
    log_paths=math.log(3),
    mean_path=2.5,
    mean_log_width=2.0,
    receptive_field=7.0,
    activation_elements=99,
    live_macs=6,
    live_params=2,
    live_activation_elements=98,
    spatial_layers=4,
    log_widths=10.0,
    mean_log_macs=12.0,
    spectral_capacity=20.5,
    final_positions=49,
)


def evidence(*blocks: BlockEvidence, macs: int = 7) -> Evidence:
    return Evidence(blocks=blocks, macs=macs, params=3, structure=STRUCTURE, measured=MEASURED)


def evaluate(name: str, *blocks: BlockEvidence) -> Outcome:
    return PROXIES[name].evaluate(evidence(*blocks))


# ---- conformance of every registered proxy ------------------------------------------------------------------------
GOOD = evidence(*(block(i, entropy=1.0 + i, variance=1.0, sigma=0.9 if i else None) for i in range(3)))
BAD = {
    "constant": evidence(block(entropy=math.nan, variance=0.0), block(1, entropy=1.0, variance=1.0, sigma=0.0)),
    "overflow": evidence(*(block(i, entropy=math.nan, variance=math.inf, sigma=math.nan) for i in range(2))),
    "one block": evidence(block(entropy=1.0, variance=1.0)),
    "nothing measured": evidence(block(), block(1, unmeasured="why")),
}


@pytest.mark.parametrize("name", list(PROXIES))
def test_is_finite_and_has_no_reason_on_good_evidence(name):
    outcome = PROXIES[name].evaluate(GOOD)
    assert math.isfinite(outcome.value)
    assert outcome.reason is None


@pytest.mark.parametrize("name", list(PROXIES))
@pytest.mark.parametrize("case", list(BAD))
def test_is_finite_or_says_why_not(name, case):
    if case == "nothing measured" and PROXIES[name].needs is Need.FEATURES:
        pytest.skip("features are always measured for a proxy that needs them")
    outcome = PROXIES[name].evaluate(BAD[case])
    assert math.isfinite(outcome.value) == (outcome.reason is None)


@pytest.mark.parametrize("name", list(PROXIES))
def test_documents_itself(name):
    proxy = PROXIES[name]
    assert proxy.name == name
    assert proxy.description
    assert proxy.equation
    assert "\n" not in proxy.description


# ---- values -------------------------------------------------------------------------------------------------------
def test_expressivity_is_the_sum_of_entropies():
    blocks = [block(i, entropy=e, variance=1.0) for i, e in enumerate((1.0, 2.5, 2.0))]
    assert evaluate("expressivity", *blocks).value == 5.5


def test_progressivity_is_the_smallest_difference():
    blocks = [block(i, entropy=e, variance=1.0) for i, e in enumerate((1.0, 2.5, 2.0, 4.0))]
    assert evaluate("progressivity", *blocks).value == -0.5


def test_trainability_is_equation_11():
    outcome = evaluate("trainability", block(), block(1, sigma=2.0), block(2, sigma=0.5))
    assert outcome.value == pytest.approx(-0.5, abs=1e-5)


def test_trainability_is_best_where_the_norm_is_one():
    scores = [evaluate("trainability", block(), block(1, sigma=s)).value for s in (0.5, 0.9, 1.0, 1.1, 2.0)]
    assert max(scores) == scores[2] == pytest.approx(0.0, abs=1e-5)


def test_a_zero_jacobian_scores_minus_a_million_as_published():
    assert evaluate("trainability", block(), block(1, sigma=0.0)).value == pytest.approx(-999_998.0)


def test_macs_are_those_of_the_graph():
    assert evaluate("macs").value == 7.0


def test_the_bottleneck_is_the_smallest_entropy_and_the_final_one_the_last():
    blocks = [block(i, entropy=e, variance=1.0) for i, e in enumerate((3.0, 1.5, 2.0))]
    assert evaluate("bottleneck", *blocks).value == 1.5
    assert evaluate("final_expressivity", *blocks).value == 2.0


def test_gain_is_the_mean_logarithm_of_spectral_norms():
    outcome = evaluate("gain", block(), block(1, sigma=2.0), block(2, sigma=0.5))
    assert outcome.value == pytest.approx(0.0, abs=1e-5)
    assert evaluate("gain", block(), block(1, sigma=math.e)).value == pytest.approx(1.0, abs=1e-5)


def test_flatness_is_zero_for_equal_eigenvalues_and_has_no_size():
    flat = [block(0, entropy=math.log(4), directions=4), block(1, entropy=math.log(64), directions=64)]
    assert evaluate("flatness", *flat).value == pytest.approx(0.0)
    less = [replace(one, entropy=one.entropy - 0.5) for one in flat]
    assert evaluate("flatness", *less).value == pytest.approx(-0.5)
    assert evaluate("expressivity", *less).value == pytest.approx(math.log(256) - 1.0)


def test_effective_rank_counts_the_directions_of_all_blocks():
    flat = [block(0, entropy=math.log(4), directions=4), block(1, entropy=math.log(64), directions=64)]
    assert evaluate("effective_rank", *flat).value == pytest.approx(math.log(68))
    assert evaluate("expressivity_ceiling", *flat).value == pytest.approx(math.log(256))
    assert evaluate("block_count", *flat).value == 2.0


def test_structural_proxies_are_numbers_of_the_structure():
    names = ("params", "layers", "depth", "shortest_path", "spatial_depth", "paths", "mean_path", "width")
    values = [evaluate(name).value for name in names]
    assert values == [3.0, 5.0, 4.0, 2.0, 3.0, math.log(3), 2.5, 2.0]
    assert evaluate("receptive_field").value == 7.0
    assert evaluate("activations").value == 99.0
    more = ("live_macs", "live_params", "live_activations", "spatial_layers", "log_widths", "spectral_capacity")
    assert [evaluate(name).value for name in more] == [6.0, 2.0, 98.0, 4.0, 10.0, 20.5]
    assert evaluate("final_positions").value == 49.0
    assert evaluate("layer_macs").value == 12.0
    assert PROXIES["shortest_path"].direction is Direction.LOWER_IS_BETTER


def test_a_network_without_a_path_has_no_number_of_paths():
    outcome = PROXIES["paths"].evaluate(replace(evidence(), structure=replace(STRUCTURE, log_paths=-math.inf)))
    assert outcome.value == -math.inf
    assert "no path leads" in outcome.reason


# ---- statuses -----------------------------------------------------------------------------------------------------
def test_an_identity_block_has_no_trainability():
    outcome = evaluate("trainability", block(), block(1, sigma=1.0, is_identity=True))
    assert outcome.value == -math.inf
    assert "'b1' passes its input through unchanged" in outcome.reason


def test_blocks_without_a_jacobian_are_left_out_of_the_mean_with_a_warning():
    outcome = evaluate("trainability", block(), block(1, unmeasured="197 become 196"), block(2, sigma=1.0))
    assert outcome.value == pytest.approx(0.0, abs=1e-5)
    assert outcome.warnings == ("left out of trainability: 197 become 196",)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"variance": 0.0}, "constant"),
        ({"variance": math.inf}, "not finite"),
        ({"variance": math.nan}, "not finite"),
    ],
)
@pytest.mark.parametrize("name", ["expressivity", "progressivity"])
def test_features_without_an_entropy_have_a_reason(name, fields, reason):
    outcome = evaluate(name, block(entropy=1.0, variance=1.0), block(1, entropy=math.nan, **fields))
    assert outcome.value == -math.inf
    assert reason in outcome.reason
    assert "'b1'" in outcome.reason


@pytest.mark.parametrize("name", ["expressivity", "progressivity"])
def test_a_singular_covariance_has_a_value_unless_the_published_one_is_requested(name):
    blocks = (block(entropy=1.0, variance=1.0), block(1, entropy=1.5, variance=1.0, is_singular=True))
    assert math.isfinite(PROXIES[name].evaluate(evidence(*blocks)).value)
    outcome = PROXIES[name].evaluate(Evidence(blocks=blocks, macs=1, params=1, as_published=True))
    assert outcome.value == -math.inf
    assert "'b1' lie in a subspace" in outcome.reason


# ---- registry -----------------------------------------------------------------------------------------------------
def a_proxy(name: str) -> Proxy:
    return Proxy(
        name=name,
        description="d",
        equation="e",
        direction=Direction.HIGHER_IS_BETTER,
        needs=Need.GRAPH,
        evaluate=lambda _: Outcome(value=0.0),
    )


def test_registering_twice_raises():
    registry = ProxyRegistry([a_proxy("one")], groups={"both": ("one",)})
    for taken in ("one", "both"):
        with pytest.raises(ValueError, match="registered already"):
            registry.register(a_proxy(taken))


def test_groups_are_expanded_and_repeated_names_dropped():
    assert [p.name for p in PROXIES.resolve(["trainability", "az", "complexity"])] == [
        "trainability",
        "expressivity",
        "progressivity",
        "macs",
    ]


def test_an_unknown_name_suggests_a_neighbour():
    with pytest.raises(UnknownNameError, match=r"no proxy 'trainable'.*did you mean 'trainability'"):
        PROXIES.resolve(["trainable"])


# ---- weights ------------------------------------------------------------------------------------------------------
def test_a_name_may_end_in_a_weight():
    assert [p.name for p in PROXIES.resolve(["az:2", "synflow:0.5"])][-1] == "synflow"
    assert PROXIES.weights(["az:2", "synflow:0.5", "trainability"]) == {
        "expressivity": 2.0,
        "progressivity": 2.0,
        "trainability": 2.0,
        "macs": 2.0,
        "synflow": 0.5,
    }


def test_the_last_weight_given_counts():
    assert PROXIES.weights(["az", "macs:3"]) == {"macs": 3.0}
    assert PROXIES.weights(["macs:3", "az"]) == {"macs": 3.0}
    assert PROXIES.weights(["macs:3", "macs:1"]) == {}


def test_members_of_a_group_may_have_weights():
    registry = ProxyRegistry([a_proxy("one"), a_proxy("two")], groups={"both": ("one:2", "two")})
    assert [p.name for p in registry.resolve(["both"])] == ["one", "two"]
    assert registry.weights(["both:3"]) == {"one": 6.0, "two": 3.0}
    assert registry.weights(["both", "one:1"]) == {}


@pytest.mark.parametrize("weight", ["-1", "inf", "nan"])
def test_a_weight_is_a_number_of_times(weight):
    with pytest.raises(SettingsError, match=f"weight of proxy 'macs' is {weight}; 0 or a positive number is accepted"):
        PROXIES.resolve([f"macs:{weight}"])


def test_the_best_ensemble_holds_az_nas_and_costs_no_further_pass():
    best = PROXIES.resolve(["best"])
    assert {p.name for p in PROXIES.resolve(["az"])} <= {p.name for p in best}
    assert all(p.measurement is None for p in best)
    assert PROXIES.weights(["best"]) == {}
