"""The measured side of a benchmark: architectures and numbers such as accuracies, from a CSV."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError

__all__ = ["ARCH_COLUMN", "Truth", "read_truth"]

ARCH_COLUMN = "arch"

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
        If the file cannot be read, has no ``arch`` or no number, lists an architecture twice, or lacks a column that is
        asked for.
    """
    name = Path(path)
    try:
        with name.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    header = [title.strip() for title in rows[0]] if rows else []
    if ARCH_COLUMN not in header or len(set(header)) != len(header):
        found = ", ".join(header) or "nothing"
        raise SettingsError(f"{name} begins with {found}; distinct titles with one {ARCH_COLUMN!r} are needed")
    body = [(line, row) for line, row in enumerate(rows[1:], 2) if row]
    for line, row in body:
        if len(row) != len(header):
            raise SettingsError(f"{name}, line {line}: {len(row)} fields; {len(header)} are needed")
    archs = tuple(row[header.index(ARCH_COLUMN)].strip() for _, row in body)
    _check_distinct(name, archs)
    found_columns = dict(_number_columns(header, [row for _, row in body]))
    chosen = _chosen(name, header, found_columns, columns)
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


def _number_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, list[float]]]:
    """Yield the columns whose fields are all numbers or empty, and not all empty."""
    for index, title in enumerate(header):
        if title == ARCH_COLUMN:
            continue
        try:
            numbers = [float(row[index]) if row[index].strip() else math.nan for row in rows]
        except ValueError:
            continue
        if any(math.isfinite(number) for number in numbers):
            yield title, [number if math.isfinite(number) else math.nan for number in numbers]


def _chosen(
    name: Path, header: Sequence[str], found: dict[str, list[float]], wanted: Sequence[str] | None
) -> tuple[str, ...]:
    for title in wanted or ():
        if title not in found:
            what = "does not hold numbers only" if title in header else "is not there"
            raise SettingsError(f"{name}: column {title!r} {what}; there are {', '.join(found) or 'none with numbers'}")
    if not found:
        raise SettingsError(f"{name} has no column of numbers beside {ARCH_COLUMN!r}")
    return tuple(dict.fromkeys(wanted)) if wanted else tuple(found)
