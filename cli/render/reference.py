"""Render reference sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.tables import (
    Cells,
    Column,
    print_trimmed,
    write_csv,
    write_json,
    write_list,
    write_table,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.counts import format_count
from aznas_onnx.escaping import printable
from aznas_onnx.proxies.feed import Feed
from aznas_onnx.references import BUNDLED, ReferenceSet, find_reference

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_bundled", "render_reference_set"]

_QUANTILES = (0, 10, 50, 90, 100)


def render_bundled(output_format: OutputFormat, console: Console) -> None:
    """Write a table of the reference sets that come with the package."""
    reference_sets = [find_reference(bundled.name) for bundled in BUNDLED]
    rows = [
        (
            reference_set.name,
            str(len(reference_set.members)),
            reference_set.description,
            reference_set.settings.effort,
            reference_set.command,
        )
        for reference_set in reference_sets
    ]
    columns = (
        Column("Reference", Cells.NAMES),
        Column("Networks"),
        Column("Description", Cells.TEXTS),
        Column("Effort", Cells.TEXTS),
    )
    header = ("name", "networks", "description", "effort", "command")
    listed = [dict(zip(header, row, strict=True)) | {"networks": int(row[1])} for row in rows]
    write_list(console, output_format, {"schema": "aznas.references/1", "references": listed}, header, columns, rows)


def render_reference_set(reference_set: ReferenceSet, output_format: OutputFormat, console: Console) -> None:
    """Write one reference set: in full as JSON or CSV, else its settings and the spread of its proxies."""
    if output_format is OutputFormat.JSON:
        write_json(console, reference_set.as_json())
        return
    members = reference_set.members
    if output_format is OutputFormat.CSV:
        names = reference_set.proxies
        rows = [(member.model, *(member.values[name] for name in names), member.params) for member in members]
        write_csv(console.file, ("model", *names, "params"), rows)
        return
    if output_format is OutputFormat.TABLE:
        _print_settings(reference_set, console)
    titles = [{0: "Lowest", 50: "Median", 100: "Highest"}.get(q, f"{q} %") for q in _QUANTILES]
    columns = [Column("Proxy", Cells.TEXTS), *map(Column, titles), Column("None")]
    table = [_quantiles(name, reference_set.column(name)) for name in reference_set.proxies]
    write_table(console, columns, [*table, _quantiles("params", [member.params for member in members])], output_format)


def _print_settings(reference_set: ReferenceSet, console: Console) -> None:
    settings = reference_set.settings
    shape = "x".join(map(str, settings.input_shape))
    networks, seeds = plural(len(reference_set.members), "network"), plural(reference_set.seeds, "seed")
    fed = "" if settings.feed == Feed() else f", fed {settings.feed.text}"
    lines = (
        ", ".join(filter(None, (f"{reference_set.name}: {networks}", reference_set.description))),
        f"scored at {shape}, effort {settings.effort}, batch {settings.batch_size}{fed}, {seeds}",
    )
    for line in lines:
        print_trimmed(console, printable(line))
    print_trimmed(console, f"made by: {printable(reference_set.command)}", style="dim")
    console.print()


def _quantiles(name: str, values: Sequence[float]) -> list[str]:
    column = np.asarray(values, dtype=float)
    finite = column[np.isfinite(column)]
    found = np.percentile(finite, _QUANTILES) if len(finite) else ()
    texts = [format_count(round(value)) if name in ("macs", "params") else f"{value:.3f}" for value in found]
    return [name, *(texts or [""] * len(_QUANTILES)), str(len(column) - len(finite))]
