"""Render the progress of `aznas search`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from aznas_onnx.cli.render.progress import duration, shown
from aznas_onnx.searching import Progress

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["shown_progress", "told"]

_MANY_DRAWS = 100


def shown_progress(console: Console, iterations: int) -> AbstractContextManager[Callable[[Progress], None]]:
    """Return a context with a function that shows how far a search has come."""
    return shown(
        console,
        iterations,
        lambda state: f"{state.done:,} of {state.iterations:,}, {told(state)}",
        lambda state: {"description": "searching", "completed": state.done, "told": told(state)},
    )


def told(state: Progress) -> str:
    """Return rate, time left, acceptance rate and best candidate in words."""
    parts = [f"{state.rate:.2g}/s"]
    if state.remaining_s is not None:
        parts.append(f"{duration(state.remaining_s)} left")
    parts.append(f"{state.acceptance_rate:.0%} accepted")
    if state.failed:
        parts.append(f"{state.failed:,} failed")
    if state.sampled >= _MANY_DRAWS:  # it may take long, so that the other numbers stand still
        parts.append(f"{state.sampled:,} draws for the next")
    elif state.best is not None:
        parts.append(f"best: trial {state.best[0]:,}")
    return ", ".join(parts)
