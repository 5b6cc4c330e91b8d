from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.zoo import exported

OPTIONS = ["--effort", "fast", "--device", "cpu", "--format", "json"]


def test_every_command_takes_names(named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(exported(named))
    assert run(["score", named, path, *OPTIONS]) == 0
    first, second = json.loads(capsys.readouterr().out)["models"]
    assert first["model"] == named
    assert first["expressivity"] == second["expressivity"]

    assert run(["inspect", named, "--format", "json", "--latency"]) == 0
    assert json.loads(capsys.readouterr().out)["macs"] == first["macs"]

    policy = tmp_path / "aznas.toml"
    policy.write_text(f'[gate]\nbaseline = "{named}"\nmax-macs = "1G"\nmax-latency = 1e6\n', encoding="utf-8")
    assert run(["gate", named, "--policy", str(policy), "--format", "json"]) == 0
    gate = json.loads(capsys.readouterr().out)
    assert gate["candidate"] == named
    assert [model["model"] for model in gate["models"]] == [named, named]

    truth = tmp_path / "truth.csv"
    truth.write_text(f"model,top1\n{named},60\n{Path(path).stem},61\n", encoding="utf-8")
    assert run(["bench", named, path, "--truth", str(truth), "-o", str(tmp_path / "scores.jsonl"), *OPTIONS]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2


@pytest.mark.parametrize("command", [["score"], ["inspect"], ["gate", "--no-policy", "--max-macs", "1G"]])
def test_a_library_that_is_not_installed_ends_with_2(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", version)
    assert run([*command, "timm:resnet50"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "aznas: timm:resnet50 is built by timm, which is not installed: pip install 'aznas-onnx[zoo]'"
    )


def test_an_unknown_name_ends_with_2_before_files_are_scored(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "no-such-file.onnx", "torchvision:resnet5O", *OPTIONS]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "did you mean torchvision:resnet" in err
    assert "no-such-file" not in err
