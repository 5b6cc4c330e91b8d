"""A file of scores, one JSON object per line, that survives interruptions."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from aznas_onnx.documents import JsonObject, parse_json, read_bytes, shown, table, whole
from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.record import Record, decode, encode
from aznas_onnx.proxies import Direction
from aznas_onnx.scoring import other_method
from aznas_onnx.searching.stored_settings import StoredSettings, differences, plain

__all__ = ["ScoreFile", "Scores", "Selection", "read_scores"]

SCHEMA = "aznas.scores/1"

_MOST_BYTES = 2**34


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How architectures were chosen.

    - `seed`: Of the sample.
    - `unique`: Whether one architecture was taken of those that are the same network.
    """

    seed: int = 0
    unique: bool = False

    @classmethod
    def from_json(cls, data: JsonObject) -> Selection:
        """Read back what :meth:`as_json` wrote."""
        return cls(seed=whole(data.get("seed", 0)), unique=bool(data.get("unique")))

    def as_json(self) -> JsonObject:
        """Return the selection as JSON values."""
        return {"seed": self.seed, "unique": self.unique}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The content of a scores file.

    - `settings`: Settings of the scores: space and scoring.
    - `selection`: How the architectures were chosen when the file was begun.
    - `software`: Versions that began the file.
    - `records`: By architecture; the latest where one was scored again.
    """

    settings: StoredSettings
    selection: Selection
    software: Mapping[str, str]
    records: Mapping[str, Record]

    @property
    def method(self) -> int:
        """The version of the scoring method that the scores are of."""
        return self.settings.scoring.method

    @property
    def directions(self) -> Mapping[str, Direction]:
        """Which way the proxies that are not built in point."""
        return self.settings.scoring.directions


def read_scores(path: str | os.PathLike[str]) -> Scores:
    """Read a file of scores.

    A last line without its end, which a process that was killed left, does not count.

    Raises SettingsError if the file cannot be read or is not a scores file.
    """
    name = Path(path)
    lines = read_bytes(name, str(name), most_bytes=_MOST_BYTES).split(b"\n")[:-1]
    if not lines:
        raise SettingsError(f"{name} holds no scores yet")
    first: JsonObject = {}
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            fields = table(parse_json(line, "the line"))
            first = first or dict(fields)
            record = decode(fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"{name}, line {number} is not a score that `aznas bench` wrote ({error})") from error
        if "settings" in fields and fields["settings"] != first.get("settings"):
            raise SettingsError(f"{name}, line {number} begins scores with other settings than those before it")
        records[record.arch] = record
    if first.get("schema") != SCHEMA:
        raise SettingsError(f"{name} has schema {shown(first.get('schema'))}; {SCHEMA!r} is needed")
    try:
        return Scores(
            settings=StoredSettings.from_json(table(first["settings"])),
            selection=Selection.from_json(table(first.get("selection", {}))),
            software=table(first.get("software", {})),
            records=records,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"{name} is damaged: the settings in its first line cannot be read ({error})") from error


class ScoreFile:
    """A scores file, open for appending; its first line has the settings beside the first score.

    - `path`: Created with the first score; an existing one is continued.
    - `settings`, `selection`, `software`: See :class:`Scores`. The settings must be those of the file.

    Raises SettingsError if the file is not a scores file, has other settings, is written by another process, or cannot
    be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        settings: StoredSettings,
        selection: Selection,
        software: Mapping[str, str],
    ) -> None:
        self.path = Path(path)
        self._header = {
            "schema": SCHEMA,
            "settings": settings.as_json(),
            "selection": selection.as_json(),
            "software": software,
        }
        self._stream = _open(self.path)
        try:
            _drop_torn_line(self._stream)
            self.records: dict[str, Record] = {}
            if self._stream.tell():
                found = read_scores(self.path)
                _check_settings(self.path, found.settings, settings)
                self.records.update(found.records)
        except BaseException:
            self._stream.close()
            raise

    def add(self, record: Record) -> None:
        """Append a record; it is with the operating system when this returns, and survives a kill."""
        fields = encode(record)
        if not self.records:
            fields |= self._header
        line = json.dumps(fields, allow_nan=False) + "\n"
        try:
            self._stream.write(line.encode())
            self._stream.flush()
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written: {error.strerror or error}") from error
        self.records[record.arch] = record

    def close(self) -> None:
        """Close the file; one without a score is removed."""
        if not self.records:
            with contextlib.suppress(OSError):  # while it is locked
                self.path.unlink()
        self._stream.close()

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path) -> IO[bytes]:
    if os.path.lexists(path) and not os.path.isfile(path):  # noqa: PTH113 - which never raises
        raise SettingsError(f"{path} cannot be written: it is no regular file")
    try:
        stream = path.open("a+b")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    try:
        import fcntl
    except ImportError:  # Windows: two writers would score everything twice, and harm nothing else
        return stream
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise SettingsError(f"{path} is being written by another process; give each its own --scores") from error
    return stream


def _drop_torn_line(stream: IO[bytes]) -> None:
    stream.seek(0)
    data = stream.read()
    stream.truncate(data.rfind(b"\n") + 1)
    stream.seek(0, os.SEEK_END)


def _check_settings(path: Path, found: StoredSettings, wanted: StoredSettings) -> None:
    method = found.scoring.method
    if method != wanted.scoring.method:
        raise SettingsError(
            f"{path} cannot be continued: its scores are {other_method(method)}; name another --scores, or use the "
            "release that made it"
        )
    as_stored = json.loads(json.dumps(wanted.compared()))
    differing = [
        f"{name} is {plain(there)} there and {plain(here)} here"
        for name, there, here in differences(found.compared(), as_stored)
    ]
    if differing:
        raise SettingsError(
            f"{path} holds scores with other settings ({'; '.join(differing)}); "
            "name another --scores, or use the settings of the file"
        )
