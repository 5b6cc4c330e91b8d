"""Render the progress of `aznas bench`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from aznas_onnx.cli.render.progress import duration, shown
from aznas_onnx.evaluation import Scored

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["shown_resampling", "shown_scoring"]


def shown_scoring(console: Console) -> AbstractContextManager[Callable[[Scored], None]]:
    """Return a context with a function that shows how far scoring has come."""
    return shown(
        console,
        None,
        lambda state: f"{state.done:,} of {state.total:,}, {_told(state)}",
        lambda state: {
            "description": "scoring" if state.rate else "loading PyTorch",
            "completed": state.done,
            "total": state.total,
            "told": _told(state),
        },
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


def _told(state: Scored) -> str:
    """Return rate, time left and failures in words."""
    if state.remaining_s is None:
        return ""
    failed = f", {state.failed:,} failed" if state.failed else ""
    return f"{state.rate:.2g}/s, {duration(state.remaining_s)} left{failed}"
