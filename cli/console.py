"""Where output goes: results to stdout, progress and warnings to stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["diagnostics", "results"]

_UNWRAPPED = 10_000  # columns: a pipe or file gets every line whole


def results() -> Console:
    """Return the console for results."""
    return _console(sys.stdout)


def diagnostics() -> Console:
    """Return the console for progress and warnings."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console  # takes as long to import as all of --help

    # Names in a model are shown as they are: no markup, no emoji codes, no colour guessed from their form.
    console = Console(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNWRAPPED
    return console
