"""Where output goes: results to stdout, progress and warnings to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["diagnostics", "forget_stdout", "results"]

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


def forget_stdout() -> None:
    """Keep the interpreter from flushing into the closed pipe once more as it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
