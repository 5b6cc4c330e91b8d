"""Strict readers for policies, references, scores and measurements, with size limits.

Pipes, devices and folders are refused before they are read. A document that is nested too deeply, or has a number that
is not finite, is refused in one sentence.
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from aznas_onnx.errors import SettingsError

__all__ = [
    "JsonObject",
    "finite",
    "flag",
    "parse_json",
    "parse_toml",
    "read_bytes",
    "read_text",
    "shown",
    "table",
    "text",
    "whole",
]

JsonObject: TypeAlias = dict[str, Any]
"""A JSON document, or an object in one: parsed and to be checked, or about to be written."""

_MOST_COUNTED = 2**63 - 1  # the range of SQLite and of arrays
_MOST_BYTES = 2**30
_MOST_DIGITS = 400  # Python's own limit is ten times that, and a double has no more
_DEEP = re.compile(r"(?:[\w\"'-]+[ \t]*\.[ \t]*){100}")  # the parser of TOML takes quadratic time for a dotted key


def read_bytes(path: str | os.PathLike[str], what: str, *, most_bytes: int = _MOST_BYTES) -> bytes:
    """Return the content of a regular file; `what` begins messages: ``policy aznas.toml``.

    Raises SettingsError if it cannot be read, is not a regular file, or is too large.
    """
    try:
        # Reading a pipe without a writer would wait for one.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SettingsError(f"{what} cannot be read: it is no regular file")
            data = stream.read(most_bytes + 1)
    except (OSError, ValueError, MemoryError) as error:
        if isinstance(error, SettingsError):
            raise
        reason = getattr(error, "strerror", None) or error
        if Path(os.fspath(path)[:255]).is_dir():
            reason = "it is a folder"
        raise SettingsError(f"{what} cannot be read: {reason}") from error
    if len(data) > most_bytes:
        raise SettingsError(f"{what} cannot be read: it has more than {most_bytes:,} bytes")
    return data


def read_text(path: str | os.PathLike[str], what: str, *, most_bytes: int = _MOST_BYTES) -> str:
    """Return the text of a file in UTF-8; see :func:`read_bytes`."""
    try:
        return read_bytes(path, what, most_bytes=most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{what} cannot be read: it is no text") from error


def parse_json(source: str | bytes, what: str) -> Any:
    """Return the values of a JSON text, in which every number is finite and every key unique.

    Raises SettingsError if it is not JSON; the message begins with `what`.
    """
    import json  # late: `aznas --help` reads no document

    try:
        return json.loads(
            source, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite_text, parse_int=_whole_text
        )
    except RecursionError as error:
        raise SettingsError(f"{what}: it is nested too deeply") from error
    except ValueError as error:
        raise SettingsError(f"{what}: it is not JSON ({error})") from error


def parse_toml(source: str, what: str) -> JsonObject:
    """Return the tables of a TOML text; raise SettingsError if it is not TOML; the message begins with `what`."""
    if sys.version_info >= (3, 11):
        import tomllib  # late: `aznas --help` reads no document
    else:
        import tomli as tomllib

    try:
        if _DEEP.search(source):
            raise RecursionError
        found: JsonObject = tomllib.loads(source)
    except RecursionError as error:
        raise SettingsError(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise SettingsError(f"{what} is not TOML: {error}") from error
    return found


def finite(value: Any) -> float:
    """Return a number as a float; raise TypeError or ValueError where it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a number is accepted")
    if (isinstance(value, int) and abs(value) > _MOST_COUNTED) or not math.isfinite(value):
        raise ValueError("a finite number of usual size is accepted")
    return float(value)


def whole(value: Any, least: int = 0) -> int:
    """Return a whole number; raise TypeError or ValueError where it is not one, below `least`, or 2**63 and more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("a whole number is accepted")
    if not least <= value <= _MOST_COUNTED:
        raise ValueError(f"a whole number of {least} or more, below 2**63, is accepted")
    return value


def flag(value: Any) -> bool:
    """Return true or false; raise TypeError for anything else."""
    found: bool = _of_type(value, bool, "true or false")
    return found


def text(value: Any) -> str:
    """Return a text; raise TypeError for anything else."""
    found: str = _of_type(value, str, "a text")
    return found


def table(value: Any) -> JsonObject:
    """Return a table, an object in JSON; raise TypeError for anything else."""
    found: JsonObject = _of_type(value, dict, "a table")
    return found


def _of_type(value: Any, accepted: type, what: str) -> Any:
    if not isinstance(value, accepted):
        raise TypeError(f"{what} is accepted")
    return value


def shown(value: Any) -> str:
    """Return a value for a message, however large and deep it is."""
    import reprlib

    return reprlib.repr(value)


def _once(pairs: Sequence[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _finite_text(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{shown(digits)} is no finite number")
    return number


def _whole_text(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)
