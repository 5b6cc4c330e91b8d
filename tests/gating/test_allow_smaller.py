"""The mode `allow-smaller`: size alone is no defect, and everything else still is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

import aznas_onnx as az
from aznas_onnx.calibration import Calibration
from aznas_onnx.cli.main import run
from aznas_onnx.errors import SettingsError
from aznas_onnx.gating import Decision, GateResult, Policy
from aznas_onnx.gating.policy import COMPARED, FOR_SMALLER
from aznas_onnx.results import ProxyScores
from aznas_onnx.scoring import ScoreSettings
from tests.gating.networks import residual
from tests.gating.test_estimate_check import checks, larger, shipped
from tests.gating.test_gate import Scripted, scripted, usual

__all__ = ["scripted", "shipped"]


def decide(**rules: object) -> GateResult:
    return az.gate("new.onnx", baseline="shipped.onnx", **rules)  # type: ignore[arg-type]


def draw(scripted: Scripted, **changes: float) -> None:
    residual(Path("new.onnx"), width=6)
    scripted.draws["shipped"] = lambda seed: {**usual(seed), "flatness": -0.8}
    scripted.draws["new"] = lambda seed: {**usual(seed, macs=0.2e9, expressivity=20.0), "flatness": -0.8, **changes}


def test_a_smaller_network_is_rejected_unless_that_is_allowed(scripted: Scripted) -> None:
    draw(scripted)
    assert decide(compare="az").verdict is Decision.REJECT
    assert decide(compare="az", allow_smaller=True).verdict is Decision.PASS
    assert decide().verdict is Decision.REJECT
    result = decide(allow_smaller=True)
    assert result.verdict is Decision.PASS
    assert result.compared == ("flatness", "trainability")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"flatness": -math.inf}, "defined"),
        ({"idle_blocks": 1.0}, "defined"),
        ({"trainability": -3.0}, "baseline_score"),
        ({"flatness": -2.8}, "baseline_score"),
    ],
)
def test_what_is_broken_or_trains_badly_is_rejected_all_the_same(
    scripted: Scripted, changes: dict[str, float], rule: str
) -> None:
    draw(scripted, **changes)
    result = decide(allow_smaller=True)
    assert [check.rule for check in result.checks if check.verdict is Decision.REJECT] == [rule]


def test_a_candidate_that_is_not_smaller_is_judged_as_ever(scripted: Scripted, tmp_path: Path) -> None:
    draw(scripted)
    residual(tmp_path / "new.onnx", width=8)
    result = decide(allow_smaller=True)
    assert (result.verdict, result.compared) == (Decision.REJECT, COMPARED)


def test_a_smaller_one_of_another_design_passes_but_for_a_floor(imagenet: Calibration, shipped: ProxyScores) -> None:
    small = larger(shipped, 0.5)
    other = replace(small, design={**small.design, "softmaxes": 1.0})
    (check,) = checks(other, shipped, imagenet, allow_smaller=True)
    assert (check.rule, check.verdict) == ("smaller", Decision.PASS)
    assert check.reason == "smaller than shipped.onnx, which allow-smaller accepts: MACs -50 %, parameters -50 %"
    floor = checks(small, shipped, imagenet, allow_smaller=True, min_estimate=99.0)[-1]
    assert (floor.rule, floor.verdict) == ("min_estimate", Decision.REJECT)


def test_lost_skips_are_a_defect_of_any_size(scripted: Scripted, tmp_path: Path) -> None:
    draw(scripted)
    residual(tmp_path / "new.onnx", skips=False, depth=3)
    assert decide(allow_smaller=True).reasons[0].startswith("skip connections are missing")


def test_real_networks_of_half_the_size_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    residual(tmp_path / "shipped.onnx", width=16, depth=6)
    for width, depth in ((8, 6), (16, 3)):
        residual(tmp_path / "new.onnx", width=width, depth=depth)
        assert decide(effort="fast").verdict is Decision.REJECT
        assert decide(effort="fast", allow_smaller=True).passed


def test_the_mode_chooses_the_proxies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="allow_smaller chooses the proxies, and others are named; drop one"):
        Policy(allow_smaller=True, proxies=("az", "synflow"))
    policy = Policy(allow_smaller=True).scored_by(ScoreSettings.of(effort="fast"))
    assert (policy.proxies, policy.for_smaller.proxies) == (COMPARED, FOR_SMALLER)
    path = residual(tmp_path / "net.onnx")
    assert run(["gate", str(path), "--no-policy", "--max-macs", "1G", "--allow-smaller"]) == 2
    assert "allow-smaller compares with a baseline, and none is named" in capsys.readouterr().err
