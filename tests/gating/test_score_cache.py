"""A network that has not changed is not scored again."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

import aznas_onnx as az
import aznas_onnx.gating.score_cache as cache_module
from aznas_onnx.cache_folder import cache_folder
from aznas_onnx.caches import clear_caches
from aznas_onnx.cli.main import run
from aznas_onnx.gating import GateResult
from aznas_onnx.gating.file_hashes import FileHashes
from aznas_onnx.gating.score_cache import CachedScores, ScoreCache
from aznas_onnx.graph import prepare
from aznas_onnx.scoring import ScoreSettings, Session
from tests.gating.networks import move_weights_out, residual
from tests.gating.test_gate import Scripted, scripted, usual

__all__ = ["scripted"]


def decide(**rules: object) -> GateResult:
    return az.gate("new.onnx", baseline="shipped.onnx", cache=True, **rules)  # type: ignore[arg-type]


def asked_for(scripted: Scripted) -> list[str]:
    names = [name for name, *_ in scripted.calls]
    scripted.calls.clear()
    return names


def entries() -> list[Path]:
    return sorted((cache_folder() / "scores").glob("*.json"))


def test_equal_files_and_settings_are_scored_once_and_decided_alike(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "new.onnx", width=10)
    scripted.draws["new"] = lambda seed: usual(seed + 1000, noise=0.1)
    first = decide()
    assert set(asked_for(scripted)) == {"new", "shipped"}
    again = decide()
    assert asked_for(scripted) == []
    assert again.checks == first.checks
    assert [model.is_cached for model in (*first.models, *again.models)] == [False, False, True, True]
    assert [model.proxies for model in again.models] == [model.proxies for model in first.models]


def test_scores_come_back_with_every_field(tmp_path: Path) -> None:
    path = residual(tmp_path / "net.onnx")
    settings = ScoreSettings.of(effort="fast", device="cpu")
    cache = ScoreCache.of(settings)
    assert cache is not None
    cached = CachedScores(cache=cache, hashes=FileHashes.of(path, ()))
    scores = Session(prepare(path), settings).scores(range(2))
    cached.write(scores, range(2))
    assert cached.read(scores.model, range(2)) == replace(scores, elapsed_s=0.0)
    assert scores.design
    assert cached.read(scores.model, range(3)) is None


def test_only_what_has_changed_is_scored_again(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "new.onnx", width=10)
    decide()
    asked_for(scripted)
    residual(tmp_path / "new.onnx", width=12)
    result = decide()
    assert asked_for(scripted) == ["new"]
    assert [model.is_cached for model in result.models] == [False, True]


def test_a_file_by_another_name_is_known(scripted: Scripted, tmp_path: Path) -> None:
    decide()
    asked_for(scripted)
    (tmp_path / "shipped.onnx").rename(tmp_path / "old.onnx")
    result = az.gate("new.onnx", baseline="old.onnx", cache=True)
    assert asked_for(scripted) == []
    assert result.checks[-1].against == "old.onnx"


def test_other_data_beside_the_file_is_another_network(scripted: Scripted, tmp_path: Path) -> None:
    move_weights_out(residual(tmp_path / "shipped.onnx", width=10))
    decide()
    asked_for(scripted)
    data = tmp_path / "weights.data"
    data.write_bytes(data.read_bytes() + b"\0")
    decide()
    assert asked_for(scripted) == ["shipped"]


def test_other_settings_seeds_or_versions_are_other_scores(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    decide()
    asked_for(scripted)
    for rules in ({"seed": 5}, {"batch_size": 3}, {"effort": "fast"}, {"floors": {"params": 1.0}}):
        scripted.draws = {name: lambda seed: {**usual(seed), "params": 5.0} for name in scripted.draws}
        decide(**rules)
        assert len(asked_for(scripted)) == 1, rules  # the two files are equal
    monkeypatch.setattr(cache_module, "software_versions", lambda: {"aznas-onnx": "99"})
    decide()
    assert len(asked_for(scripted)) == 1


def test_values_that_are_not_finite_come_back(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "new.onnx", width=10)
    scripted.draws["new"] = lambda seed: usual(seed, expressivity=-math.inf)
    reasons = decide().reasons
    asked_for(scripted)
    assert decide().reasons == reasons != ()
    assert asked_for(scripted) == []


def test_a_damaged_entry_is_scored_again(scripted: Scripted, tmp_path: Path) -> None:
    checks = decide().checks
    asked_for(scripted)
    for content in (b"", b"{}", b"[]", b'{"proxies": {"macs": {"mean": 5}}}', b"\xff\x00"):
        for path in entries():
            path.write_bytes(content)
        assert decide().checks == checks
        assert asked_for(scripted) != []


def test_without_a_place_there_is_no_cache(scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AZNAS_CACHE", str(tmp_path / "file"))
    assert decide().passed
    assert decide().passed
    assert len(asked_for(scripted)) == 4


def test_the_library_stores_nothing_unless_told(scripted: Scripted) -> None:
    az.gate("new.onnx", baseline="shipped.onnx")
    assert entries() == []


def test_the_oldest_entries_go_and_all_can(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_MOST_FILES", 4)
    for seed in range(7):
        decide(seed=100 * seed)
        for path in entries():
            os.utime(path, (seed, seed))
    assert 0 < len(entries()) <= 4
    clear_caches()
    assert entries() == []


def test_the_command_uses_the_cache_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    residual(tmp_path / "new.onnx", width=10)
    residual(tmp_path / "shipped.onnx")
    options = ["gate", "new.onnx", "--no-policy", "--baseline", "shipped.onnx", "--effort", "fast"]

    def cached(*further: str) -> tuple[list[bool], object]:
        run([*options, "--format", "json", *further])
        document = json.loads(capsys.readouterr().out)
        return [model["cached"] for model in document["models"]], document["checks"]

    first = cached("--no-cache")
    assert (first[0], entries()) == ([False, False], [])
    assert cached() == first
    assert cached() == ([True, True], first[1])
    run(options)
    assert "Scores of new.onnx and shipped.onnx from the cache." in " ".join(capsys.readouterr().out.split())


def test_a_users_code_is_never_trusted_to_be_the_same(scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import dataclasses\nfrom aznas_onnx.proxies import PROXIES\n"
        "X = dataclasses.replace(PROXIES['macs'], name='mine')\n"
    )
    scripted.draws = {name: lambda seed: {**usual(seed), "mine": 5.0} for name in scripted.draws}
    decide(proxies=("az", "./mine.py:X"), spreads={"mine": 1.0})
    assert entries() == []
