"""Append results of a benchmark line by line, and continue an earlier run of the same settings."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["digest", "resumed"]

Row = dict[str, Any]


def digest(path: Path) -> str:
    """Return a digest of the content of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def resumed(path: Path, settings: Mapping[str, Any]) -> tuple[list[Row], Callable[[Row], None]]:
    """Return the rows that a file of results holds, and what appends a further one.

    Every row says what it was computed with. The process ends with a sentence where the file has rows of other settings
    (another reference, other seeds), or rows that do not say it: together they would be the result of neither.
    """
    wanted = dict(settings)
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []
    for row in rows:
        found = row.get("settings")
        if found != wanted:
            differing = sorted(key for key in {*wanted, *(found or {})} if (found or {}).get(key) != wanted.get(key))
            sys.exit(
                f"{path} was begun with other settings ({', '.join(differing)}); name another file, or delete this one"
            )

    def append(row: Row) -> None:
        rows.append({**row, "settings": wanted})
        with path.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")

    return rows, append
