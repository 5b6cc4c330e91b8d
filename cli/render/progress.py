"""Progress of a long job on stderr: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["duration", "shown"]

_LINE_EVERY_S = 30.0
_BAR_WIDTH = 20

S = TypeVar("S")


@contextlib.contextmanager
def shown(
    console: Console, total: int | None, sentence: Callable[[S], str], update: Callable[[S], Mapping[str, Any]]
) -> Iterator[Callable[[S], None]]:
    """Yield a function that shows how far a job of scoring has come.

    Parameters
    ----------
    console
        Where.
    total
        Steps of the job; None where that is not known yet.
    sentence
        What a line says of a state.
    update
        What of a state changes the bar: `description`, `completed`, `total`, and `told`, the text behind the bar.
    """
    if not console.is_terminal:
        yield _Lines(console, sentence)
        return
    from rich import progress as bars
    from rich.table import Column

    # Where there is little room the bar gives way: it alone says nothing that the numbers do not.
    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=None, table_column=Column(max_width=_BAR_WIDTH)),
        bars.MofNCompleteColumn(table_column=Column(no_wrap=True)),
        bars.TextColumn("{task.fields[told]}", markup=False),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("loading PyTorch", total=total, told="")
        yield lambda state: bar.update(task, **update(state))


def duration(seconds: float) -> str:
    """Write a number of seconds as hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class _Lines(Generic[S]):
    def __init__(self, console: Console, sentence: Callable[[S], str]) -> None:
        self._console = console
        self._sentence = sentence
        self._last = time.monotonic()

    def __call__(self, state: S) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            self._console.print(self._sentence(state))
