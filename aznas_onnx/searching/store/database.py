"""The SQLite schema of a study: open, create and check it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from aznas_onnx.documents import parse_json, table
from aznas_onnx.errors import AznasError
from aznas_onnx.searching.settings import StudySettings

__all__ = [
    "AGAIN",
    "StudyError",
    "connect",
    "create_or_check",
    "sqlite_errors",
    "open_reader",
    "read_settings",
    "stored_settings",
    "transaction",
]

T = TypeVar("T")

_APPLICATION_ID = 0x417A4E61  # SQLite application_id "AzNa"; also shown by `file run.db`
_SCHEMA_VERSION = 2
_SQLITE_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT_S = 60.0
_TRY_AGAIN_S = 0.02

_SCHEMA = (
    """CREATE TABLE study (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        settings TEXT NOT NULL,                 -- JSON
        created_at REAL NOT NULL
    )""",
    # Every process that ever added to this study.
    """CREATE TABLE writers (
        id INTEGER PRIMARY KEY,
        host TEXT NOT NULL,
        process TEXT NOT NULL,
        software TEXT NOT NULL,                 -- JSON: versions, for provenance
        started_at REAL NOT NULL,
        seen_at REAL NOT NULL
    )""",
    # Candidates that are being scored now; those of a writer that died are void.
    """CREATE TABLE claims (
        number INTEGER PRIMARY KEY,
        genotype TEXT NOT NULL UNIQUE,
        writer INTEGER NOT NULL REFERENCES writers (id)
    )""",
    """CREATE TABLE trials (
        arrival INTEGER PRIMARY KEY,            -- the order in which they were recorded
        number INTEGER NOT NULL UNIQUE,         -- the place in the random stream
        genotype TEXT NOT NULL UNIQUE,
        origin TEXT NOT NULL,
        parent INTEGER,
        tries INTEGER NOT NULL,
        macs INTEGER NOT NULL,
        params INTEGER NOT NULL,
        layers INTEGER NOT NULL,
        paper_flops INTEGER,
        status TEXT NOT NULL,
        reason TEXT,
        proxies TEXT NOT NULL,                  -- JSON: {name: {"mean": number or null, "reason": text or null, ...}}
        elapsed_s REAL NOT NULL,
        scored_at REAL NOT NULL,
        writer INTEGER NOT NULL REFERENCES writers (id)
    )""",
    # Of every genotype that was measured, those over budget included: a resumed search decides as it did before.
    """CREATE TABLE latencies (
        genotype TEXT PRIMARY KEY,
        milliseconds REAL NOT NULL
    )""",
)
AGAIN = """CREATE TABLE IF NOT EXISTS latencies_again (
    genotype TEXT PRIMARY KEY,
    record TEXT NOT NULL                    -- JSON
)"""
"""The latencies measured again at the end of a search; not in every study."""

_TABLES = ("study", "writers", "claims", "trials", "latencies")


class StudyError(AznasError, ValueError):
    """The file of a study cannot be opened, used or resumed."""


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the file for writing, or a study in memory where `path` is None, without changes.

    Raises StudyError if the file cannot be opened or is not a database.
    """
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None)
    _refuse_other_files(path)
    if not path.absolute().parent.is_dir():
        raise StudyError(f"{path} cannot be made: there is no folder {path.absolute().parent}")
    with sqlite_errors(path):
        return sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)


@contextlib.contextmanager
def open_reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file of a study for reading only.

    Raises StudyError if there is no file, or no study that this version reads.
    """
    if not os.path.exists(path):  # noqa: PTH110 - which never raises
        raise StudyError(f"there is no study {path}; `aznas search --db {path}` makes one")
    _refuse_other_files(path)
    with sqlite_errors(path), contextlib.closing(_patiently(lambda: _for_reading(path))) as connection:
        if not _holds_study(connection, path):
            raise StudyError(f"{path} holds no study yet; `aznas search --db {path}` starts one")
        yield connection


def stored_settings(path: Path) -> StudySettings | None:
    """Return the settings of the study in a file, or None where there is no file or no study yet.

    Raises StudyError if the file is something else.
    """
    if not os.path.lexists(path):
        return None
    _refuse_other_files(path)
    with sqlite_errors(path), contextlib.closing(_patiently(lambda: _for_reading(path))) as connection:
        return read_settings(connection, path) if _holds_study(connection, path) else None


def create_or_check(connection: sqlite3.Connection, path: Path | None, settings: StudySettings) -> StudySettings | None:
    """Make the tables and store `settings`, or return those of the study that is already there.

    Of two processes that do this at once, one creates and the other finds the study.

    Raises StudyError if the file is another program's, or of a newer schema.
    """
    with sqlite_errors(path):
        return _patiently(lambda: _create_or_read(connection, path, settings))


def read_settings(connection: sqlite3.Connection, path: Path | None) -> StudySettings:
    """Return the settings of the study; raise StudyError if they cannot be read."""
    row = connection.execute("SELECT settings FROM study").fetchone()
    try:
        return StudySettings.from_json(table(parse_json(row[0], "the settings")))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise StudyError(f"{path} is damaged: its settings cannot be read ({error})") from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the body in one write transaction, which is undone where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk ends it by itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextlib.contextmanager
def sqlite_errors(path: Path | None) -> Iterator[None]:
    """Turn SQLite's errors into a sentence about the file."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, read-only, disk full
        raise StudyError(f"{path} cannot be used: {_one_line(error)}") from error
    except sqlite3.IntegrityError:
        raise  # a broken invariant of ours, not of the file
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter of SQLite's own message
        raise StudyError(f"{path} is damaged: {_one_line(error)}; go back to a copy of it") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _refuse_other_files(path: Path) -> None:
    if str(path) == ":memory:":
        raise StudyError(
            f"{path} is SQLite's name for a study that cannot be opened later; name a file, such as run.db"
        )
    if os.path.isdir(path):  # noqa: PTH112 - which never raises
        raise StudyError(f"{path} is a folder; a study is one file, such as run.db")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise StudyError(f"{path} is no regular file; a study is one, such as run.db")
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_MAGIC))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if start and start != _SQLITE_MAGIC:  # an empty file remains of a search that was killed in its first moment
        raise StudyError(f"{path} is not a study: it is no SQLite database")


def _for_reading(path: Path) -> sqlite3.Connection:
    # A file in WAL mode needs its two side files even to be read, and a connection that may write is the one that takes
    # them away again. Where they are missing and cannot be made (a read-only medium), no process can be writing, as
    # `immutable` promises.
    uri = path.absolute().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        connection.close()
        if _is_locked(error) or path.with_name(f"{path.name}-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, isolation_level=None)
    return connection


def _patiently(use: Callable[[], T]) -> T:
    """Call `use` until the file is not locked.

    Mostly SQLite waits by itself, but not while the last of other connections closes the file, nor for a change of the
    journal mode.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            return use()
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(_TRY_AGAIN_S)


def _is_locked(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error)


def _create_or_read(connection: sqlite3.Connection, path: Path | None, settings: StudySettings) -> StudySettings | None:
    if not _holds_study(connection, path):
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            if not _holds_study(connection, path):
                _create(connection, settings)
                return None
    return read_settings(connection, path)


def _holds_study(connection: sqlite3.Connection, path: Path | None) -> bool:
    """Whether the tables are there; False where the file is still empty."""
    application, version, tables = _header(connection)
    if application != _APPLICATION_ID:
        if application == version == tables == 0:
            return False
        raise StudyError(f"{path} is not a study: it is another program's SQLite database")
    if version != _SCHEMA_VERSION:
        raise StudyError(
            f"{path} has schema version {version} and this version of aznas-onnx reads {_SCHEMA_VERSION}; "
            "use the version that wrote it, or a newer one"
        )
    _check_tables(connection, path)
    return True


def _check_tables(connection: sqlite3.Connection, path: Path | None) -> None:
    """Refuse a file with views or triggers in place of the tables, or on them."""
    found = {
        name: kind if not str(sql).upper().startswith("CREATE VIRTUAL") else "virtual table"
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master")
    }
    strange = [name for name, kind in found.items() if kind in ("trigger", "view", "virtual table")]
    missing = [name for name in _TABLES if found.get(name) != "table"]
    if strange or missing:
        what = f"it has the {found[strange[0]]} {strange[0]!r}" if strange else f"it has no table {missing[0]!r}"
        raise StudyError(f"{path} is damaged: {what}; go back to a copy of it")


def _header(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return application id, schema version and number of tables in one transaction: another process can be writing."""
    in_one = contextlib.nullcontext() if connection.in_transaction else _snapshot(connection)
    with in_one:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return application, version, tables


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _create(connection: sqlite3.Connection, settings: StudySettings) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)
    text = json.dumps(settings.as_json())
    connection.execute("INSERT INTO study (id, settings, created_at) VALUES (0, ?, ?)", (text, time.time()))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
