"""`aznas search`: search a space within a budget."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.console import say, warn, warn_of_failures
from aznas_onnx.cli.exit_codes import DONE, INTERRUPTED
from aznas_onnx.cli.options import (
    LimitRange,
    OutputFormat,
    bf16_option,
    budget_options,
    file_option,
    format_option,
    operators_option,
    proxy_options,
    read_budget,
    sampling_options,
    space_options,
    time_limit_option,
    whole_option,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.errors import SettingsError
from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from aznas_onnx.searching import Progress, Study

__all__ = ["search"]


@click.command()
@click.option(
    "--space",
    required=True,
    metavar="NAME|FILE.py",
    help="Space to search: one of `aznas spaces`, or a Python file with a custom space.",
)
@budget_options()
@click.option(
    "--latency",
    "latency_ms",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Budget: milliseconds of one sample in ONNX Runtime on one thread of this machine's CPU.",
)
@whole_option("--iterations", default=1000, help="Candidates to score.")
@whole_option(
    "--top-k",
    help="Candidates that may be mutated: the K best.  [default: 1024, or a tenth of --iterations if that is less]",
)
@click.option(
    "--strategy",
    type=click.Choice(["evolution", "random"]),
    default="evolution",
    show_default=True,
    help="evolution mutates the best candidates; random samples all of them.",
)
@click.option(
    "--count",
    type=click.Choice(["graph", "paper"]),
    default="graph",
    show_default=True,
    help="Cost that --flops limits and the ranking uses: MACs of the graph, or the FLOPs of the paper's code.",
)
@file_option("--db", help="File of the study.  [default: a new file in this folder]")
@click.option("--resume", is_flag=True, help="Continue the study in --db; the other options must be the same.")
@whole_option("--workers", default=1, help="Processes that score.")
@whole_option("--seed", least=0, default=0, help="Seed of the search, and first seed of scoring.")
@sampling_options("auto")
@proxy_options
@time_limit_option
@operators_option
@bf16_option
@whole_option(
    "--score-resolution",
    help="Image size for scoring; a smaller one is cheaper. Budget and export use --resolution.  "
    "[default: --resolution]",
)
@whole_option("--best", default=5, help="Candidates to show.")
@space_options
@format_option
def search(
    space: str,
    output_format: OutputFormat,
    best: int,
    db: Path | None,
    **settings: Any,
) -> int:
    """Find the networks of a space with the best scores within a budget.

    Candidates are mutated from the best so far and ranked by their AZ-NAS scores over the whole history (Algorithm 1
    of the paper). Each score is on disk at once: after an interruption or a crash, the same command with --resume
    continues. Several processes can share one file.

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
    if db is None:
        db = Path(f"{get(space, **settings['space_options']).name}-{time.strftime('%Y%m%d-%H%M%S')}.db")
        settings["is_new"] = True
    if settings["resume"] and os.path.exists(db):  # noqa: PTH110 - which never raises
        scored = len(Study.open(db).trials)
        if scored > settings["iterations"]:
            already = f"the study has {plural(scored, 'candidate')} already"
            warn(f"{already}, so --iterations {settings['iterations']} adds none")
    interrupted = False
    try:
        study = _search(space, db, **settings)
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


def _search(
    space: str,
    db: Path,
    *,
    macs: LimitRange,
    params: LimitRange,
    layers: LimitRange,
    latency_ms: float | None,
    aggregation: str | None,
    is_new: bool = False,
    **settings: Any,
) -> Study:
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.cli.render.progress import shown_search
    from aznas_onnx.searching import search

    budget = read_budget(macs=macs, params=params, layers=layers, latency_ms=latency_ms)
    is_named = not is_new
    console = diagnostics()

    with shown_search(console, settings["iterations"]) as show:

        def shown(progress: Progress) -> None:
            nonlocal is_named
            if not is_named:  # only once there is a file
                console.print(f"study: {printable(str(db))}", markup=False, highlight=False, soft_wrap=True)
                is_named = True
            show(progress)

        return search(space, budget, db=db, aggregate=aggregation, on_progress=shown, **settings)


def _report_trouble(study: Study, iterations: int, interrupted: bool) -> None:
    """Print to stderr why there are fewer candidates than requested, and how many failed."""
    from aznas_onnx.results import Status

    failed = [trial.reason or "" for trial in study.trials if trial.status is Status.FAILED]
    warn_of_failures(failed, "candidate")
    if study.doubt is not None:
        warn(study.doubt)
    if study.stopped is not None:
        warn(f"the search ended early: {study.stopped}")
    if interrupted:
        say(
            f"interrupted after {len(study.trials):,} of {plural(iterations, 'candidate')}, all of them in "
            f"{study.path}; the same command with --resume goes on"
        )
