from __future__ import annotations

import io

from rich.console import Console

from aznas_onnx.cli.render.tables import Cells, Column, print_table, write_csv, write_markdown

COLUMNS = (
    Column("Name", Cells.NAMES),
    Column("MACs"),
    Column("Why", Cells.TEXTS),
)
ROWS = [("a__b__c", "12M", "it is"), ("[red]x|y`z\x1b[0m", "1.5G", "a | b")]


def printed(width: int) -> str:
    stream = io.StringIO()
    print_table(Console(file=stream, width=width, markup=False, highlight=False), COLUMNS, ROWS)
    return stream.getvalue()


def test_a_table_is_as_wide_as_its_content() -> None:
    assert printed(200) == (
        "Name               MACs  Why\n"
        "──────────────────────────────\n"
        "a__b__c             12M  it is\n"
        "[red]x|y`z\\x1b[0m  1.5G  a | b\n"
    )


def test_long_text_is_folded_and_numbers_stay_whole() -> None:
    assert printed(24) == (
        "Name         MACs  Why\n"
        "────────────────────────\n"
        "a__b__c       12M  it is\n"
        "[red]x|y`z\\  1.5G  a | b\n"
        "x1b[0m\n"
    )


def test_markdown_shows_names_as_code_and_marks_as_entities() -> None:
    stream = io.StringIO()
    write_markdown(stream, COLUMNS, ROWS)
    assert stream.getvalue() == (
        "| Name | MACs | Why |\n"
        "| :--- | ---: | :--- |\n"
        "| `a__b__c` | 12M | it is |\n"
        "| <code>&#91;red&#93;x&#124;y&#96;z&#92;x1b&#91;0m</code> | 1.5G | a <code>&#124;</code> b |\n"
    )


def test_csv_quotes_where_needed_and_leaves_missing_fields_empty() -> None:
    stream = io.StringIO()
    write_csv(stream, ("name", "macs"), [("a,b", 12), ('say "x"', None)])
    assert stream.getvalue() == 'name,macs\n"a,b",12\n"say ""x""",\n'
