"""Scores in bfloat16: close to those in float32, and never mixed with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aznas_onnx import spaces
from aznas_onnx.cli.main import run
from aznas_onnx.errors import SettingsError
from aznas_onnx.gating import Policy
from aznas_onnx.references.reference_set import ReferenceSettings
from aznas_onnx.results import ProxyScores
from aznas_onnx.scoring import ScoreSettings, resolve_device, score

CPU = torch.device("cpu")
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch computes in bfloat16 on any CPU, if slowly."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)


def scored(text: str, *, bf16: bool, proxies: tuple[str, ...] = ("az",)) -> ProxyScores:
    space = spaces.get("nb201")
    return score(
        space.build(space.parse(text)), effort="balanced", batch_size=4, device="cpu", bf16=bf16, proxies=proxies
    )


def values(scores: ProxyScores) -> dict[str, float]:
    return {name: value.mean for name, value in scores.proxies.items() if value.mean is not None}


@pytest.mark.usefixtures("has_bf16")
def test_values_are_close_and_not_equal() -> None:
    plain, narrow = (values(scored(CELL, bf16=bf16)) for bf16 in (False, True))
    assert narrow.keys() == plain.keys()
    assert narrow["macs"] == plain["macs"]
    for name, tolerance in (("expressivity", 0.3), ("progressivity", 0.1), ("trainability", 0.05)):
        assert narrow[name] == pytest.approx(plain[name], abs=tolerance)
        assert narrow[name] != plain[name]


@pytest.mark.usefixtures("has_bf16")
def test_equal_seeds_give_equal_scores() -> None:
    assert values(scored(CELL, bf16=True)) == values(scored(CELL, bf16=True))


@pytest.mark.usefixtures("has_bf16")
def test_statistics_of_the_whole_network_stay_in_float32() -> None:
    plain, narrow = (values(scored(CELL, bf16=bf16, proxies=("synflow",))) for bf16 in (False, True))
    assert narrow == plain


@pytest.mark.usefixtures("no_bf16")
def test_a_device_without_it_is_refused() -> None:
    with pytest.raises(SettingsError, match="device 'cpu' has no instructions for bfloat16; leave bf16 out"):
        scored(CELL, bf16=True)


def test_a_gpu_is_asked_for_instructions_not_for_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match="'cuda:0' has no instructions"):
        resolve_device("cuda:0", bf16=True)
    assert asked == [False]


def test_settings_name_it_only_where_given() -> None:
    assert "bf16" not in ScoreSettings().as_json()
    assert ScoreSettings(bf16=True).as_json()["bf16"] is True
    assert ScoreSettings(bf16=True) != ScoreSettings()


def test_reference_sets_and_gates_are_in_float32() -> None:
    settings = ScoreSettings.of(bf16=True, effort="balanced")
    with pytest.raises(SettingsError, match="a reference set is scored in float32; leave bf16 out"):
        ReferenceSettings.of(settings)
    with pytest.raises(SettingsError, match="no as_published or bf16; leave them out"):
        Policy().scored_by(settings)


@pytest.mark.usefixtures("no_bf16")
@pytest.mark.parametrize("command", ["score", "bench", "search"])
def test_commands_have_it(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(f"arch,top1\n{CELL},90\n{CELL.replace('avg_pool', 'nor_conv')},91\n", encoding="utf-8")
    arguments = {
        "score": [str(truth)],
        "bench": ["nb201", "--truth", str(truth), "-o", str(tmp_path / "scores.jsonl")],
        "search": ["--space", "nb201", "--iterations", "2", "--db", str(tmp_path / "run.db")],
    }
    assert run([command, *arguments[command], "--bf16", "--device", "cpu"]) == 2
    assert "has no instructions for bfloat16" in capsys.readouterr().err
