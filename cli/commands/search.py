"""`aznas search`: search a space within a budget."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.commands.spaces import space_options
from aznas_onnx.cli.exit_codes import DONE, INTERRUPTED
from aznas_onnx.cli.options import (
    OutputFormat,
    aggregate_option,
    batch_size_option,
    device_option,
    effort_option,
    format_option,
    limit_option,
    proxies_option,
    seeds_option,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.errors import SettingsError
from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from aznas_onnx.searching import Study

__all__ = ["search"]


@click.command()
@click.option(
    "--space", required=True, metavar="NAME|FILE.py", help="A space of `aznas spaces`, or a file of your own."
)
@limit_option("--flops", "macs", help_text="Budget: MACs (multiply-adds) of one sample, such as 600M or 400M:600M.")
@limit_option("--params", help_text="Budget: trainable parameters, such as 4M:6M.")
@limit_option("--layers", help_text="Budget: layers, as the space counts them.")
@click.option(
    "--latency",
    "latency_ms",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Budget: milliseconds of one sample in ONNX Runtime, on one thread of this machine's CPU.",
)
@click.option(
    "--iterations", type=click.IntRange(min=1), default=1000, show_default=True, help="Score so many candidates."
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    help="Mutate so many of the best. [default: 1024, or a tenth of --iterations where that is less]",
)
@click.option(
    "--strategy",
    type=click.Choice(["evolution", "random"]),
    default="evolution",
    show_default=True,
    help="Mutate the best candidates, or draw them all at random.",
)
@click.option(
    "--count",
    type=click.Choice(["graph", "paper"]),
    default="graph",
    show_default=True,
    help="What --flops limits and the ranking uses: MACs of the graph, or the FLOPs of the paper's code.",
)
@click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The study's file. [default: a new one in this folder]",
)
@click.option("--resume", is_flag=True, help="Continue the study in --db; the other options must be the same.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Score in so many processes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the search and of scoring.")
@seeds_option
@effort_option("auto")
@batch_size_option
@device_option
@proxies_option
@aggregate_option
@click.option(
    "--score-resolution",
    type=click.IntRange(min=1),
    help="Score on images of this size: cheaper. Budget and export keep to --resolution. [default: --resolution]",
)
@click.option("--best", type=click.IntRange(min=1), default=5, show_default=True, help="Show so many of the best.")
@space_options
@format_option
def search(
    space: str,
    resolution: int | None,
    classes: int | None,
    output_format: OutputFormat,
    best: int,
    db: Path | None,
    **settings: Any,
) -> int:
    """Find the networks of a space that score best within a budget.

    Candidates are mutated from the best so far and ranked by their AZ-NAS scores over the whole history (Algorithm 1
    of the paper). Each one is on disk as soon as it is scored: after an interruption, or a crash, the same command with
    --resume goes on as if nothing had been. Several processes may work on one file.

    \b
    Examples:
      aznas search --space mbv2 --flops 600M --layers :14 --db run.db
      aznas search --space mbv2 --flops 600M --layers :14 --db run.db --resume --workers 4
      aznas search --space mbv2 --flops 600M --latency 20 --db run.db
      aznas search --space autoformer-tiny --params 4M:6M --count paper --strategy random
      aznas export run.db --best 3 -o winners/

    Exit status: 0 done, 2 bad usage or nothing to score, 130 interrupted.
    """
    from aznas_onnx.cli.console import results
    from aznas_onnx.cli.render.search import render_study
    from aznas_onnx.searching import Study, StudyError
    from aznas_onnx.spaces import get

    if db is None and settings["resume"]:
        raise SettingsError("--resume needs the file of a study; name it with --db")
    options = {"resolution": resolution, "num_classes": classes}
    settings["space_options"] = {name: value for name, value in options.items() if value is not None}
    if db is None:
        db = Path(f"{get(space, **settings['space_options']).name}-{time.strftime('%Y%m%d-%H%M%S')}.db")
        click.echo(f"study: {printable(str(db))}", err=True)
    if settings["resume"] and os.path.exists(db):  # noqa: PTH110 - which never raises
        scored = len(Study.open(db).trials)
        if scored > settings["iterations"]:
            already = f"the study has {plural(scored, 'candidate')} already"
            click.echo(f"warning: {already}, so --iterations {settings['iterations']} adds none", err=True)
    interrupted = False
    try:
        study = _search(space, db, settings)
    except KeyboardInterrupt:
        interrupted = True
        try:
            study = Study.open(db)
        except StudyError:  # it had not begun yet
            raise KeyboardInterrupt from None
    _report_trouble(study, settings["iterations"], interrupted)
    if study.trials or output_format is not OutputFormat.TABLE:
        render_study(study, best, output_format, results(), interrupted=interrupted)
    return INTERRUPTED if interrupted else DONE


def _search(space: str, db: Path, settings: dict[str, Any]) -> Study:
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.cli.render.search_progress import shown_progress
    from aznas_onnx.searching import Budget, Limit, search

    limits = {name: Limit(*(settings.pop(name) or ())) for name in ("macs", "params", "layers")}
    budget = Budget(**limits, latency_ms=settings.pop("latency_ms"))
    settings["aggregate"] = settings.pop("aggregation")
    with shown_progress(diagnostics(), settings["iterations"]) as show:
        return search(space, budget, db=db, on_progress=show, **settings)


def _report_trouble(study: Study, iterations: int, interrupted: bool) -> None:
    """Say on stderr why there are fewer candidates than asked for, and how many failed."""
    from aznas_onnx.results import Status

    failed = [trial for trial in study.trials if trial.status is Status.FAILED]
    if failed:
        reason = printable(failed[-1].reason or "")
        click.echo(f"warning: {plural(len(failed), 'candidate')} could not be scored; the last one: {reason}", err=True)
    if study.doubt is not None:
        click.echo(f"warning: {study.doubt}", err=True)
    if study.stopped is not None:
        click.echo(f"warning: the search ended early: {printable(study.stopped)}", err=True)
    if interrupted:
        click.echo(
            f"aznas: interrupted after {len(study.trials):,} of {plural(iterations, 'candidate')}, all of them in "
            f"{printable(str(study.path))}; the same command with --resume goes on",
            err=True,
        )
