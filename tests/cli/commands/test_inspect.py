"""`aznas inspect`, on real files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

import aznas_onnx.verify
from aznas_onnx.cli.main import run
from tests.cli.samples import verification

CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
chain (float[N, C, 8, 8] image, bool[1] flag) => (float[N, 4, 8, 8] y)
<int64[4] shape1 = {8, 3, 3, 3}, int64[4] shape2 = {4, 8, 3, 3}>
{
    w1 = ConstantOfShape (shape1)
    w2 = ConstantOfShape (shape2)
    a = Conv <pads = [1, 1, 1, 1]> (image, w1)
    b = Relu (a)
    y = Conv <pads = [1, 1, 1, 1]> (b, w2)
}
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A file with a dimension left open and an input that carries no samples."""
    path = tmp_path / "chain.onnx"
    onnx.save(onnx.parser.parse_model(CHAIN), path)
    return path


def inspect_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["inspect", "--format", "json", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_zoo_graph_has_the_counts_of_its_architecture(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = inspect_json([str(zoo / "light_squeezenet.onnx")], capsys)
    assert document["params"] == 1_235_496
    assert sum(block["kind"] == "inception" for block in document["blocks"]) == 8  # the fire modules
    assert document["unsupported"] == {}


@pytest.mark.parametrize("output_format", ["table", "json", "csv", "md"])
def test_every_format_is_written(output_format: str, zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(zoo / "light_squeezenet.onnx"), "--format", output_format]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) >= 9
    assert captured.err == ""


def test_open_dimensions_are_named_and_can_be_given(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(chain)]) == 2
    assert "--input image=" in capsys.readouterr().err
    for shape in ("image=1x3x8x8", "1x3x8x8"):
        document = inspect_json([str(chain), "--input", shape], capsys)
        assert document["macs"] == 64 * 9 * (3 * 8 + 8 * 4)
        assert document["params"] == 9 * (3 * 8 + 8 * 4)


def test_doubts_go_to_stderr_and_into_the_document(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(chain), "--input", "1x3x8x8", "--format", "json"]) == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert "warning: input 'flag' (bool) carries no samples and is filled with true" in lines
    assert [f"warning: {text}" for text in json.loads(captured.out)["warnings"]] == lines


def test_blocks_can_be_named(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = inspect_json([str(chain), "--input", "1x3x8x8", "--blocks", "b"], capsys)
    assert [(block["output"], block["kind"]) for block in document["blocks"]] == [("b", "declared")]
    assert document["outside_blocks"]["macs"] == 64 * 9 * 8 * 4


def test_nodes_are_listed_on_request(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(chain), "--input", "1x3x8x8", "--nodes", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["operator"] for row in rows if row["macs"] != "0"] == ["Conv", "Conv"]


def test_verification_runs_both_and_compares(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = inspect_json([str(zoo / "light_squeezenet.onnx"), "--verify"], capsys)
    assert document["verification"]["agrees"]
    assert document["verification"]["relative_difference"] < 1e-4


def test_a_difference_is_shown_and_is_status_2(
    chain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aznas_onnx.verify, "verify", lambda *args, **kwargs: verification(agrees=False))
    assert run(["inspect", str(chain), "--input", "1x3x8x8", "--verify"]) == 2
    captured = capsys.readouterr()
    assert "DIFFERS FROM ONNX Runtime: difference 2.5e-01 at 'logits'" in captured.out
    assert "differs from ONNX Runtime" in captured.err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"hello world\n", "is not an ONNX file"), (None, "does not exist")],
)
@pytest.mark.parametrize("command", ["inspect", "score"])
def test_a_bad_file_is_one_sentence_and_status_2(
    command: str, content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    assert run([command, str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.count("model.onnx") == 1
