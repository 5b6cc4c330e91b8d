"""Reference sets from a space of one's own that makes mistakes, and from networks that do not compare."""

from __future__ import annotations

import importlib
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import aznas_onnx.scoring.score_models
from aznas_onnx.cli.main import run
from aznas_onnx.references import ReferenceSet
from aznas_onnx.references.build import build_from_models
from aznas_onnx.results import ProxyScores
from tests.gating.networks import fix_batch, residual

SPACE = """\
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces import GenotypeError, Space, choose

class Tiny(Space[int]):
    name = "tiny"
    default_resolution = 8
    draws = 0

    def sample(self, rng):
        self.draws += 1
        return choose((8, 16, 24), rng)

    def mutate(self, genotype, rng, changes=1):
        return genotype

    def parse(self, text):
        return int(text)

    def format(self, genotype):
        return str(genotype)

    def validate(self, genotype):
        if genotype not in (8, 16, 24):
            raise GenotypeError(f"{genotype!r} is none of 8, 16, 24")

    def build(self, genotype):
        net = GraphBuilder(self.name)
        x = net.image_input(3, self.resolution)
        for name, before in (("a", 3), ("b", genotype)):
            x = net.relu(net.conv_bn(x, name, before, genotype, kernel=3), f"{name}.relu")
            net.declare_block(x)
        return net.model(net.classifier(x, "head", genotype, num_classes=4))

SPACE = Tiny
"""

BUILD = ["reference", "build", "-o", "ours.json", "--effort", "fast"]
FROM_SPACE = [*BUILD, "--space", "tiny.py", "--sample", "3"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_space(folder: Path, old: str = "", new: str = "") -> None:
    assert old in SPACE
    (folder / "tiny.py").write_text(SPACE.replace(old, new) if old else SPACE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "self.draws += 1",
            "self.draws += 1; assert self.draws < 8",  # after the rehearsal
            "space 'tiny' fails to give a sample: AssertionError: (",
        ),
        (
            "    def build(",
            "    def macs(self, genotype):\n        return 1 // 0\n\n    def build(",
            "space 'tiny' fails to count '",
        ),
        (
            "net = GraphBuilder(self.name)",
            "return self.missing",
            "space 'tiny' fails to build '",
        ),
        ("return net.model(", "return str(", "space 'tiny': build() gives a str; an onnx.ModelProto is needed"),
    ],
)
def test_a_mistake_in_a_space_of_ones_own_is_a_sentence(
    old: str, new: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_space(folder, old, new)
    assert run([*FROM_SPACE, "--flops", "1:1G"]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert ("tiny.py, line " in captured) == ("fails to" in captured)
    assert not Path("ours.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "net = GraphBuilder(self.name)",
            "net = GraphBuilder({8: 'a', 24: 'b'}[genotype])",
            "aznas: space 'tiny' fails to build '16': KeyError: 16 (",
        ),
        ("(3, self.resolution)", "(3, 8 + genotype % 16)", "aznas: 16 takes 3x8x8, and the networks before it 3x16x16"),
    ],
)
def test_a_network_of_a_space_that_does_not_compare_is_left_out_with_its_reason(
    old: str, new: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_space(folder, old, new)
    assert run(FROM_SPACE) == 3
    captured = capsys.readouterr()
    assert captured.out == "ours.json: 2 networks of tiny\n"
    assert message in captured.err


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let Ctrl-C be pressed while the network is scored whose number a test puts here."""
    real, left = aznas_onnx.scoring.score_models.attempt, [-1]

    def score(*arguments: Any) -> ProxyScores:
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)
        left[0] -= 1
        return real(*arguments)

    monkeypatch.setattr(aznas_onnx.scoring.score_models, "attempt", score)
    return left


@pytest.mark.parametrize("arguments", [["a.onnx", "b.onnx", "c.onnx"], ["--space", "tiny.py", "--sample", "3"]])
def test_an_interruption_keeps_what_was_scored(
    arguments: list[str], folder: Path, interrupted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_space(folder)
    for name in "abc":
        residual(folder / f"{name}.onnx", width=4, depth=2)
    interrupted[0] = 2
    assert run([*BUILD, *arguments]) == 130
    captured = capsys.readouterr()
    assert captured.out.startswith("ours.json: 2 networks")
    assert captured.err == "aznas: interrupted after 2 of 3 networks; those that were scored are kept\n"
    kept = ReferenceSet.read("ours.json")
    assert len(kept.members) == 2
    assert kept.settings.input_shape[0] == 3
    assert kept.command.endswith("  # interrupted after 2 of 3")


def test_an_interruption_before_two_were_scored_writes_nothing(
    folder: Path, interrupted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_space(folder)
    interrupted[0] = 1
    assert run(FROM_SPACE) == 130
    assert capsys.readouterr().err.strip() == "aznas: interrupted"
    assert not Path("ours.json").exists()


def test_an_interrupted_addition_keeps_what_was_there_and_what_was_scored(
    folder: Path, interrupted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcd":
        residual(folder / f"{name}.onnx", width=4, depth=2)
    assert run([*BUILD, "a.onnx", "b.onnx"]) == 0
    interrupted[0] = 1
    assert run(["reference", "add", "ours.json", "c.onnx", "d.onnx"]) == 130
    captured = capsys.readouterr()
    assert captured.out.endswith("ours.json: 3 networks\n")
    assert captured.err == "aznas: interrupted after 1 of 2 networks; those that were scored are kept\n"
    assert [member.model for member in ReferenceSet.read("ours.json").members] == ["a.onnx", "b.onnx", "c.onnx"]


def test_a_network_of_another_batch_size_is_refused_before_anything_is_scored(
    folder: Path, interrupted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcd":
        residual(folder / f"{name}.onnx", width=4, depth=2)
    fix_batch(folder / "c.onnx", 2)
    fix_batch(folder / "d.onnx", 4)
    said = "c.onnx works at batch size 2 only, and the reference is scored at 4; export it with an open batch"
    assert run([*BUILD, "a.onnx", "b.onnx", "d.onnx"]) == 0  # 4 is what fast means
    before = Path("ours.json").read_bytes()
    capsys.readouterr()
    interrupted[0] = 0
    for arguments in (
        [*BUILD, "a.onnx", "b.onnx", "c.onnx"],
        ["reference", "add", "ours.json", "c.onnx"],
        ["score", "c.onnx", "--reference", "ours.json"],
    ):
        assert run(arguments) == 2
        assert said in capsys.readouterr().err
    assert Path("ours.json").read_bytes() == before


def test_networks_that_work_at_one_batch_size_make_a_reference_of_that_size(folder: Path) -> None:
    for name in "ab":
        fix_batch(residual(folder / f"{name}.onnx", width=4, depth=2), 2)
    assert run([*BUILD, "a.onnx", "b.onnx", "--batch-size", "2"]) == 0
    assert ReferenceSet.read("ours.json").settings.batch_size == 2


def test_doubts_are_reported_for_each_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = aznas_onnx.scoring.score_models.attempt

    def score(name: str, *arguments: Any) -> ProxyScores:
        return replace(real(name, *arguments), warnings=("a doubt",) if name == "b.onnx" else ())

    monkeypatch.setattr(aznas_onnx.scoring.score_models, "attempt", score)
    for name in "ab":
        residual(folder / f"{name}.onnx", width=4, depth=2)
    assert run([*BUILD, "a.onnx", "b.onnx"]) == 0
    assert capsys.readouterr().err == "warning: b.onnx: a doubt\n"


def test_a_reference_of_other_proxies_is_added_to_and_placed_in_by_these(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        residual(folder / f"{name}.onnx", width=4 + ord(name) % 3, depth=2)
    options: dict[str, Any] = {
        "effort": "fast",
        "device": "cpu",
        "proxies": ["layers", "macs"],
        "blocks": ["blocks.*.relu"],
    }
    build_from_models(["a.onnx", "b.onnx"], name="ours", **options).write("ours.json")
    assert ReferenceSet.read("ours.json").settings.blocks == ("blocks.*.relu",)

    assert run(["reference", "add", "ours.json", "c.onnx"]) == 0
    assert ReferenceSet.read("ours.json").proxies == ("layers", "macs")
    capsys.readouterr()
    assert run(["score", "c.onnx", "--reference", "ours.json", "--format", "json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert set(model["percentiles"]) == {"layers", "macs"}

    for arguments, said in {
        (
            "--proxies",
            "trainability",
        ): "trainability cannot be placed in reference set 'ours', which holds layers",
        ("--blocks", "stem.relu"): "it has blocks stem.relu and not blocks.*.relu; leave these options out",
    }.items():
        assert run(["score", "c.onnx", "--reference", "ours.json", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_no_file_is_read_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    preparing = importlib.import_module("aznas_onnx.graph.pipeline")
    load = preparing.load
    monkeypatch.setattr(
        preparing, "load", lambda source, *given, **options: read.append(source) or load(source, *given, **options)
    )
    for name in "abc":
        residual(folder / f"{name}.onnx", width=4, depth=2)
    assert run([*BUILD, "a.onnx", "b.onnx"]) == 0
    assert read == ["a.onnx", "b.onnx"]
    assert run(["reference", "add", "ours.json", "c.onnx"]) == 0
    assert run(["score", "a.onnx", "b.onnx", "--reference", "ours.json"]) == 0
    assert read[2:] == ["c.onnx", "a.onnx", "b.onnx"]
    monkeypatch.setattr("aznas_onnx.references.sample_input._KEPT_BYTES", 0)
    assert run(["score", "a.onnx", "--reference", "ours.json"]) == 0
    assert read[5:] == ["a.onnx", "a.onnx"]
