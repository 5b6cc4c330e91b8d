from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import Record, read_scores
from aznas_onnx.evaluation.record import decode, encode
from aznas_onnx.evaluation.scorefile import ScoreFile, Selection
from aznas_onnx.results import ProxyValue
from aznas_onnx.searching.stored_settings import StoredSettings
from tests.evaluation.samples import record

SPACE = {"name": "digits", "options": {}, "code": None, "reference": "/a/b.py"}
SETTINGS: dict[str, Any] = {"space": SPACE, "scoring": {"batch_size": 8}}
SELECTION = {"seed": 3, "unique": False}


def opened(path: Path, settings: dict[str, Any] = SETTINGS) -> ScoreFile:
    return ScoreFile(
        path,
        settings=StoredSettings.from_json(settings),
        selection=Selection(seed=3),
        software={"python": "3"},
    )


def test_every_line_is_a_score_and_the_first_also_holds_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with opened(path) as scores:
        scores.add(record("a", expressivity=1.5, progressivity=None))
        scores.add(Record(arch="b", reason="it fails", elapsed_s=2.0))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {
        "arch": "a",
        "expressivity": 1.5,
        "progressivity": None,
        "macs": 1,
        "params": 2,
        "layers": 3,
        "seconds": 0.5,
        "missing": {"progressivity": "none"},
        "proxies": ["expressivity", "progressivity"],
        "schema": "aznas.scores/1",
        "settings": SETTINGS,
        "selection": SELECTION,
        "software": {"python": "3"},
    }
    assert second == {"arch": "b", "failed": "it fails", "seconds": 2.0}


def test_a_score_is_there_as_soon_as_it_is_added(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with opened(path) as scores:
        scores.add(record("a", macs=1.0))
        assert list(read_scores(path).records) == ["a"]


@pytest.mark.parametrize(
    "original",
    [
        Record(arch="a", reason="it fails", elapsed_s=2.0),
        record("a", expressivity=0.1 + 0.2, macs=1.0),
        record("a", trainability=None),
        record("a", expressivity=1.0, macs=1.0, layers=0.5, params=7.0),  # names of counts, too
        record("a", layers=None),
        Record(
            arch="a",
            proxies={
                "expressivity": ProxyValue(mean=2.0, stderr=0.5, per_seed=(1.5, -math.inf, 2.5)),
                "progressivity": ProxyValue(mean=None, reason="not defined for transformers", applies=False),
                "macs": ProxyValue(mean=5.0, per_seed=(5.0, 5.0)),
            },
            macs=5,
            params=6,
            layers=7,
        ),
    ],
)
def test_a_record_is_read_back_as_it_was(original: Record) -> None:
    found = decode(json.loads(json.dumps(encode(original), allow_nan=False)))
    assert dict(found.proxies) | {"macs": None} == dict(original.proxies) | {"macs": None}
    assert found.proxies.keys() == original.proxies.keys()
    assert (found.macs, found.params, found.layers) == (original.macs, original.params, original.layers)
    assert (found.arch, found.reason, found.elapsed_s) == (original.arch, original.reason, original.elapsed_s)


def test_a_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with opened(path) as scores:
        scores.add(record("a", expressivity=1.0))
    with opened(path) as scores:
        assert list(scores.records) == ["a"]
        scores.add(record("b", expressivity=2.0))
        scores.add(record("a", expressivity=3.0))
    found = read_scores(path)
    assert {arch: one.proxies["expressivity"].mean for arch, one in found.records.items()} == {"a": 3.0, "b": 2.0}
    assert found.settings.as_json() == SETTINGS
    assert found.selection == Selection(seed=3)
    assert path.read_text().count("settings") == 1


@pytest.mark.parametrize("torn", ['{"arch": "b", "expr', '{"arch": "b"}', "\x00\x00"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "scores.jsonl"
    with opened(path) as scores:
        scores.add(record("a", expressivity=1.0))
    whole = path.read_text()
    path.write_text(whole + torn)
    assert list(read_scores(path).records) == ["a"]
    with opened(path) as scores:
        scores.add(record("c", expressivity=1.0))
    assert list(read_scores(path).records) == ["a", "c"]
    assert path.read_text().startswith(whole)


def test_a_file_that_was_torn_in_its_first_line_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"arch": "a", ')
    with opened(path) as scores:
        scores.add(record("b", expressivity=1.0))
    assert list(read_scores(path).records) == ["b"]


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with opened(path) as scores:
        scores.add(record("a", expressivity=1.0))
    before = path.read_bytes()
    other = {"space": SETTINGS["space"], "scoring": {"batch_size": 64, "effort": "fast"}}
    with pytest.raises(SettingsError) as refused:
        opened(path, other)
    assert "scoring.batch_size is 8 there and 64 here; scoring.effort is unset there and 'fast' here" in str(
        refused.value
    )
    assert path.read_bytes() == before


def test_the_file_of_a_space_may_have_moved(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with opened(path) as scores:
        scores.add(record("a", expressivity=1.0))
    moved = {**SETTINGS, "space": {"name": "digits", "reference": "/c/b.py"}}
    with opened(path, moved) as scores:
        assert list(scores.records) == ["a"]


def test_two_writers_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "scores.jsonl"
    with opened(path) as scores:
        scores.add(record("a", expressivity=1.0))
        with pytest.raises(SettingsError, match="is being written by another process"):
            opened(path)
        scores.add(record("b", expressivity=1.0))
    assert list(read_scores(path).records) == ["a", "b"]


def test_nothing_is_left_where_nothing_was_scored(tmp_path: Path) -> None:
    with opened(tmp_path / "scores.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no scores yet"),
        ("arch,accuracy\na,1\n", "line 1 is not a score"),
        ('{"a": 1}\n', "line 1 is not a score"),
        ("[]\n", "line 1 is not a score"),
        ('{"arch": "a", "failed": "x", "seconds": 1}\n', "has schema None; 'aznas.scores/1' is needed"),
    ],
)
def test_what_is_no_scores_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_scores(path)


def test_two_files_joined_must_have_the_same_settings(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    for path, size in ((first, 8), (second, 8), (third, 64)):
        with opened(path, {**SETTINGS, "scoring": {"batch_size": size}}) as scores:
            scores.add(record(path.name, expressivity=1.0))
    joined = tmp_path / "joined"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert list(read_scores(joined).records) == ["a", "b"]
    joined.write_bytes(first.read_bytes() + third.read_bytes())
    with pytest.raises(SettingsError, match="line 2 begins scores with other settings"):
        read_scores(joined)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written: No such file"):
        opened(tmp_path / "no" / "scores.jsonl")
