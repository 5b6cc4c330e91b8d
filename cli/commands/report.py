"""`aznas report`: scores and measured accuracies as a page with tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from aznas_onnx.cli.exit_codes import DONE
from aznas_onnx.cli.options import file_option, measurement_options
from aznas_onnx.escaping import printable

__all__ = ["report"]


def _read_scores(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> tuple[tuple[str | None, Path], ...]:
    """Return label and file of ``LABEL=FILE`` or ``FILE``; what exists under its whole name is a file."""
    found: list[tuple[str | None, Path]] = []
    for value in values:
        label, separator, file = value.partition("=")
        has_label = bool(separator and label and file) and not Path(value).exists()
        found.append((label, Path(file)) if has_label else (None, Path(value)))
    return tuple(found)


@click.command()
@click.argument("scores", nargs=-1, required=True, callback=_read_scores, metavar="[LABEL=]SCORES.jsonl...")
@measurement_options
@file_option(
    "-o",
    "--output",
    required=True,
    metavar="FILE.md",
    help="The page to write; its plots go to a folder of the same name.",
)
@click.option("--no-plots", is_flag=True, help="Write tables only; plots need the extra aznas-onnx[report].")
def report(
    scores: tuple[tuple[str | None, Path], ...],
    truth: Path,
    output: Path,
    metrics: tuple[str, ...],
    resamples: int,
    no_plots: bool,
) -> int:
    """Write a page in Markdown on the scores of `aznas bench`.

    The first file is reported in full; further files (of other batch sizes) are compared with it in time and agreement.

    \b
    Examples:
      aznas report nb201.jsonl --truth accuracies.csv -o nb201.md
      aznas report paper=a.jsonl fast=b.jsonl --truth accuracies.csv -o benchmarks.md

    Exit status: 0 done, 2 bad usage or bad input, 130 interrupted.
    """
    from aznas_onnx.cli.console import diagnostics, warn
    from aznas_onnx.cli.render.progress import shown_stages
    from aznas_onnx.evaluation import Bootstrap, write_report

    warnings: list[str] = []
    with shown_stages(diagnostics(), "reading") as tell:
        written = write_report(
            [file for _, file in scores],
            truth,
            output,
            labels=[label for label, _ in scores],
            metrics=metrics,
            bootstrap=Bootstrap(resamples=resamples),
            with_plots=not no_plots,
            on_step=tell,
            on_warning=warnings.append,
        )
    for warning in warnings:
        warn(warning)
    for path in written:
        click.echo(f"wrote {printable(str(path))}", err=True)
    return DONE
