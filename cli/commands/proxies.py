"""`aznas proxies`: list the proxies; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aznas_onnx.cli.exit_codes import DONE
from aznas_onnx.cli.options import OutputFormat, format_option
from aznas_onnx.documents import JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.proxies import Proxy

__all__ = ["proxies"]

_FIELDS = ("name", "description", "equation", "origin", "direction", "passes", "requires", "cost", "fidelity")


@click.command()
@click.argument("names", metavar="[NAME...]", nargs=-1)
@format_option
def proxies(names: tuple[str, ...], output_format: OutputFormat) -> int:
    """List the proxies for --proxies of score, search, bench and gate, or describe some of them.

    NAME is a proxy, a group, or FILE.py:NAME for your own proxy. Proxies with the same pass share it: a second
    one costs nothing. `aznas score --profile` shows the time of each pass on your networks.

    \b
    Examples:
      aznas proxies
      aznas proxies synflow best
      aznas score *.onnx --proxies az,synflow
      aznas score *.onnx --proxies az:2,./mine.py:SPREAD --aggregate linear

    Exit status: 0 done, 2 no such proxy.
    """
    from aznas_onnx.cli.console import results
    from aznas_onnx.cli.render.tables import Cells, Column, write_list
    from aznas_onnx.proxies import PROXIES

    chosen = PROXIES.load_all(names) if names else tuple(PROXIES.values())
    if output_format is not OutputFormat.TABLE:
        groups = {} if names else {name: list(members) for name, members in PROXIES.groups.items()}
        document = {"schema": "aznas.proxies/1", "proxies": [_fields(proxy) for proxy in chosen], "groups": groups}
        columns = [Column(name.capitalize(), Cells.NAMES if name == "name" else Cells.TEXTS) for name in _FIELDS]
        rows = [[str(value) for value in _fields(proxy).values()] for proxy in chosen]
        write_list(results(), output_format, document, _FIELDS, columns, rows)
    elif names:
        _describe(chosen)
    else:
        _list(chosen, results())
    return DONE


def _fields(proxy: Proxy) -> JsonObject:
    found = {name: getattr(proxy, name) for name in _FIELDS}
    return found | {"direction": proxy.direction.value}


def _list(chosen: Sequence[Proxy], console: Console) -> None:
    from aznas_onnx.cli.render.tables import Cells, Column, print_table
    from aznas_onnx.proxies import PROXIES, Direction

    def description(proxy: Proxy) -> str:
        is_lower_better = proxy.direction is Direction.LOWER_IS_BETTER
        return proxy.description + ("; lower is better" if is_lower_better else "")

    columns = (
        Column("Proxy", Cells.NAMES, lambda proxy: proxy.name),
        Column("What it is", Cells.TEXTS, description),
        Column("Pass", Cells.TEXTS, lambda proxy: proxy.passes),
    )
    print_table(console, columns, chosen)
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
