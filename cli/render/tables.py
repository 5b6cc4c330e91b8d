"""One table as terminal text, Markdown or CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from aznas_onnx.escaping import csv_line, markdown, markdown_code, printable, shortened

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

__all__ = ["Column", "print_table", "print_trimmed", "proxies_with_room", "proxy_title", "write_csv", "write_markdown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its title, whether it holds numbers (which stand to the right) or names from outside."""

    title: str
    is_number: bool = True
    is_name: bool = False
    style: str = ""


_DIVIDED = {
    "expressivity": "expres-\nsivity",
    "progressivity": "progres-\nsivity",
    "trainability": "train-\nability",
    "bottleneck": "bottle-\nneck",
    "activations": "activa-\ntions",
    "receptive": "recep-\ntive",
}
_PROXY_WIDTH, _WIDE_PROXY_WIDTH = 9, 16  # of a column of a proxy, with a divided title and without


def proxy_title(name: str, *, narrow: bool) -> str:
    """Return the title of a proxy's column, divided where there is little room."""
    words = name.split("_")
    title = "\n".join(_DIVIDED.get(word, word) for word in words) if narrow else " ".join(words)
    return title.capitalize()


def proxies_with_room(names: Sequence[str], width: int, others: int, *, narrow: bool) -> list[str]:
    """Return the proxies that a table on a console can show: all, or the first of them.

    Parameters
    ----------
    names
        In the order of their columns.
    width
        Of the console.
    others
        What the other columns take.
    narrow
        Whether titles are divided.
    """
    one = _PROXY_WIDTH if narrow else _WIDE_PROXY_WIDTH
    return list(names[: max((width - others) // one, 3)])


def print_table(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as wide as its content or the console, whichever is less; long text is folded, never cut."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            _lines(column.title),
            justify="right" if column.is_number else "left",
            style=column.style,
            overflow="fold",
            no_wrap=column.is_number,
            vertical="top",
        )
    for row in rows:
        table.add_row(*(_cell(text, column) for text, column in zip(row, columns, strict=True)))
    print_trimmed(console, table)


def _cell(text: str, column: Column) -> Text:
    """Return a cell: a number of ours may stand on two lines, and a name, whatever it holds, on one."""
    from rich.text import Text

    return _lines(text) if column.is_number else Text(printable(shortened(text)))


def _lines(text: str) -> Text:
    from rich.text import Text

    return Text("\n".join(map(printable, text.split("\n"))))


def print_trimmed(console: Console, renderable: RenderableType, style: str = "") -> None:
    """Print without the spaces that fill the last column; on a terminal nobody sees them."""
    if console.is_terminal:
        console.print(renderable, style=style)
        return
    with console.capture() as capture:
        console.print(renderable, style=style)
    console.file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def write_markdown(stream: IO[str], columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Write a table as GitHub-flavoured Markdown."""
    lines = [[markdown(column.title) for column in columns]]
    lines += [["---:" if column.is_number else ":---" for column in columns]]
    lines += [[_markdown_cell(cell, column) for cell, column in zip(row, columns, strict=True)] for row in rows]
    for line in lines:
        stream.write(f"| {' | '.join(line)} |\n")


def _markdown_cell(text: str, column: Column) -> str:
    return markdown_code(text, in_table=True) if column.is_name else markdown(text)


def write_csv(stream: IO[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV with exact values; what is missing is an empty field."""
    stream.writelines(csv_line(row) for row in (header, *rows))
