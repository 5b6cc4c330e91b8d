"""One table, written for a person, for Markdown or for CSV."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import csv_line, json_text, markdown, markdown_code, printable, shortened

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from aznas_onnx.results import ProxyValue

__all__ = [
    "Cells",
    "Column",
    "format_number",
    "format_proxy",
    "print_table",
    "print_trimmed",
    "proxies_with_room",
    "proxy_title",
    "write_csv",
    "write_json",
    "write_list",
    "write_markdown",
    "write_table",
]


class Cells(enum.Enum):
    """What a column holds."""

    NUMBERS = "numbers"  # aligned to the right
    TEXTS = "texts"
    NAMES = "names"  # from a file or a user


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, what it holds, and the text of a row in it; without `text`, rows are texts in order."""

    title: str
    holds: Cells = Cells.NUMBERS
    text: Callable[[Any], str] | None = None


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
    """Return the first proxies that fit into `width` beside the `others`; `narrow` is for divided titles."""
    one = _PROXY_WIDTH if narrow else _WIDE_PROXY_WIDTH
    return list(names[: max((width - others) // one, 3)])


def hidden_proxies(names: Sequence[str], shown: Sequence[str]) -> Iterator[str]:
    """Yield the sentence on the proxies that do not fit into a table, if there are any."""
    hidden = [name for name in names if name not in shown]
    if hidden:
        yield f"No room for {', '.join(hidden)}: a wider terminal, or --format md, csv or json, shows them."


def format_number(value: float | None, *, missing: str = "", most: float = 1e3, large: str = ".4g") -> str:
    """Return a number with three decimals, or, from `most` on, with significant digits."""
    if value is None:
        return missing
    return f"{value:.3f}" if abs(value) < most else f"{value:{large}}"


def format_proxy(name: str, value: ProxyValue | None, separator: str | None = None) -> str:
    """Return the value of a proxy; after a `separator`, its standard error."""
    if value is None:
        return ""
    if value.mean is None:
        return "none" if value.applies else "n/a"
    from aznas_onnx.proxies import PROXIES  # late: `aznas inspect` shows none

    if name in PROXIES and PROXIES[name].is_exact and value.mean.is_integer():
        return f"{value.mean:.0f}"
    has_error = separator is not None and value.stderr is not None
    return format_number(value.mean) + (f"{separator}±{format_number(value.stderr)}" if has_error else "")


def write_table(
    console: Console, columns: Iterable[Column], rows: Iterable[Any], output_format: OutputFormat = OutputFormat.TABLE
) -> None:
    """Write a table for a person, or as Markdown."""
    if output_format is OutputFormat.MARKDOWN:
        write_markdown(console.file, columns, rows)
    else:
        print_table(console, columns, rows)


def write_list(
    console: Console,
    output_format: OutputFormat,
    document: JsonObject,
    header: Sequence[str],
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
) -> None:
    """Write a list in any format: as JSON the `document`, as CSV all of the rows, else as many cells as columns."""
    if output_format is OutputFormat.JSON:
        write_json(console, document)
    elif output_format is OutputFormat.CSV:
        write_csv(console.file, header, rows)
    else:
        write_table(console, columns, [row[: len(columns)] for row in rows], output_format)


def write_json(console: Console, document: object) -> None:
    """Write a document as JSON."""
    console.file.write(json_text(document) + "\n")


def _cells(columns: Sequence[Column], row: Any) -> list[str]:
    cells = [row[place] if column.text is None else column.text(row) for place, column in enumerate(columns)]
    assert columns[0].text is not None or len(row) == len(columns)
    return cells


def print_table(console: Console, columns: Iterable[Column], rows: Iterable[Any]) -> None:
    """Print a table as wide as its content or the console, whichever is less; long text is folded, never cut."""
    from rich import box
    from rich.table import Table

    columns = list(columns)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        is_number = column.holds is Cells.NUMBERS
        justify: Any = "right" if is_number else "left"
        table.add_column(_lines(column.title), justify=justify, overflow="fold", no_wrap=is_number, vertical="top")
    for row in rows:
        table.add_row(*(_cell(text, column) for text, column in zip(_cells(columns, row), columns, strict=True)))
    print_trimmed(console, table)


def _cell(text: str, column: Column) -> Text:
    """Return a cell: our numbers can have two lines, external names have one."""
    from rich.text import Text

    return _lines(text) if column.holds is Cells.NUMBERS else Text(printable(shortened(text)))


def _lines(text: str) -> Text:
    from rich.text import Text

    return Text("\n".join(map(printable, text.split("\n"))))


def print_trimmed(console: Console, renderable: RenderableType, style: str = "") -> None:
    """Print without the spaces that fill the last column, except on a terminal, where they are invisible."""
    if console.is_terminal:
        console.print(renderable, style=style)
        return
    with console.capture() as capture:
        console.print(renderable, style=style)
    console.file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def write_markdown(stream: IO[str], columns: Iterable[Column], rows: Iterable[Any]) -> None:
    """Write a table as GitHub-flavoured Markdown."""
    columns = list(columns)
    lines = [[markdown(column.title) for column in columns]]
    lines += [["---:" if column.holds is Cells.NUMBERS else ":---" for column in columns]]
    lines += [
        [
            markdown_code(text, in_table=True) if column.holds is Cells.NAMES else markdown(text)
            for text, column in zip(_cells(columns, row), columns, strict=True)
        ]
        for row in rows
    ]
    stream.writelines(f"| {' | '.join(line)} |\n" for line in lines)


def write_csv(stream: IO[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV with exact values; a missing value is an empty field."""
    stream.writelines(csv_line(row) for row in (header, *rows))
