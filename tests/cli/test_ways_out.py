"""`--cut-at` and `--value` on every command that reads files, and what is refused without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from aznas_onnx.cli.main import run
from tests.graph.builders import network, save, weights
from tests.graph.meaning.test_float_outputs import detector, steered

CUT = ["--cut-at", "boxes", "--cut-at", "scores"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(detector(), tmp_path / "detector.onnx")
    save(steered(), tmp_path / "steered.onnx")
    return tmp_path


def document(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run([*arguments, "--format", "json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.usefixtures("folder")
class TestDetector:
    def test_inspect_counts_what_it_can_and_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["inspect", "detector.onnx"]) == 0
        out, err = capsys.readouterr()
        assert "NOT COUNTED" in out
        assert "warning: counts are incomplete: node 'NonMaxSuppression_8'" in err

    @pytest.mark.parametrize(
        "arguments", [["score"], ["gate", "--max-macs", "1G"], ["gate", "--baseline", "detector.onnx"]]
    )
    def test_others_refuse_and_name_the_option(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run([*arguments, "detector.onnx"]) == 2
        err = capsys.readouterr().err
        assert "(NonMaxSuppression) makes a tensor whose shape depends on data" in err
        assert "--cut-at boxes" in err

    def test_cut_before_it_has_a_score(self, capsys: pytest.CaptureFixture[str]) -> None:
        inspected = document(["inspect", "detector.onnx", *CUT], capsys)
        scored = document(["score", "detector.onnx", *CUT, "--effort", "fast"], capsys)
        assert inspected["unsupported"] == {}
        assert scored["models"][0]["macs"] == inspected["macs"]
        assert scored["settings"]["cut_at"] == ["boxes", "scores"]

    def test_it_passes_the_gate(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["gate", "detector.onnx", "--baseline", "detector.onnx", "--effort", "fast", *CUT]
        assert document(arguments, capsys)["passed"]

    def test_a_policy_may_say_it(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "aznas.toml").write_text('[gate]\nmax-macs = "1G"\ncut-at = ["boxes", "scores"]\n')
        assert document(["gate", "detector.onnx"], capsys)["policy"]["cut_at"] == ["boxes", "scores"]

    def test_a_reference_set_is_built_of_such(self, folder: Path) -> None:
        wide = detector()
        wide.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights(8, 3, 3, 3, seed=1), "w"))
        save(wide, folder / "other.onnx")
        build = ["reference", "build", "-o", "ours.json", "--effort", "fast", *CUT]
        assert run([*build, "detector.onnx", "other.onnx"]) == 0
        assert run(["reference", "add", "ours.json", "other.onnx", *CUT]) == 0


@pytest.mark.usefixtures("folder")
class TestSteered:
    def test_the_value_decides(self, capsys: pytest.CaptureFixture[str]) -> None:
        wide = document(["score", "steered.onnx", "--value", "rate=16000", "--effort", "fast"], capsys)
        narrow = document(["score", "steered.onnx", "--value", "rate=8000", "--effort", "fast"], capsys)
        assert wide["models"][0]["macs"] > narrow["models"][0]["macs"]
        assert wide["settings"]["values"] == {"rate": 16000}

    def test_a_policy_may_say_it(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "aznas.toml").write_text('[gate]\nmax-macs = "1G"\n[gate.values]\nrate = 16000\n')
        assert document(["gate", "steered.onnx"], capsys)["passed"]
        (folder / "aznas.toml").write_text('[gate]\nmax-macs = "1G"\n[gate.values]\nrate = "fast"\n')
        assert run(["gate", "steered.onnx"]) == 2
        assert "a table of inputs and numbers, true or false is accepted" in capsys.readouterr().err

    def test_without_it_the_refusal_names_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["score", "steered.onnx"]) == 2
        assert "what decides is input 'rate': give --value rate=..." in capsys.readouterr().err


def test_a_label_beside_probabilities_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "h = MatMul (x, w)  r = Relu (h)  g = MatMul (r, v)  y = Softmax (g)  label = ArgMax <axis = 1> (g)"
    model = network(body, {"x": ("N", 8)}, {"w": weights(8, 8), "v": weights(8, 4)}, outputs=("label", "y"))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    save(model, folder / "classifier.onnx")
    scored = document(["score", "classifier.onnx", "--effort", "fast"], capsys)
    assert any("'label' (int64)" in change for change in scored["models"][0]["changes"])
