"""Genotypes in JSON whose keys are columns of a table: they are read from an object or from the cells of a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aznas_onnx.documents import JsonObject
from aznas_onnx.spaces.base import GenotypeError
from aznas_onnx.spaces.building import quote

__all__ = ["number", "numbers", "read_row", "write_row"]


def read_row(space: str, text: str, columns: Sequence[str], example: str) -> JsonObject:
    """Return the values of a JSON object that has exactly the keys `columns`.

    A value can also be text that holds it, as a cell of a CSV file does: ``{"depth":"[2, 6, 4]"}``.

    Raises GenotypeError if the text is no such object.
    """
    keys = ", ".join(columns)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GenotypeError(
            f"a genotype of {space} is JSON with {keys}, such as {example}; {quote(text)} is not"
        ) from error
    if not isinstance(row, dict) or set(row) != set(columns):
        raise GenotypeError(
            f"a genotype of {space} is a JSON object with exactly {keys}, such as {example}, unlike {quote(text)}"
        )
    return {column: _of_cell(row[column]) for column in columns}


def write_row(row: Mapping[str, Any]) -> str:
    """Write a genotype on one line without spaces, whole numbers without a decimal point."""
    return json.dumps({key: _shortest(value) for key, value in row.items()}, separators=(",", ":"))


def number(space: str, row: JsonObject, column: str) -> Any:
    """Return the number in a column; raise GenotypeError if it holds something else."""
    if type(row[column]) not in (int, float):
        raise GenotypeError(f"{space}: {column} is {quote(str(row[column]))}; a number is needed")
    return row[column]


def numbers(space: str, row: JsonObject, column: str) -> tuple[Any, ...]:
    """Return the list of numbers in a column; raise GenotypeError if it holds something else."""
    values = row[column]
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise GenotypeError(f"{space}: {column} is {quote(str(values))}; a list of numbers is needed")
    return tuple(values)


def _of_cell(value: Any) -> Any:
    """Return the value that a text holds; other values, and texts that hold none, as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _shortest(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_shortest(one) for one in value]
    return int(value) if isinstance(value, float) and value == int(value) else value
