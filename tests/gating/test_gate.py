"""The gate's decisions. Scoring is replaced: a model's name says what its proxies are and how noisy."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aznas_onnx as az
import aznas_onnx.scoring
from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.gating import Decision, GateResult, Inconclusive, budget_check
from aznas_onnx.graph import Model
from aznas_onnx.latency import Latency
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.scoring import ScoreSettings
from tests.gating.networks import residual
from tests.searching.fakes import taking

Draw = Callable[[int], dict[str, float]]


def usual(seed: int, *, noise: float = 0.0, **changes: float) -> dict[str, float]:
    """The proxies of a network under a seed; the noise is another for every name and seed."""
    rng = np.random.default_rng(seed)
    values = {"expressivity": 40.0, "progressivity": -0.5, "trainability": -0.3, "macs": 1e9, "idle_blocks": 0.0}
    values |= changes
    for name in ("expressivity", "progressivity", "trainability"):
        values[name] += noise * float(rng.standard_normal())
    return values


class Scripted:
    """Makes what stands in for sessions, and remembers what was asked for."""

    def __init__(self) -> None:
        self.draws: dict[str, Draw] = {}
        self.calls: list[tuple[str, int, int]] = []
        self.options: dict[str, Any] = {}

    def __call__(self, model: Model, settings: ScoreSettings, **_: Any) -> ScriptedSession:
        self.options = settings.as_json()
        return ScriptedSession(self, model)


class ScriptedSession:
    def __init__(self, script: Scripted, model: Model) -> None:
        self._script, self._model = script, model

    def scores(self, seeds: Sequence[int]) -> ProxyScores:
        name, source = self._model.name, self._model.source
        self._script.calls.append((name, seeds[0], len(seeds)))
        if name == "unscorable":
            raise ModelError("operator Foo is not supported")
        drawn = [self._script.draws[name](one) for one in seeds]
        proxies = {proxy: self._value(proxy, [one[proxy] for one in drawn]) for proxy in drawn[0]}
        warnings = ("block 'b' puts out what it gets: whatever it computes is lost",) * int(drawn[0]["idle_blocks"] > 0)
        return ProxyScores(model=source, status=Status.OK, proxies=proxies, warnings=warnings)

    @staticmethod
    def _value(proxy: str, values: list[float]) -> ProxyValue:
        finite = [value for value in values if math.isfinite(value)]
        if 2 * len(finite) <= len(values):
            return ProxyValue(mean=None, per_seed=tuple(values), reason="the features of block 'x' are constant")
        return ProxyValue(mean=sum(finite) / len(finite), per_seed=tuple(values))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scripted:
    """Two networks on disk, `shipped` and `new`, of equal structure; tests say what they score."""
    monkeypatch.chdir(tmp_path)
    for name in ("shipped", "new", "unscorable"):
        residual(tmp_path / f"{name}.onnx")
    script = Scripted()
    script.draws = {"shipped": usual, "new": usual}
    monkeypatch.setattr(aznas_onnx.scoring, "Session", script)
    return script


def decide(**rules: Any) -> GateResult:
    return az.gate("new.onnx", **{"baseline": ("shipped.onnx",), **rules})


def test_an_equal_network_passes_at_the_first_look(scripted: Scripted) -> None:
    result = decide()
    assert (result.verdict, result.passed, result.seeds, result.reasons) == (Decision.PASS, True, 2, ())
    assert scripted.calls == [("new", 0, 2), ("shipped", 0, 2)]
    assert "signal score equal to shipped.onnx" in result.checks[-1].reason


def test_a_worse_network_is_rejected_with_what_is_worse_first(scripted: Scripted) -> None:
    scripted.draws["new"] = lambda seed: usual(seed, expressivity=30.0, macs=0.2e9, trainability=-0.2)
    result = decide()
    assert (result.verdict, result.passed, result.seeds) == (Decision.REJECT, False, 2)
    (reason,) = result.reasons
    assert reason.endswith("MACs -80 %, expressivity -25 %")


def test_other_proxies_weights_and_aggregation_decide_where_the_policy_names_them(scripted: Scripted) -> None:
    scripted.draws["shipped"] = lambda seed: {**usual(seed), "synflow": 1e40}
    scripted.draws["new"] = lambda seed: {**usual(seed), "synflow": 1e10}
    assert decide().verdict is Decision.PASS
    assert decide(proxies=("az", "synflow:0")).verdict is Decision.PASS
    result = decide(proxies=("az", "synflow"))
    assert "synflow" in scripted.options["proxies"]
    (reason,) = result.reasons
    assert reason.startswith("score ")
    assert reason.endswith("synflow from 1e+40 to 1e+10")
    weighted = decide(proxies=("az", "synflow:2")).checks[-1].value
    assert weighted == pytest.approx(2 * (result.checks[-1].value or 0.0))
    assert decide(proxies=("synflow",), aggregate="linear", tolerance=0.2).verdict is Decision.REJECT


def test_a_proxy_of_ones_own_needs_a_deviation(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from aznas_onnx.proxies import Direction, Need, Outcome, Proxy\n"
        "def evaluate(evidence): return Outcome.of(1.0)\n"
        "MINE = Proxy(name='gate_test_proxy', description='d', equation='e', direction=Direction.LOWER_IS_BETTER,"
        " needs=Need.GRAPH, evaluate=evaluate)\n"
    )
    scripted.draws["shipped"] = lambda seed: {**usual(seed), "gate_test_proxy": 1.0}
    scripted.draws["new"] = lambda seed: {**usual(seed), "gate_test_proxy": 9.0}
    with pytest.raises(SettingsError, match=r"say so in spreads, such as gate_test_proxy = 0\.3"):
        decide(proxies=("az", "mine.py:MINE"))
    assert decide(proxies=("az", "mine.py:MINE"), spreads={"gate_test_proxy": 2.0}).verdict is Decision.REJECT


def test_seeds_are_added_until_noise_allows_a_decision_and_are_the_same_for_both(scripted: Scripted) -> None:
    scripted.draws["new"] = lambda seed: usual(seed + 1000, noise=0.02)
    scripted.draws["shipped"] = lambda seed: usual(seed, noise=0.02)
    result = decide(max_seeds=64, seed=5)
    assert result.verdict is Decision.PASS
    assert result.seeds > 2
    asked = {name: [call[1:] for call in scripted.calls if call[0] == name] for name in ("new", "shipped")}
    assert asked["new"] == asked["shipped"]
    assert asked["new"][:3] == [(5, 2), (7, 2), (9, 4)][: len(asked["new"])]


def test_noise_that_is_common_to_both_needs_no_more_seeds(scripted: Scripted) -> None:
    scripted.draws = {name: lambda seed: usual(seed, noise=0.1) for name in scripted.draws}
    assert decide().seeds == 2


@pytest.mark.parametrize(("meaning", "passed"), [(Inconclusive.PASS, True), (Inconclusive.REJECT, False)])
def test_what_stays_undecided_is_as_the_policy_says(scripted: Scripted, meaning: Inconclusive, passed: bool) -> None:
    scripted.draws["new"] = lambda seed: usual(seed + 1000, noise=3.0)
    result = decide(inconclusive=meaning, max_seeds=4)
    assert (result.verdict, result.passed, result.seeds) == (Decision.INCONCLUSIVE, passed, 4)
    assert "not certain yet" in result.reasons[0]


def test_a_proxy_that_the_candidate_lacks_is_a_rejection_with_its_reason(scripted: Scripted) -> None:
    scripted.draws["new"] = lambda seed: usual(seed, expressivity=-math.inf, progressivity=-math.inf)
    assert decide().reasons == (
        "the features of block 'x' are constant: no expressivity and no progressivity, which shipped.onnx has",
    )


def test_a_proxy_that_both_lack_takes_no_part(scripted: Scripted) -> None:
    scripted.draws = {name: lambda seed: usual(seed, trainability=-math.inf) for name in scripted.draws}
    result = decide()
    assert result.verdict is Decision.PASS
    assert any("trainability takes no part" in warning for warning in result.warnings)


def test_a_value_lost_under_one_seed_of_two_is_no_rejection(scripted: Scripted) -> None:
    scripted.draws["new"] = lambda seed: usual(seed, trainability=-math.inf if seed == 1 else -0.3)
    assert decide().verdict is not Decision.REJECT


def test_a_block_that_does_nothing_is_a_rejection_unless_the_baseline_has_one_too(scripted: Scripted) -> None:
    scripted.draws["new"] = lambda seed: usual(seed, idle_blocks=1.0)
    (reason,) = decide().reasons
    assert reason == ("block 'b' puts out what it gets: whatever it computes is lost (shipped.onnx has 0 such blocks)")
    scripted.draws["shipped"] = scripted.draws["new"]
    assert decide().verdict is Decision.PASS


def test_missing_skips_are_a_rejection_although_every_proxy_is_equal(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "new.onnx", skips=False)
    result = decide()
    assert result.reasons == (
        "skip connections are missing: the shortest path takes 10 of 10 layers, in shipped.onnx 2 of 10",
    )
    assert decide(min_shortcuts=0.0).verdict is Decision.PASS


def test_budgets_are_exact_and_need_no_scores(scripted: Scripted) -> None:
    macs = az.inspect("new.onnx").costs.macs
    assert az.gate("new.onnx", max_macs=macs).passed
    result = az.gate("new.onnx", max_macs=macs - 1, max_params=10**9, max_activation_bytes=1)
    assert [check.verdict for check in result.checks] == [Decision.REJECT, Decision.PASS, Decision.REJECT]
    assert result.reasons[0] == f"{macs:,} MACs, over the budget of {macs - 1:,}"
    assert scripted.calls == []


def test_budgets_alone_load_no_torch(tmp_path: Path) -> None:
    model = residual(tmp_path / "net.onnx")
    decision = f"az.gate({str(model)!r}, max_macs=1).verdict.value"
    code = f"import aznas_onnx as az, sys; print({decision}, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["reject", "False"]


def test_a_rejection_by_budget_spends_no_further_seeds(scripted: Scripted) -> None:
    scripted.draws["new"] = lambda seed: usual(seed + 1000, noise=3.0)
    result = decide(max_macs=1, max_seeds=64)
    assert result.seeds == 2
    assert result.checks[-1].reason.endswith("no more seeds, since the candidate is rejected anyway")
    assert "not pursued" not in decide(max_seeds=4).checks[-1].reason


def test_every_baseline_counts(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "better.onnx")
    scripted.draws["better"] = lambda seed: usual(seed, expressivity=80.0)
    result = decide(baseline=("shipped.onnx", "better.onnx"))
    verdicts = {check.against: check.verdict for check in result.checks if check.rule == "baseline_score"}
    assert verdicts == {"shipped.onnx": Decision.PASS, "better.onnx": Decision.REJECT}


@pytest.mark.parametrize(
    ("floor", "verdict"), [(-0.31, Decision.PASS), (-0.29, Decision.REJECT)], ids=["above", "below"]
)
def test_a_floor_is_kept_or_not(scripted: Scripted, floor: float, verdict: Decision) -> None:
    assert az.gate("new.onnx", floors={"trainability": floor}).verdict is verdict


def test_of_a_proxy_of_which_less_is_better_the_floor_is_a_ceiling(scripted: Scripted) -> None:
    scripted.draws["new"] = lambda seed: usual(seed, idle_blocks=2.0)
    result = az.gate("new.onnx", floors={"idle_blocks": 1.0})
    assert result.verdict is Decision.REJECT
    assert "where at most 1 is demanded" in result.reasons[0]


def test_a_reference_decides_by_percentile_and_lends_its_settings(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "new.onnx", resolution=32)
    middling = {"expressivity": 48.0, "progressivity": -0.2, "trainability": -0.34, "macs": 51e6}
    scripted.draws["new"] = lambda seed: usual(seed, **middling)
    passed = az.gate("new.onnx", reference=("nb201",))
    assert passed.verdict is Decision.PASS
    assert (scripted.options["effort"], scripted.options["batch_size"]) == ("fast", 4)
    demanding = az.gate("new.onnx", reference=("nb201",), min_percentile=90.0)
    assert demanding.verdict is Decision.REJECT
    assert "of nb201, below the demanded 90" in demanding.reasons[0]
    with pytest.raises(SettingsError, match="has effort paper and not fast"):
        az.gate("new.onnx", reference=("nb201",), effort="paper")


def test_a_reference_for_another_input_is_refused(scripted: Scripted) -> None:
    with pytest.raises(SettingsError, match="input shape 3x16x16 and not 3x32x32"):
        az.gate("new.onnx", reference=("nb201",))


def test_a_candidate_that_cannot_be_scored_is_no_rejection(scripted: Scripted) -> None:
    with pytest.raises(ModelError, match=r"unscorable\.onnx: operator Foo is not supported"):
        az.gate("unscorable.onnx", baseline=("shipped.onnx",))


def test_a_gate_without_a_rule_is_refused(scripted: Scripted) -> None:
    with pytest.raises(SettingsError, match="the gate has no rule"):
        az.gate("new.onnx")
    with pytest.raises(SettingsError, match="given twice"):
        az.gate("new.onnx", az.gate("new.onnx", max_macs=10**9).policy, max_macs=5)


@pytest.mark.parametrize(
    ("candidate_ms", "verdict", "word"),
    [
        ((10.0, 10.0, 10.0, 10.0, 10.0), Decision.PASS, "allowed are 1.1 times"),
        ((12.0, 12.5, 12.0, 13.0, 12.0), Decision.REJECT, "more than the allowed 1.1 times"),
        ((12.0, 9.0, 12.0, 13.0, 12.0), Decision.INCONCLUSIVE, "too noisy to tell from the allowed 1.1 times"),
        ((99.0, 10.0, 10.0, 10.0, 10.0), Decision.PASS, "1.00 times shipped.onnx (10 ms)"),
    ],
)
def test_latency_is_compared_round_by_round(
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    candidate_ms: tuple[float, ...],
    verdict: Decision,
    word: str,
) -> None:
    class Fake:
        def __init__(self, model: str, shapes: Any, values: Any) -> None:
            self.left = list(candidate_ms if model == "new.onnx" else (10.0,) * 5)

        def measure(self, **_: int) -> Latency:
            return taking(self.left.pop(0))

    monkeypatch.setattr(budget_check, "Stopwatch", Fake)
    result = decide(max_latency_ratio=1.1)
    (check,) = (check for check in result.checks if check.rule == "max_latency_ratio")
    assert check.verdict is verdict
    assert word in check.reason


def test_latency_is_really_measured(scripted: Scripted) -> None:
    result = az.gate("new.onnx", max_latency=1e6)
    assert result.passed
    assert result.models[0].latency_ms is not None
    assert 0 < result.models[0].latency_ms < 1e6
