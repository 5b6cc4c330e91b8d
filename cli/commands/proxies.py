"""`aznas proxies`: list the proxies; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aznas_onnx.cli.exit_codes import DONE
from aznas_onnx.cli.options import OutputFormat, format_option
from aznas_onnx.escaping import json_text

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.proxies import Proxy

__all__ = ["proxies"]

_FIELDS = ("name", "description", "equation", "origin", "direction", "passes", "requires", "cost", "fidelity")


@click.command(short_help="List the proxies that --proxies takes.")
@click.argument("names", metavar="[NAME...]", nargs=-1)
@format_option
def proxies(names: tuple[str, ...], output_format: OutputFormat) -> int:
    """List the proxies that score, search and bench compute with --proxies, or tell all about some.

    NAME is a proxy, a group of them, or FILE.py:NAME for one of your own. Proxies with the same pass share it: adding
    one costs nothing more. `aznas score --profile` shows what each pass takes on your networks.

    \b
    Examples:
      aznas proxies
      aznas proxies synflow best
      aznas score *.onnx --proxies az,synflow
      aznas score *.onnx --proxies az:2,./mine.py:SPREAD --aggregate linear

    Exit status: 0 done, 2 no such proxy.
    """
    from aznas_onnx.cli.console import results
    from aznas_onnx.cli.render.tables import Column, write_csv, write_markdown
    from aznas_onnx.proxies import PROXIES

    chosen = PROXIES.load_all(names) if names else tuple(PROXIES.values())
    console = results()
    rows = [[str(value) for value in _fields(proxy).values()] for proxy in chosen]
    if output_format is OutputFormat.JSON:
        groups = {} if names else {name: list(members) for name, members in PROXIES.groups.items()}
        document = {"schema": "aznas.proxies/1", "proxies": [_fields(proxy) for proxy in chosen], "groups": groups}
        console.file.write(json_text(document) + "\n")
    elif output_format is OutputFormat.CSV:
        write_csv(console.file, _FIELDS, rows)
    elif output_format is OutputFormat.MARKDOWN:
        columns = [Column(title=name.capitalize(), is_number=False, is_name=name == "name") for name in _FIELDS]
        write_markdown(console.file, columns, rows)
    elif names:
        _describe(chosen)
    else:
        _list(chosen, console)
    return DONE


def _fields(proxy: Proxy) -> dict[str, object]:
    found = {name: getattr(proxy, name) for name in _FIELDS}
    return found | {"direction": proxy.direction.value}


def _list(chosen: Sequence[Proxy], console: Console) -> None:
    from aznas_onnx.cli.render.tables import Column, print_table
    from aznas_onnx.proxies import PROXIES, Direction

    lower = {proxy.name for proxy in chosen if proxy.direction is Direction.LOWER_IS_BETTER}
    rows = [
        (proxy.name, proxy.description + ("; lower is better" if proxy.name in lower else ""), proxy.passes)
        for proxy in chosen
    ]
    titles = (("Proxy", True), ("What it is", False), ("Pass", False))
    print_table(console, [Column(title=title, is_number=False, is_name=is_name) for title, is_name in titles], rows)
    console.print()
    for name, members in PROXIES.groups.items():
        console.out(f"{name}: {', '.join(members)}", highlight=False)


def _describe(chosen: Sequence[Proxy]) -> None:
    for number, proxy in enumerate(chosen):
        if number:
            click.echo()
        fields = _fields(proxy)
        click.echo(fields.pop("name"))
        for name, value in fields.items():
            if value:
                click.echo(f"  {name:12} {value}")
