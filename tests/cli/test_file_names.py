"""Names of files are bytes: what is no text must be shown, and never end in a traceback."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from aznas_onnx.cli.main import run
from tests.graph.builders import network, save, weights

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
NAME = os.fsdecode(b"no\xe9file")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / NAME
    made.mkdir()
    return made


@pytest.fixture
def model(folder: Path) -> Path:
    return save(network("a = Conv (x, w)  y = Relu (a)", {"x": ("N", 3, 8, 8)}, {"w": weights(4, 3, 3, 3)}),
                folder / f"{NAME}.onnx")  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", f"{NAME}.onnx"],
        ["score", f"{NAME}.onnx", "--batch-size", "2"],
        ["export", f"{NAME}.db", "-o", f"{NAME}.out"],
        ["reference", "show", f"{NAME}.json"],
        ["reference", "build", "-o", f"{NAME}.json", f"{NAME}.onnx", "--batch-size", "2"],
        ["bench", "nb201", "--truth", f"{NAME}.csv"],
        ["report", f"{NAME}.jsonl", "--truth", f"{NAME}.csv", "-o", f"{NAME}.md"],
        ["spaces", "show", f"{NAME}.py:SPACE"],
        ["proxies", NAME],
        ["score", "plain.onnx", "--proxies", f"{NAME}.py:PROXY"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]).replace(NAME, "NAME"),
)
def test_what_is_not_there_is_said_in_one_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("aznas: ")]
    assert said
    assert all(line.isprintable() and line.count("\\udce9") <= 2 for line in said)


@pytest.mark.parametrize("output_format", ["table", "json", "csv", "md"])
def test_a_file_is_inspected_in_every_format(
    output_format: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(model), "--format", output_format]) == 0
    output = capsys.readouterr().out
    if output_format == "json":
        assert json.loads(output)["macs"] > 0


def test_what_is_wrong_with_a_file_names_it_once(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(model), "--cut-at", "nowhere"]) == 2
    assert capsys.readouterr().err.count("file.onnx") == 1


@pytest.mark.slow
def test_a_file_is_scored_and_kept_in_a_reference(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["score", str(model), "--batch-size", "2", "--device", "cpu"]) == 0
    reference_set = folder / f"{NAME}.json"
    other = save(network("a = Conv (x, w)  y = Relu (a)", {"x": ("N", 3, 8, 8)}, {"w": weights(8, 3, 3, 3)}),
                 folder / "other.onnx")  # fmt: skip
    assert run(["reference", "build", "-o", str(reference_set), str(model), str(other), "--batch-size", "2"]) == 0
    assert run(["reference", "show", str(reference_set)]) == 0
    capsys.readouterr()
