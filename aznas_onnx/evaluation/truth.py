"""Measured accuracies of architectures, from a CSV."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aznas_onnx.documents import read_text
from aznas_onnx.errors import SettingsError

__all__ = ["Truth", "read_truth"]

_ARCH_COLUMN = "arch"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Measured architectures.

    Attributes
    ----------
    archs
        Genotypes in the notation of their space, each once, in the order of the file.
    columns
        Names of the measured numbers.
    values
        (n_archs, n_columns) float64, read-only; higher is better. NaN where an architecture has no measurement.
    """

    archs: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats

    def __post_init__(self) -> None:
        self.values.setflags(write=False)


def read_truth(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> Truth:
    """Read a CSV with a column ``arch`` and columns of numbers.

    Parameters
    ----------
    path
        UTF-8, with a header line.
    columns
        Those to use; by default every column that holds numbers.

    Returns
    -------
    Truth
        An empty field is NaN.

    Raises
    ------
    SettingsError
        If the file cannot be read, has no ``arch`` or no number, lists an architecture twice, or lacks a requested
        column.
    """
    name = Path(path)
    try:
        rows = list(csv.reader(io.StringIO(read_text(name, str(name)), newline="")))
    except csv.Error as error:
        raise SettingsError(f"{name} cannot be read: {error}") from error
    header = [title.strip() for title in rows[0]] if rows else []
    if _ARCH_COLUMN not in header or len(set(header)) != len(header):
        found = ", ".join(header) or "nothing"
        raise SettingsError(f"{name} begins with {found}; distinct titles with one {_ARCH_COLUMN!r} are needed")
    body = [(line, row) for line, row in enumerate(rows[1:], 2) if row]
    for line, row in body:
        if len(row) != len(header):
            raise SettingsError(f"{name}, line {line}: {len(row)} fields; {len(header)} are needed")
    archs = tuple(row[header.index(_ARCH_COLUMN)].strip() for _, row in body)
    _check_distinct(name, archs)
    found_columns = dict(_number_columns(name, header, body))
    for title in columns or ():
        if title in header and title not in found_columns:
            raise SettingsError(
                f"{name}: column {title!r} does not hold numbers only{_first_word(header, body, title)}"
            )
    chosen = _chosen(name, found_columns, columns)
    values = np.array([found_columns[title] for title in chosen]).T.reshape(len(archs), len(chosen))
    return Truth(archs=archs, columns=chosen, values=values)


def _check_distinct(name: Path, archs: Sequence[str]) -> None:
    if not archs:
        raise SettingsError(f"{name} lists no architecture")
    seen: set[str] = set()
    for arch in archs:
        if arch in seen:
            raise SettingsError(f"{name} lists {arch} twice; each architecture needs one line")
        seen.add(arch)


def _number_columns(
    name: Path, header: Sequence[str], body: Sequence[tuple[int, Sequence[str]]]
) -> Iterator[tuple[str, list[float]]]:
    """Yield the columns whose fields are numbers or empty, and not all empty; refuse one of numbers and a few words."""
    for index, title in enumerate(header):
        if title == _ARCH_COLUMN:
            continue
        numbers = [_number(row[index]) for _, row in body]
        words = [line for (line, _), number in zip(body, numbers, strict=True) if number is None]
        if 2 * len(words) < len(body) and words:
            word = dict(body)[words[0]][index]
            raise SettingsError(f"{name}, line {words[0]}: {title} is {word!r}; a number or nothing is needed")
        if not words and any(number is not None and math.isfinite(number) for number in numbers):
            yield title, [math.nan if number is None else number for number in numbers]


def _first_word(header: Sequence[str], body: Sequence[tuple[int, Sequence[str]]], title: str) -> str:
    """Return the first field of a column that is no number, and its line, to follow a message."""
    words = ((line, row[header.index(title)]) for line, row in body)
    return next((f": line {line} has {word!r}" for line, word in words if _number(word) is None), "")


def _number(text: str) -> float | None:
    """Return the number in a field, NaN where it is empty; None where it is a word, or no finite number."""
    text = text.strip()
    if not text:
        return math.nan
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _chosen(name: Path, found: dict[str, list[float]], wanted: Sequence[str] | None) -> tuple[str, ...]:
    for title in wanted or ():
        if title not in found:
            there = ", ".join(found) or "none with numbers"
            raise SettingsError(f"{name}: column {title!r} is not there; there are {there}")
    if not found:
        raise SettingsError(f"{name} has no column of numbers beside {_ARCH_COLUMN!r}")
    return tuple(dict.fromkeys(wanted)) if wanted else tuple(found)
