"""Mistakes in a space of one's own: each is one sentence that says where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.searching import search
from aznas_onnx.spaces import as_user_error, get
from aznas_onnx.spaces.nb201 import NasBench201
from tests.searching.fakes import DigitSpace, FakeScorer

SOUND = """\
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces import GenotypeError, Space, choose

class Tiny(Space[int]):
    name = "tiny"
    default_resolution = 8

    def sample(self, rng):
        return choose((8, 16, 24, 32), rng)

    def mutate(self, genotype, rng, changes=1):
        return self.sample(rng)

    def parse(self, text):
        if not text.isdigit():
            raise GenotypeError(f"{text!r} is no width")
        return int(text)

    def format(self, genotype):
        return str(genotype)

    def validate(self, genotype):
        if genotype not in (8, 16, 24, 32):
            raise GenotypeError(f"{genotype!r} is none of 8, 16, 24, 32")

    def build(self, genotype):
        net = GraphBuilder(self.name)
        x = net.image_input(3, self.resolution)
        for name, before in (("a", 3), ("b", genotype)):
            x = net.relu(net.conv_bn(x, name, before, genotype, kernel=3), f"{name}.relu")
            net.declare_block(x)
        return net.model(net.classifier(x, "head", genotype, num_classes=self.num_classes))

SPACE = Tiny
"""


def write(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in SOUND
    path = folder / "tiny.py"
    path.write_text(SOUND.replace(old, new) if old else SOUND)
    return path


def test_a_sound_space_is_used_up(tmp_path: Path) -> None:
    study = search(write(tmp_path), iterations=1000, scorer=FakeScorer())
    assert sorted(trial.genotype for trial in study.trials) == ["16", "24", "32", "8"]
    assert study.stopped is not None
    assert study.stopped.startswith("no new candidate of tiny in 20,000 tries: 20,000 were genotypes that are scored")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    def build",
            "    def canonical(self, genotype):\n        return genotype\n\n    def build",
            r"start\(\) gives \d+, and canonical\(\) of it \d+; a text or None is needed",
        ),
        (
            "    def build",
            "    def canonical(self, genotype):\n        return genotype.text\n\n    def build",
            r"fails to give the canonical text of '\d+': AttributeError",
        ),
        ("choose((8", "choice((8", "fails to give a start: NameError: name 'choice' is not defined .*tiny.py, line 9"),
        ("choose((8, 16, 24, 32), rng)", "[8]", r"start\(\) gives \[8\], which cannot be hashed; let a genotype be"),
        (
            ", rng, changes=1",
            "",
            r"fails to mutate '\d+': TypeError: Tiny.mutate\(\) takes 2 positional arguments but 4",
        ),
        ("return self.sample(rng)", "return 9", r"mutate\(\) gives 9, which the space itself refuses: 9 is none of 8,"),
        ("return self.sample(rng)", "pass", r"mutate\(\) gives None, which the space itself refuses: None is none"),
        ("return str(genotype)", "str(genotype)", r"and format\(\) of it None; one line of text is needed"),
        ("str(genotype)", r'f"{genotype}\n{genotype}"', "one line of text is needed"),
        ("return int(text)", "int(text)", r"but parse\(\) of its text '\d+' gives None, which is not equal"),
        ("return int(text)", "return int(text[0]) / 0", "fails to parse .*: ZeroDivisionError: .*tiny.py, line 17"),
        ("default_resolution = 8", "__init__ = lambda self: 1 / 0", "cannot be made: ZeroDivisionError"),
    ],
)
def test_a_mistake_is_found_before_there_is_a_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(AznasError, match=message) as caught:
        search(write(tmp_path, old, new), iterations=5, scorer=FakeScorer(), db=tmp_path / "run.db")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run.db").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("GraphBuilder(self", "GraphBilder(self", r"fails to build '\d+': NameError: .*tiny.py, line 27\)"),
        ("return net.model", "net.model", r"build\(\) gives a NoneType; an onnx.ModelProto is needed"),
        ('("b", genotype)', '("b", genotype + 1)', r"node 'b.conv' \(Conv\) does not fit its inputs"),
    ],
)
def test_a_mistake_in_build_is_found_when_the_first_network_is_counted(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(AznasError, match=message):
        search(write(tmp_path, old, new), iterations=5, scorer=FakeScorer())


class LateMistake(DigitSpace):
    """Its mutation fails for some genotypes only, which no rehearsal finds."""

    calls = 0

    def mutate(self, genotype: tuple[int, ...], rng: np.random.Generator, changes: int = 1) -> tuple[int, ...]:
        type(self).calls += 1
        if type(self).calls > 40:
            raise KeyError("nine")
        return super().mutate(genotype, rng, changes)


def test_a_mistake_that_shows_late_is_a_sentence_too() -> None:
    with pytest.raises(
        SettingsError, match=r"'digits' fails to give a candidate: KeyError: 'nine' \(.*test_user_spaces.py"
    ):
        search(LateMistake(), iterations=200, scorer=FakeScorer())


def test_errors_of_bundled_spaces_are_ours() -> None:
    with pytest.raises(ZeroDivisionError), as_user_error(NasBench201(), "divide"):
        _ = 1 / 0


def test_a_space_in_a_file_is_looked_at_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fails to give a start"):
        get(write(tmp_path, "choose((8", "choice((8"))
