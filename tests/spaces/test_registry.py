from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.spaces import Space, get, records
from aznas_onnx.spaces.nb201 import NasBench201
from aznas_onnx.spaces.registry import ENTRY_POINT_GROUP

_A_SPACE = """
from aznas_onnx.spaces.nb201 import NasBench201
class Mine(NasBench201):
    name = "mine"
SPACE = Mine
"""


def write(folder: Path, text: str) -> str:
    path = folder / "my_space.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def offer(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """Pretend that an installed package offers spaces."""
    found = [metadata.EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in points]
    monkeypatch.setattr(metadata, "entry_points", lambda group: found if group == ENTRY_POINT_GROUP else [])


def test_options_reach_the_space() -> None:
    assert (get("mbv2").resolution, get("mbv2").num_classes) == (224, 1000)
    space = get("mbv2", resolution=192, num_classes=10)
    assert (space.resolution, space.num_classes) == (192, 10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nb201", {"resolution": 0}, "'nb201': resolution is 0; a positive integer"),
        ("nb201", {"resolution": 30}, "a multiple of 4"),
        ("autoformer-tiny", {"resolution": 100}, "a multiple of 16"),
        ("mbv2", {"num_classes": 2.5}, "num_classes is 2.5"),
        ("mbv2", {"num_classes": True}, "num_classes is True"),
        ("mbv2", {"classes": 10}, "unexpected keyword argument 'classes'; options are resolution, num_classes"),
    ],
)
def test_options_that_are_not_accepted(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        get(name, **options)
    assert message in str(caught.value)


def test_an_unknown_name_suggests_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match="did you mean autoformer-tiny"):
        get("autoformer-tine")
    with pytest.raises(UnknownNameError, match="there are nb201, mbv2"):
        get("zzz")


def test_a_space_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, _A_SPACE)
    space = get(path, num_classes=3)
    assert (space.name, space.num_classes) == ("mine", 3)
    assert type(get(Path(path))) is type(space)  # so that genotypes of one are those of the other
    assert type(get(os.path.relpath(path))) is type(space)


def test_a_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    path = write(tmp_path, _A_SPACE)
    assert get(path).name == "mine"
    write(tmp_path, _A_SPACE.replace("mine", "renamed"))
    os.utime(path, ns=(1, 1))
    assert get(path).name == "renamed"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "defines no space; let its last line be SPACE = YourSpace"),
        ("SPACE = 3", "defines no space"),
        ("SPACE = dict", "gives a dict; a subclass of aznas_onnx.spaces.Space is needed"),
        ("1 / 0", "fails to load: ZeroDivisionError: division by zero"),
        ("class A(", "fails to load: SyntaxError"),
        ("raise OSError('two\\nlines')", "fails to load: OSError: two lines"),
        (
            "from aznas_onnx.spaces import Space as SPACE",
            "does not define build, format, mutate, parse, sample, validate",
        ),
        (_A_SPACE.replace('"mine"', "None"), "class Mine has no name"),
    ],
)
def test_a_file_that_holds_no_space(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        get(write(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        get(tmp_path / "missing.py")


def test_an_installed_package_offers_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("theirs", "aznas_onnx.spaces.nb201:NasBench201"), ("nb201", "nowhere:Thing"))
    assert [record.name for record in records()].count("nb201") == 1  # a bundled space cannot be replaced
    assert isinstance(get("theirs"), NasBench201)
    assert get("nb201").name == "nb201"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder for `sys.path` with what pip leaves there of a package that offers a space."""
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "__init__.py").write_text("")
    (tmp_path / "their_package" / "space.py").write_text(_A_SPACE)
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\ntheirs = their_package.space:Mine\n")
    return tmp_path


@pytest.mark.slow
def test_an_installed_package_is_searched_by_name(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def aznas(*arguments: str) -> str:
        command = [sys.executable, "-m", "aznas_onnx", *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert "installed space (from their-package)" in aznas("spaces")
    size = ["--resolution", "8", "--batch-size", "2"]
    aznas("search", "--space", "theirs", *size, "--iterations", "4", "--workers", "2", "--db", "run.db")
    assert "1-trial-" in aznas("export", "run.db", "-o", "winners")
    card = next((tmp_path / "winners").glob("*/README.md")).read_text()
    assert "| space | mine (resolution 8, num_classes 10) |" in card


@pytest.mark.parametrize("target", ["no_such_package:Space", "aznas_onnx.spaces.nb201:Missing"])
def test_an_installed_space_that_fails_to_load(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    offer(monkeypatch, ("theirs", target))
    with pytest.raises(SettingsError, match="space 'theirs' fails to load from"):
        get("theirs")


def test_every_record_makes_a_space_of_its_name() -> None:
    for record in records():
        space = get(record.name)
        assert isinstance(space, Space)
        assert space.name == record.name
        assert record.description


def test_listing_spaces_imports_none_of_them() -> None:
    code = "import sys, aznas_onnx.spaces as s; s.records(); sys.exit('aznas_onnx.spaces.nb201' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_default_counts_are_those_of_the_built_network() -> None:
    class Uncounted(NasBench201):
        name = "uncounted"
        macs, params, layers, paper_flops = Space.macs, Space.params, Space.layers, Space.paper_flops

    space, counted = Uncounted(), NasBench201()
    genotype = space.sample(np.random.default_rng(1))
    assert space.macs(genotype) == counted.macs(genotype)
    assert space.params(genotype) == counted.params(genotype)
    assert space.layers(genotype) == 18
    assert space.paper_flops(genotype) is None


def test_a_mistake_in_a_space_of_one_s_own_is_a_sentence_that_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from aznas_onnx.spaces.nb201 import NasBench201\n"
        "from aznas_onnx.spaces import Space\n"
        "class Mine(NasBench201):\n"
        "    macs = Space.macs\n"
        "    def build(self, genotype):\n"
        "        return no_such_name\n"
        "SPACE = Mine\n"
    )
    space = get(path)
    with pytest.raises(SettingsError, match=r"NameError: name 'no_such_name' is not defined .*mine\.py, line 6"):
        space.macs(space.sample(np.random.default_rng(0)))
