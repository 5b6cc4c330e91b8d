"""`aznas reference`, and `aznas score --reference`, with real scores of small networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.references import BUNDLED, ReferenceSet
from tests.gating.networks import residual


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for width in (4, 6, 8):
        residual(tmp_path / f"net{width}.onnx", width=width, depth=2)
    return tmp_path


BUILD = ["reference", "build", "-o", "ours.json", "--effort", "fast"]


def test_a_reference_set_is_built_shown_extended_and_placed_in(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*BUILD, "net4.onnx", "net6.onnx"]) == 0
    assert capsys.readouterr().out == "ours.json: 2 networks\n"
    assert run(["reference", "add", "ours.json", "net8.onnx", "net4.onnx"]) == 0
    assert capsys.readouterr().out == "ours.json: 3 networks, 2 of them scored now\n"
    reference_set = ReferenceSet.read("ours.json")
    assert (reference_set.name, reference_set.settings.effort, reference_set.settings.input_shape) == (
        "ours",
        "fast",
        (3, 16, 16),
    )

    assert run(["reference", "show", "ours.json"]) == 0
    shown = capsys.readouterr().out
    assert "scored at 3x16x16, effort fast, batch 4, 1 seed" in shown
    assert "expressivity" in shown

    assert run(["score", "net8.onnx", "--reference", "ours.json", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (model,) = document["models"]
    assert (document["reference"], document["settings"]["effort"]) == ("ours", "fast")
    assert model["percentiles"]["macs"] == pytest.approx(100 * 2.5 / 3, abs=0.01)
    assert (model["az_score"] < 0, model["rank"]) == (True, 1)
    assert model["expressivity"] == pytest.approx(reference_set.members[2].values["expressivity"], rel=1e-6)

    assert run(["score", "net8.onnx", "net4.onnx", "--reference", "ours.json"]) == 0
    table = capsys.readouterr().out
    assert "centile" in table
    assert "net8.onnx: percentiles in ours: expressivity" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "net4.onnx", "--reference", "ours.json", "--effort", "paper"], "has effort paper and not fast"),
        (["score", "net4.onnx", "--reference", "ours.json", "--batch-size", "8"], "has batch size 8 and not 4"),
        (["score", "net4.onnx", "--reference", "nb201"], "input shape 3x16x16 and not 3x32x32; export the network"),
        (["reference", "add", "ours.json", "big.onnx"], "input shape 3x32x32 and not 3x16x16; export the network"),
        (["gate", "net4.onnx", "--reference", "ours.json", "--keep-graph"], "has keep graph true and not false"),
    ],
)
def test_other_settings_are_refused_with_the_remedy(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    residual(folder / "big.onnx", width=4, depth=2, resolution=32)
    assert run([*BUILD, "net4.onnx", "net6.onnx"]) == 0
    before = Path("ours.json").read_bytes()
    assert run(arguments) == 2
    assert message in capsys.readouterr().err
    assert Path("ours.json").read_bytes() == before


def test_networks_that_fail_are_reported_and_the_rest_stored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.onnx").write_bytes(b"nothing")
    assert run([*BUILD, "net4.onnx", "bad.onnx", "net6.onnx"]) == 3
    captured = capsys.readouterr()
    assert captured.out == "ours.json: 2 networks\n"
    assert "aznas: bad.onnx" in captured.err


def test_the_time_for_reading_is_given_as_its_refusal_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    networks = ["net4.onnx", "net6.onnx"]
    assert run([*BUILD, *networks, "--time-limit", "1e-9"]) == 2
    assert "or allow more with --time-limit SECONDS" in capsys.readouterr().err
    assert run([*BUILD, *networks, "--time-limit", "60"]) == 0
    assert run(["reference", "add", "ours.json", "net8.onnx", "--time-limit", "1e-9"]) == 2
    assert "or allow more with --time-limit SECONDS" in capsys.readouterr().err
    assert run(["reference", "add", "ours.json", "net8.onnx", "--time-limit", "60"]) == 0


def test_a_space_is_sampled_within_its_budget(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--space", "nb201", "--resolution", "8", "--flops", "1M:4M", "--sample", "3", "--name", "small cells"]
    assert run([*BUILD, *options]) == 0
    reference_set = ReferenceSet.read("ours.json")
    assert (reference_set.name, reference_set.description) == ("small cells", "nb201, MACs 1M to 4M")
    assert all(1e6 <= (member.values["macs"] or 0) <= 4e6 for member in reference_set.members)
    assert len({member.model for member in reference_set.members}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "built from networks or from a --space; give one of the two"),
        (["--space", "nb201", "net4.onnx"], "give one of the two"),
        (["--space", "nb201", "--flops", "1:2", "--sample", "2"], "only 0 different networks of nb201 were found"),
        (
            ["net4.onnx", "big.onnx"],
            "must have one input size, and these have 3x16x16 (net4.onnx) and 3x32x32 (big.onnx)",
        ),
        (["net4.onnx"], "needs two networks that can be scored, and 1 was given"),
    ],
)
def test_what_cannot_be_built_is_a_sentence(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    residual(folder / "big.onnx", width=4, depth=2, resolution=32)
    assert run([*BUILD, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("ours.json").exists()


def test_what_ships_is_listed_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reference", "show", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)["references"]
    assert [one["name"] for one in listed] == [bundled.name for bundled in BUNDLED]
    assert all(one["command"].startswith("aznas reference build ") for one in listed)
