"""The progress of a benchmark on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aznas_onnx.benching import Scored

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["shown_resampling", "shown_scoring"]

_LINE_EVERY_S = 30.0


@contextlib.contextmanager
def shown_scoring(console: Console) -> Iterator[Callable[[Scored], None]]:
    """Yield a function that shows how far scoring has come."""
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
        task = shown.add_task("loading PyTorch", total=None, told="")
        yield lambda state: shown.update(
            task,
            description="scoring" if state.rate else "loading PyTorch",
            completed=state.done,
            total=state.total,
            told=_told(state),
        )


@contextlib.contextmanager
def shown_resampling(console: Console, resamples: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many bootstrap resamples are done."""
    if not console.is_terminal:
        yield lambda done: None
        return
    from rich import progress as bars

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(bar_width=20), bars.MofNCompleteColumn())
    with bars.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("confidence intervals", total=resamples)
        yield lambda done: shown.update(task, completed=done)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()

    def __call__(self, state: Scored) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._console.print(f"{state.done:,} of {state.total:,}, {_told(state)}")


def _told(state: Scored) -> str:
    """Return rate, time left and failures in words."""
    if state.remaining_s is None:
        return ""
    minutes, seconds = divmod(round(state.remaining_s), 60)
    hours, minutes = divmod(minutes, 60)
    failed = f", {state.failed:,} failed" if state.failed else ""
    return f"{state.rate:.2g}/s, {hours}:{minutes:02}:{seconds:02} left{failed}"
