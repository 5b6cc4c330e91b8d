"""Progress of a long job on stderr: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.evaluation import Scored
    from aznas_onnx.searching import Progress

__all__ = ["search_progress", "shown", "shown_resampling", "shown_scoring", "shown_search", "shown_stages"]

_LINE_EVERY_S = 30.0
_BAR_WIDTH = 20
_MANY_SAMPLES = 100
_SMALLEST_SHARE = 0.01

S = TypeVar("S")


@contextlib.contextmanager
def shown(
    console: Console, total: int | None, sentence: Callable[[S], str], update: Callable[[S], Mapping[str, Any]]
) -> Iterator[Callable[[S], None]]:
    """Yield a function that shows how far a job of scoring has come.

    - `total`: Steps of the job; None if not known yet.
    - `sentence`: Text of a line about a state.
    - `update`: New values of the bar: `description`, `completed`, `total`, and `status`, the text behind the bar.
    """
    if not console.is_terminal:
        yield _lines(console, sentence)
        return
    from rich import progress as bars
    from rich.table import Column

    # Where there is little room the bar gives way: it alone says nothing that the numbers do not.
    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=None, table_column=Column(max_width=_BAR_WIDTH)),
        bars.MofNCompleteColumn(table_column=Column(no_wrap=True)),
        bars.TextColumn("{task.fields[status]}", markup=False),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("loading PyTorch", total=total, status="")
        yield lambda state: bar.update(task, **update(state))


def _lines(console: Console, sentence: Callable[[S], str]) -> Callable[[S], None]:
    """Return a function that prints a line about a state if the last one is long ago."""
    last = time.monotonic()

    def print_line(state: S) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            console.print(sentence(state))

    return print_line


def shown_search(console: Console, iterations: int) -> AbstractContextManager[Callable[[Progress], None]]:
    """Return a context with a function that shows how far a search has come."""
    return shown(
        console,
        iterations,
        lambda state: f"{state.done:,} of {state.iterations:,}, {search_progress(state)}",
        lambda state: {"description": "searching", "completed": state.done, "status": search_progress(state)},
    )


def search_progress(state: Progress) -> str:
    """Return rate, time left, acceptance rate and best candidate in words."""
    parts = [f"{state.rate:.2g}/s"]
    if state.remaining_s is not None:
        parts.append(f"{_duration(state.remaining_s)} left")
    parts.append(f"{_share(state.acceptance_rate)} accepted")
    if state.failed:
        parts.append(f"{state.failed:,} failed")
    if state.sampled >= _MANY_SAMPLES:  # it may take long, so that the other numbers stand still
        parts.append(f"{state.sampled:,} samples for the next")
    elif state.best is not None:
        parts.append(f"best: trial {state.best[0]:,}")
    return ", ".join(parts)


def _share(rate: float) -> str:
    return "under 1%" if 0 < rate < _SMALLEST_SHARE else f"{rate:.0%}"


def shown_scoring(console: Console) -> AbstractContextManager[Callable[[Scored], None]]:
    """Return a context with a function that shows how far the scoring of a benchmark has come."""
    return shown(
        console,
        None,
        lambda state: f"{state.done:,} of {state.total:,}, {_scoring_progress(state)}",
        lambda state: {
            "description": "scoring" if state.rate else "loading PyTorch",
            "completed": state.done,
            "total": state.total,
            "status": _scoring_progress(state),
        },
    )


def _scoring_progress(state: Scored) -> str:
    """Return rate, time left and failures in words."""
    if state.remaining_s is None:
        return ""
    failed = f", {state.failed:,} failed" if state.failed else ""
    return f"{state.rate:.2g}/s, {_duration(state.remaining_s)} left{failed}"


@contextlib.contextmanager
def shown_stages(console: Console, first: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current stage of a job on a terminal."""
    if not console.is_terminal:
        yield lambda stage: None
        return
    from rich.text import Text

    with console.status(first) as status:
        yield lambda stage: status.update(Text(printable(stage)))


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


def _duration(seconds: float) -> str:
    """Write a number of seconds as hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
