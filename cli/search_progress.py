"""The progress of a search on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aznas_onnx.searching import Progress

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["shown_progress", "told"]

_LINE_EVERY_S = 30.0


@contextlib.contextmanager
def shown_progress(console: Console, iterations: int) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows how far a search has come."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=20),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[told]}", markup=False),
    )
    with bars.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("loading PyTorch", total=iterations, told="")
        yield lambda state: shown.update(task, description="searching", completed=state.done, told=told(state))


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()

    def __call__(self, state: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._console.print(f"{state.done:,} of {state.iterations:,}, {told(state)}")


def told(state: Progress) -> str:
    """Return rate, time left, acceptance rate and best candidate in words."""
    parts = [f"{state.rate:.2g}/s"]
    if state.remaining_s is not None:
        parts.append(f"{_duration(state.remaining_s)} left")
    parts.append(f"{state.acceptance_rate:.0%} of draws accepted")
    if state.failed:
        parts.append(f"{state.failed:,} failed")
    if state.best is not None:
        parts.append(f"best is trial {state.best[0]:,}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
