"""What is built holds everything, under names that do not collide with anybody's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDERS = {"aznas_onnx": "aznas_onnx", "cli": "aznas_onnx/cli", "spaces": "aznas_onnx/spaces"}


def installed_modules(repository: Path) -> set[str]:
    """Return the paths that the package's modules have once installed."""
    return {
        f"{target}/{path.relative_to(repository / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (repository / folder).rglob("*.py")
    }


def test_every_package_is_listed(repository: Path) -> None:
    listed = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    found = {str(Path(module).parent).replace("/", ".") for module in installed_modules(repository)}
    assert sorted(listed) == sorted(found)


@pytest.mark.slow
def test_the_wheel_made_from_the_source_archive_holds_everything(repository: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in FOLDERS:
        shutil.copytree(repository / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, tree / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(tree)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert {name for name in names if name.endswith(".py")} == installed_modules(tree)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"aznas_onnx"}
    assert "aznas_onnx/py.typed" in names
    populations = {path.name for path in (repository / "aznas_onnx" / "references" / "data").iterdir()}
    assert {f"aznas_onnx/references/data/{name}" for name in populations} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert "aznas = aznas_onnx.cli.main:main" in entry_points
