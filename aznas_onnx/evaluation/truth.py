"""Measured accuracies of architectures, from a CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aznas_onnx.documents import read_text
from aznas_onnx.errors import SettingsError
from aznas_onnx.spaces import quote

__all__ = ["Truth", "read_truth"]

_ARCH_COLUMNS = ("arch", "model")

_NOTHING = frozenset(("", "nan", "na", "n/a", "null", "none"))  # how tables write that there is no number

Floats = npt.NDArray[np.float64]
_Body: TypeAlias = "Sequence[tuple[int, Sequence[str]]]"  # number and fields of each line


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Measured architectures.

    Attributes
    ----------
    archs
        Genotypes in the notation of their space, or names of models, each once in a group, in the order of the file.
    columns
        Names of the measured numbers.
    values
        (n_archs, n_columns) float64, read-only; higher is better, so the columns of `lower` have the other sign. NaN
        where an architecture has no measurement.
    groups
        By architecture: what it is compared within, such as a training recipe; empty for one group.
    sizes
        (n_archs,) the column of sizes that was asked for; None for none.
    lower
        The columns where lower is better.
    notes
        What was done to the file's numbers, in words for the user.
    """

    archs: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats
    groups: tuple[str, ...] = ()
    sizes: Floats | None = None
    lower: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.values.setflags(write=False)

    def take(self, rows: Sequence[int], notes: Sequence[str] = ()) -> Truth:
        """Return some of the lines, with more notes."""
        return Truth(
            archs=tuple(self.archs[row] for row in rows),
            columns=self.columns,
            values=self.values[list(rows)],
            groups=tuple(self.groups[row] for row in rows) if self.groups else (),
            sizes=None if self.sizes is None else self.sizes[list(rows)],
            lower=self.lower,
            notes=(*self.notes, *notes),
        )


def read_truth(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    genotype: Sequence[str] = (),
    group: str | None = None,
    size: str | None = None,
    lower: Collection[str] = (),
    names: Collection[str] = (),
) -> Truth:
    """Read a CSV with a column ``arch`` or ``model`` and columns of numbers.

    Parameters
    ----------
    path
        UTF-8, with a header line.
    columns
        Those to use; by default every column that holds numbers, but those of the arguments below.
    genotype
        Columns that together describe an architecture, where there is no ``arch``: a genotype is the JSON object of
        their fields.
    group
        Column whose fields name the groups to compare within.
    size
        Column of positive numbers that says how large an architecture is.
    lower
        Columns where lower is better, such as an error.
    names
        Names of models: the column that has more of them counts where there are both, ``arch`` and ``model``.

    Returns
    -------
    Truth
        A field that is empty, nan or NA is NaN. An architecture that the file lists several times has the mean of its
        measurements.

    Raises
    ------
    SettingsError
        If the file cannot be read, has no architecture or no number, or lacks a requested column.
    """
    name = Path(path)
    header, body = _read(name)
    by_columns = not set(_ARCH_COLUMNS) & set(header) and bool(genotype) and set(genotype) <= set(header)
    described = tuple(genotype) if by_columns else (_arch_column(name, header, body, genotype, names),)
    places = [header.index(title) for title in described]
    texts = [[row[place].strip() for place in places] for _, row in body]
    archs = [_as_object(described, fields) if by_columns else fields[0] for fields in texts]
    if not archs:
        raise SettingsError(f"{name} lists no architecture")
    apart = {*described, *(title for title in (group, size) if title)} - set(columns or ())
    found = dict(_number_columns(name, header, body, apart))
    for title in columns or ():
        if title in header and title not in found:
            raise SettingsError(
                f"{name}: column {title!r} does not hold numbers only{_first_word(header, body, title)}"
            )
    chosen = _chosen(name, found, columns)
    for title in lower:
        if title not in chosen:
            raise SettingsError(f"{name}: column {title!r} is not compared with; there are {', '.join(chosen)}")
    signed = [np.multiply(found[title], -1.0 if title in lower else 1.0) for title in chosen]
    values = np.array(signed).T.reshape(len(archs), len(chosen))
    groups = [] if group is None else [row[_place(name, header, group)].strip() for _, row in body]
    sizes = None if size is None else _sizes(name, header, body, size)
    listed = Truth(
        archs=tuple(archs),
        columns=chosen,
        values=values,
        groups=tuple(groups),
        sizes=sizes,
        lower=frozenset(lower),
    )
    return _averaged(name, listed)


def _read(name: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and number and fields of each line below it."""
    try:
        rows = list(csv.reader(io.StringIO(read_text(name, str(name)), newline="")))
    except csv.Error as error:
        raise SettingsError(f"{name} cannot be read: {error}") from error
    header = [title.strip() for title in rows[0]] if rows else []
    if not header or len(set(header)) != len(header):
        found = ", ".join(header) or "nothing"
        raise SettingsError(f"{name} begins with {found}; distinct titles of columns are needed")
    body = [(line, row) for line, row in enumerate(rows[1:], 2) if row]
    for line, row in body:
        if len(row) != len(header):
            raise SettingsError(f"{name}, line {line}: {len(row)} fields; {len(header)} are needed")
    return header, body


def _arch_column(
    name: Path, header: Sequence[str], body: _Body, genotype: Sequence[str], names: Collection[str]
) -> str:
    there = [title for title in _ARCH_COLUMNS if title in header]
    if there:
        known = set(names)
        return max(there, key=lambda title: sum(row[header.index(title)].strip() in known for _, row in body))
    wanted = " or ".join(map(repr, _ARCH_COLUMNS))
    instead = f", or the columns {', '.join(genotype)}" if genotype else ""
    raise SettingsError(f"{name} begins with {', '.join(header)}; a column {wanted} is needed{instead}")


def _place(name: Path, header: Sequence[str], title: str) -> int:
    if title not in header:
        raise SettingsError(f"{name}: column {title!r} is not there; there are {', '.join(header)}")
    return header.index(title)


def _as_object(titles: Sequence[str], fields: Sequence[str]) -> str:
    """Return a genotype as a JSON object; a field that is JSON itself is its value, any other a text."""
    return json.dumps({title: _json_or_text(field) for title, field in zip(titles, fields, strict=True)})


def _json_or_text(field: str) -> Any:
    try:
        return json.loads(field)
    except (ValueError, RecursionError):
        return field


def _sizes(name: Path, header: Sequence[str], body: _Body, title: str) -> Floats:
    place = _place(name, header, title)
    for line, row in body:
        if not (_number(row[place]) or 0.0) > 0.0:
            raise SettingsError(f"{name}, line {line}: {title} is {row[place]!r}; a size is a positive number")
    return np.array([_number(row[place]) for _, row in body], dtype=np.float64)


def _averaged(name: Path, listed: Truth) -> Truth:
    """Return each architecture once in a group, with the mean of its measurements there."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, arch in enumerate(listed.archs):
        places.setdefault((arch, listed.groups[place] if listed.groups else ""), []).append(place)
    if len(places) == len(listed.archs):
        return listed
    values = np.array([_mean(listed.values[rows]) for rows in places.values()])
    repeated = [arch for (arch, _), rows in places.items() if len(rows) > 1]
    counted = "1 architecture" if len(repeated) == 1 else f"{len(repeated):,} architectures"
    note = f"{name} lists {counted} several times ({quote(repeated[0])}); the measurements of each are averaged"
    return replace(listed.take([rows[0] for rows in places.values()], (note,)), values=values)


def _mean(values: Floats) -> Floats:
    """Return the mean of each column's numbers; NaN where there are none."""
    counts = np.isfinite(values).sum(axis=0)
    return np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)


def _number_columns(
    name: Path, header: Sequence[str], body: _Body, apart: Collection[str]
) -> Iterator[tuple[str, list[float]]]:
    """Yield the columns whose fields are numbers or empty, and not all empty; refuse one of numbers and a few words."""
    for index, title in enumerate(header):
        if title in apart:
            continue
        numbers = [_number(row[index]) for _, row in body]
        words = [line for (line, _), number in zip(body, numbers, strict=True) if number is None]
        if 2 * len(words) < len(body) and words:
            word = dict(body)[words[0]][index]
            raise SettingsError(f"{name}, line {words[0]}: {title} is {word!r}; a number or nothing is needed")
        if not words and any(number is not None and math.isfinite(number) for number in numbers):
            yield title, [math.nan if number is None else number for number in numbers]


def _first_word(header: Sequence[str], body: _Body, title: str) -> str:
    """Return the first field of a column that is no number, and its line, to follow a message."""
    words = ((line, row[header.index(title)]) for line, row in body)
    return next((f": line {line} has {word!r}" for line, word in words if _number(word) is None), "")


def _number(text: str) -> float | None:
    """Return the number in a field, NaN where it has none; None where it is a word, or infinite."""
    text = text.strip()
    if text.lower() in _NOTHING:
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
        raise SettingsError(f"{name} has no column of numbers beside the architectures")
    return tuple(dict.fromkeys(wanted)) if wanted else tuple(found)
