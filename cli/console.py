"""Consoles: results to stdout, progress and warnings to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click

from aznas_onnx.cli.words import plural
from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "diagnostics",
    "forget_stdout",
    "open_closed_streams",
    "results",
    "say",
    "warn",
    "warn_of_failures",
    "write_traceback",
]

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
    class Unending(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would exit with 1: "rejected"

    console = Unending(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNWRAPPED
    return console


def warn(sentence: str) -> None:
    """Write a warning to stderr."""
    click.echo(f"warning: {printable(sentence)}", err=True)


def say(sentence: str) -> None:
    """Write a failure, or an interruption, to stderr."""
    click.echo(f"aznas: {printable(sentence)}", err=True)


def warn_of_failures(reasons: Sequence[str], noun: str) -> None:
    """Warn of how many could not be scored, and why the last one."""
    if reasons:
        warn(f"{plural(len(reasons), noun)} could not be scored; the last one: {reasons[-1]}")


def forget_stdout() -> None:
    """Prevent the interpreter from flushing into the closed pipe at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Give the null device to standard streams that are closed; a file or pipe would take their place else."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def write_traceback(trace: str | None = None) -> None:
    """Write a traceback, by default that of the error at hand, to stderr; names in it are made harmless."""
    for line in (trace or traceback.format_exc()).splitlines():
        click.echo(printable(line), err=True)
