"""Render reference sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.tables import Column, print_table, print_trimmed, write_csv, write_markdown
from aznas_onnx.cli.words import plural
from aznas_onnx.counts import format_count
from aznas_onnx.escaping import json_text, printable
from aznas_onnx.references import BUNDLED, ReferenceSet, find_reference

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_bundled", "render_reference_set"]

_QUANTILES = (0, 10, 50, 90, 100)


def render_bundled(output_format: OutputFormat, console: Console) -> None:
    """Write a table of the reference sets that come with the package."""
    reference_sets = [find_reference(bundled.name) for bundled in BUNDLED]
    rows = [
        (one.name, str(len(one.members)), one.description, one.settings.effort, one.command) for one in reference_sets
    ]
    columns = (
        Column(title="Reference", is_number=False, is_name=True),
        Column(title="Networks"),
        Column(title="Description", is_number=False),
        Column(title="Effort", is_number=False),
    )
    if output_format is OutputFormat.JSON:
        keys = ("name", "networks", "description", "effort", "command")
        listed = [dict(zip(keys, (row[0], int(row[1]), *row[2:]), strict=True)) for row in rows]
        console.file.write(json_text({"schema": "aznas.references/1", "references": listed}) + "\n")
    elif output_format is OutputFormat.CSV:
        write_csv(console.file, ("name", "networks", "description", "effort", "command"), rows)
    elif output_format is OutputFormat.MARKDOWN:
        write_markdown(console.file, columns, (row[:4] for row in rows))
    else:
        print_table(console, columns, (row[:4] for row in rows))


def render_reference_set(reference_set: ReferenceSet, output_format: OutputFormat, console: Console) -> None:
    """Write one reference set: in full as JSON or CSV, else its settings and the spread of its proxies."""
    if output_format is OutputFormat.JSON:
        console.file.write(json_text(reference_set.as_json()) + "\n")
        return
    if output_format is OutputFormat.CSV:
        names = reference_set.proxies
        rows = [
            (member.model, *(member.values[name] for name in names), member.params) for member in reference_set.members
        ]
        write_csv(console.file, ("model", *names, "params"), rows)
        return
    columns = [
        Column(title="Proxy", is_number=False),
        *(Column(title=_quantile_title(q)) for q in _QUANTILES),
        Column(title="None"),
    ]
    table = [_quantiles(reference_set, name) for name in reference_set.proxies]
    table.append(
        [
            "params",
            *(format_count(round(q)) for q in np.percentile([m.params for m in reference_set.members], _QUANTILES)),
            "0",
        ]
    )
    if output_format is OutputFormat.MARKDOWN:
        write_markdown(console.file, columns, table)
        return
    settings = reference_set.settings
    networks = plural(len(reference_set.members), "network")
    shape = "x".join(map(str, settings.input_shape))
    print_trimmed(
        console,
        f"{printable(reference_set.name)}: {networks}, {printable(reference_set.description)}",
    )
    print_trimmed(
        console,
        f"scored at {shape}, effort {printable(settings.effort)}, batch {settings.batch_size}, "
        f"{plural(reference_set.seeds, 'seed')}",
    )
    print_trimmed(console, f"made by: {printable(reference_set.command)}", style="dim")
    console.print()
    print_table(console, columns, table)


def _quantile_title(q: int) -> str:
    return {0: "Lowest", 50: "Median", 100: "Highest"}.get(q, f"{q} %")


def _quantiles(reference_set: ReferenceSet, name: str) -> list[str]:
    column = np.asarray(reference_set.column(name))
    finite = column[np.isfinite(column)]
    missing = str(len(column) - len(finite))
    if not len(finite):
        return [name, *("" for _ in _QUANTILES), missing]
    found = np.percentile(finite, _QUANTILES)
    return [name, *(format_count(round(value)) if name == "macs" else f"{value:.3f}" for value in found), missing]
