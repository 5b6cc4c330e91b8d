"""A gate says which files it has judged, by their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.errors import ModelError
from aznas_onnx.gating.file_hashes import FileHashes
from tests.gating.networks import move_weights_out, residual


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_json_has_the_hash_of_the_file_and_of_the_data_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    move_weights_out(residual(tmp_path / "net.onnx"))
    assert run(["gate", "net.onnx", "--no-policy", "--max-macs", "1G", "--format", "json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["sha256"] == sha256(tmp_path / "net.onnx")
    assert model["external_data"] == {"weights.data": sha256(tmp_path / "weights.data")}


def test_a_file_that_has_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx cannot be read: No such file"):
        FileHashes.of(tmp_path / "gone.onnx", ())
