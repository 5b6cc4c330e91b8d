"""Studies that no search of ours leaves: one sentence each, and never a search without an end."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from aznas_onnx.searching import Study, StudyError
from aznas_onnx.searching.store.history import History
from tests.searching.fakes import settings
from tests.searching.store.test_history import opened, trial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "run.db"
    with opened(found) as history:
        history.record(trial(0))
    return found


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


DAMAGE = [
    "UPDATE trials SET macs = 'many'",
    "UPDATE trials SET macs = -1",
    "UPDATE trials SET genotype = x'ff'",
    "UPDATE trials SET elapsed_s = 9e999",
    "UPDATE trials SET parent = 'a'",
    "UPDATE trials SET origin = 'nowhere'",
    "UPDATE trials SET status = 'fine'",
    "UPDATE trials SET proxies = '[]'",
    "UPDATE trials SET proxies = '{\"a\": 1}'",
    'UPDATE trials SET proxies = \'{"a": {"mean": NaN, "stderr": null, "reason": null, "applies": true}}\'',
    'UPDATE trials SET proxies = \'{"a": {"mean": 1e999, "stderr": null, "reason": null, "applies": true}}\'',
    'UPDATE trials SET proxies = \'{"a": {"mean": "1", "stderr": null, "reason": null, "applies": true}}\'',
    f"UPDATE trials SET proxies = '{'[' * 50_000}'",
    "INSERT INTO latencies SELECT genotype, 'fast' FROM trials",
    "INSERT INTO latencies SELECT genotype, 9e999 FROM trials",
    "UPDATE study SET settings = '[]'",
    'UPDATE study SET settings = replace(settings, \'"top_k": \', \'"top_k": "1", "x": \')',
    "UPDATE study SET settings = replace(settings, '\"seed\": 0', '\"seed\": true')",
    'UPDATE study SET settings = replace(settings, \'"space": {\', \'"space": {"a": 1}, "b": {\')',
    'UPDATE study SET settings = replace(settings, \'"scoring": {\', \'"scoring": {"own_proxies": {"x": 1}, \')',
    "DELETE FROM study",
    "UPDATE writers SET software = '3'",
    "DROP TABLE latencies",
    "DROP TABLE writers",
    "ALTER TABLE trials RENAME COLUMN macs TO cost",
    "CREATE TRIGGER t AFTER INSERT ON claims BEGIN DELETE FROM trials; END",
    "CREATE VIEW v AS SELECT * FROM trials",
    "PRAGMA user_version = 99",
    "PRAGMA application_id = 7",
]


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_value_that_is_none_is_one_sentence(statement: str, path: Path) -> None:
    change(path, statement)
    with pytest.raises(StudyError) as caught:
        Study.open(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_study_is_one_sentence(path: Path) -> None:
    data = path.read_bytes()
    for size in (17, 100, 1000, 4096, 5000, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(StudyError):
            Study.open(path)


@pytest.mark.parametrize("name", [":memory:", "x" * 300, ".", "pipe", "a\0b"])
def test_a_name_that_is_no_file_is_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for use in (lambda: History.open(Path(name), settings(), resume=True), lambda: Study.open(name)):
        with pytest.raises(StudyError) as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seen", "process", "message"),
    [
        (4_000_000_000, "1:2", "set the clock right"),
        (1e300, "1:2", "set the clock right"),
        ("'noon'", "1:2", "damaged"),
        ("9e999", "1:2", "damaged"),
    ],
)
def test_a_claim_that_would_last_is_one_sentence(seen: object, process: str, message: str, path: Path) -> None:
    change(
        path,
        f"INSERT INTO writers VALUES (9, 'elsewhere', '{process}', '{{}}', 0, {seen})",
        "INSERT INTO claims VALUES (5, 'g5', 9)",
    )
    with opened(path, resume=True) as history, pytest.raises(StudyError, match=message):
        history.claims()


def test_a_claim_of_a_process_here_that_is_none_is_void(path: Path) -> None:
    import socket

    change(
        path,
        f"INSERT INTO writers VALUES (9, '{socket.gethostname()}', 'no number', '{{}}', 0, {time.time() + 1e6})",
        "INSERT INTO claims VALUES (5, 'g5', 9)",
    )
    with opened(path, resume=True) as history:
        assert history.claims() == []


@pytest.mark.parametrize("new", [b"arri\xe1al", b"arri\nval", b"arr\x00val"])
def test_a_schema_that_is_no_text_is_one_sentence(new: bytes, path: Path) -> None:
    data = path.read_bytes()
    for name in (b"arrival", b"CREATE TABLE trials"):
        changed = (new * 3)[: len(name)]
        path.write_bytes(data.replace(name, changed))
        with pytest.raises(StudyError) as caught:
            Study.open(path)
        assert "\n" not in str(caught.value)
