"""`aznas spaces`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import onnx
import pytest

from aznas_onnx.cli.main import run

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"


def output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["spaces", *arguments]) == 0
    return capsys.readouterr().out


def test_the_bare_command_lists_the_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    text = output([], capsys)
    assert text == output(["list"], capsys)
    assert "NAS-Bench-201 cells" in text


@pytest.mark.parametrize(
    ("output_format", "start"), [("csv", "name,description\n"), ("md", "| Space | Description |\n")]
)
def test_the_list_as_a_table_for_other_programs(
    output_format: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output(["list", "--format", output_format], capsys).startswith(start)


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(output(["list", "--format", "json"], capsys))
    assert document["schema"] == "aznas.spaces/1"
    assert "nb201" in {space["name"] for space in document["spaces"]}


def test_show_describes_a_space_as_it_would_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(["show", "nb201", "--classes", "100", "--resolution", "16"], capsys)
    assert text.startswith("nb201: 16x16 images, 100 classes\n")
    assert ":meth:" not in text
    assert "multiply-adds" in text


def test_a_space_gets_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--space-option", "cells=14", "--space-option", "shape=imagenet"]
    text = output(["show", "darts", *options], capsys)
    assert text.startswith("darts: 224x224 images, 1000 classes\n")
    assert text.endswith("15 layers\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space-option", "cells"], "'cells' is not NAME=VALUE, such as cells=20"),
        (["--space-option", "cells=8", "--space-option", "cells=9"], "'cells=9' gives an option a second value"),
        (["--space-option", "resolution=16", "--resolution", "32"], "--space-option gives resolution a second value"),
        (["--space-option", "cells=many"], "space 'darts': cells is 'many'; a positive integer is needed"),
        (["--space-option", "depth=3"], "options are resolution, num_classes, shape, cells, channels"),
    ],
)
def test_space_options_that_are_not_accepted(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["spaces", "show", "darts", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_samples_are_genotypes_one_a_line_and_repeat_with_their_seed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(["sample", "nb201", "--count", "4", "--seed", "7"], capsys).splitlines()
    assert len(set(lines)) == 4
    assert lines == output(["sample", "nb201", "--count", "4", "--seed", "7"], capsys).splitlines()
    assert lines != output(["sample", "nb201", "--count", "4", "--seed", "8"], capsys).splitlines()


def test_samples_with_their_counts(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(output(["sample", "nb201", "--count", "2", "--format", "json"], capsys))
    rows = list(csv.DictReader(io.StringIO(output(["sample", "nb201", "--count", "2", "--format", "csv"], capsys))))
    assert [row["genotype"] for row in rows] == [network["genotype"] for network in document["networks"]]
    assert [int(row["macs"]) for row in rows] == [network["macs"] for network in document["networks"]]


def test_build_writes_a_network_and_its_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    assert run(["spaces", "build", "nb201", CELL, "-o", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "153.3M multiply-adds, 1.073M parameters" in captured.err  # the counts that NATS-Bench publishes
    onnx.checker.check_model(onnx.load(path), full_check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nb2001"], "did you mean nb201"),
        (["build", "nb201", "|bad|", "-o", "net.onnx"], "is not a NAS-Bench-201 cell"),
        (["build", "nb201", CELL, "-o", "missing/net.onnx"], "missing/net.onnx cannot be written"),
        (["sample", "missing.py"], "missing.py cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["spaces", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
