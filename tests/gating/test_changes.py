"""What was done to a graph before it was judged stands in every report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aznas_onnx.cli.main import run
from tests.gating.networks import quantise_activation, residual


def test_a_quantised_network_is_said_to_be_judged_without_its_quantisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    quantise_activation(residual(tmp_path / "net.onnx"))
    options = ["gate", "net.onnx", "--no-policy", "--max-macs", "1G"]
    assert run(options) == 0
    shown = capsys.readouterr()
    assert "\n  changed net.onnx: fake quantisation taken out of 1 tensor" in shown.out
    assert "warning: net.onnx: judged without its quantisation\n" in shown.err
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "- changed: net.onnx: fake quantisation taken out of 1 tensor" in summary
    assert "- warning: net.onnx: judged without its quantisation\n" in summary
    assert run([*options, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["models"][0]["changes"][0].startswith("fake quantisation taken out of 1 tensor")
    assert document["warnings"] == ["net.onnx: judged without its quantisation"]


def test_a_graph_that_stays_as_it_is_needs_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    residual(tmp_path / "net.onnx")
    assert run(["gate", "net.onnx", "--no-policy", "--max-macs", "1G"]) == 0
    assert "changed" not in capsys.readouterr().out
