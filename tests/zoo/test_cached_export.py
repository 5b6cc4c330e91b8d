from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import pytest

import aznas_onnx as az
from aznas_onnx.caches import clear_caches
from aznas_onnx.errors import ModelError, SettingsError, UnknownNameError
from aznas_onnx.zoo import cached_export, export_missing, exported, file_of


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("AZNAS_CACHE", str(folder))
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("no_process")
def test_what_the_cache_has_starts_no_process(named: str) -> None:
    path = exported(named)
    assert path.name == "shufflenet_v2_x0_5@64.onnx"
    assert path.parent.name.startswith(f"torchvision-{metadata.version('torchvision')}_torch-")
    assert file_of(named) == file_of(path) == path
    assert {entry.key: entry.value for entry in onnx.load(path).metadata_props}["aznas.network"] == named


def test_a_name_is_read_as_its_file_is(named: str) -> None:
    path = exported(named)
    by_name, by_path = az.inspect(named), az.inspect(path)
    assert by_name.model == named
    assert (by_name.costs, by_name.blocks, by_name.changes) == (by_path.costs, by_path.blocks, by_path.changes)
    options: dict[str, Any] = {"effort": "fast", "device": "cpu"}
    scored = az.score(named, **options)
    assert scored.model == named
    assert scored.proxies == az.score(path, **options).proxies


def test_a_file_is_the_same_each_time_and_python_files_of_the_folder_take_no_part(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = exported(named)
    monkeypatch.setenv("AZNAS_CACHE", "cache")
    for module in ("torch", "torchvision", "onnx"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('executed')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    second = exported(named).absolute()
    assert second.is_relative_to(tmp_path)
    assert first.read_bytes() == second.read_bytes()


def test_an_unknown_network_comes_before_anything_is_built(empty_cache: Path) -> None:
    built: list[str] = []
    with pytest.raises(UnknownNameError, match="resnet5O is no network of torchvision; did you mean torchvision:res"):
        export_missing(["torchvision:resnet18", "torchvision:resnet5O"], built.append)
    assert built == []
    assert files_in(empty_cache) == []


def test_a_network_that_cannot_be_built_stops_no_other(
    named: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = "torchvision:vit_b_16@100"
    built: list[str] = []
    export_missing([bad, named], built.append)
    assert built == [bad, named]
    assert files_in(empty_cache) == ["shufflenet_v2_x0_5@64.onnx"]
    monkeypatch.setattr(subprocess, "Popen", None)  # it is not tried again
    with pytest.raises(ModelError, match="torchvision:vit_b_16@100 cannot be built: Input shape indivisible"):
        exported(bad)
    result, _ = az.score_many([bad, named], effort="fast", device="cpu", proxies="params")
    assert "cannot be built" in result.reason
    clear_caches()
    assert not cached_export._refused


def test_a_crash_leaves_no_half_file_and_stops_no_other(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_export, "_EXPORTER", "tests.zoo.crashing_exporter")
    export_missing(["torchvision:a", "torchvision:crash", "torchvision:b", "torchvision:complain"])
    assert files_in(empty_cache) == ["a.onnx", "a@64.onnx", "b.onnx", "b@64.onnx"]
    assert exported("torchvision:b").read_bytes() == b"whole"
    assert not list(empty_cache.rglob(".part-*"))
    with pytest.raises(ModelError, match="signal 9, most likely for lack of memory"):
        exported("torchvision:crash")
    with pytest.raises(ModelError, match="the library is broken"):
        exported("torchvision:complain")
    with pytest.raises(ModelError, match="ended without an answer"):
        exported("torchvision:silent")
    clear_caches()


def test_a_process_that_cannot_start_is_an_error(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_export, "_EXPORTER", "tests.zoo.no_such_module")
    with pytest.raises(ModelError, match="no_such_module"):
        exported("torchvision:resnet18")
    assert files_in(empty_cache) == []


def test_a_library_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(SettingsError, match=r"timm:resnet50 is built by timm, .* pip install 'aznas-onnx\[zoo\]'"):
        exported("timm:resnet50")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AZNAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match=r"cannot be kept in .*AZNAS_CACHE"):
        exported("torchvision:resnet18")
