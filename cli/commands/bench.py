"""`aznas bench`: agreement of the scores of a space with measured accuracies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.commands.spaces import complete_space
from aznas_onnx.cli.console import say, warn, warn_of_failures
from aznas_onnx.cli.exit_codes import BAD_INPUT, DONE, INTERRUPTED, SOME_FAILED
from aznas_onnx.cli.options import (
    OutputFormat,
    as_published_option,
    bf16_option,
    file_option,
    format_option,
    measurement_options,
    operators_option,
    proxy_options,
    sampling_options,
    space_options,
    time_limit_option,
    whole_option,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from aznas_onnx.evaluation import Run
    from aznas_onnx.ranking import Ensemble

__all__ = ["bench"]


def _read_sample(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """Return a number of architectures, or None for ``all``.

    Raises click.BadParameter if the text is neither.
    """
    if value == "all":
        return None
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise click.BadParameter(f"{value!r} is neither a positive number nor all")
    return int(value)


def _read_share(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Return a share that is written ``10%`` or ``0.1``.

    Raises click.BadParameter if the text is neither, or negative.
    """
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < float("inf"):
        raise click.BadParameter(f"{value!r} is no share; 10% and 0.1 are examples")
    return share


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SPACE|MODEL...", shell_complete=complete_space)
@measurement_options
@click.option(
    "--lower",
    multiple=True,
    metavar="COLUMN",
    help="Column of --truth where lower is better, such as an error or a perplexity. May be given several times.",
)
@click.option("--group", metavar="COLUMN", help="Column of --truth: architectures are compared within its groups.")
@click.option(
    "--match",
    default="macs",
    show_default=True,
    metavar="macs|params|COLUMN",
    help="Size by which pairs are matched: a count, or a column of --truth such as a latency.",
)
@click.option(
    "--within",
    default="10%",
    show_default=True,
    metavar="SHARE",
    callback=_read_share,
    help="Largest difference of the sizes in a pair of the same size.",
)
@click.option("--combinations", is_flag=True, help="Report each set of two and more proxies, too.")
@click.option(
    "--sample",
    default="all",
    show_default=True,
    metavar="N|all",
    callback=_read_sample,
    help="Number of architectures to score, sampled at random. A larger sample contains the smaller ones.",
)
@whole_option("--seed", least=0, default=0, help="Seed of the sample.")
@click.option("--unique", is_flag=True, help="Score one architecture of those that are the same network.")
@file_option(
    "-o",
    "--scores",
    metavar="FILE.jsonl",
    help="File that gets each score as it is computed; an existing file is continued.  "
    "[default: a new file in this folder]",
)
@whole_option("--workers", default=1, help="Processes that score.")
@sampling_options("paper")
@whole_option("--score-seed", least=0, default=0, help="First seed of scoring.")
@proxy_options
@time_limit_option
@operators_option
@as_published_option
@bf16_option
@space_options
@format_option
def bench(
    sources: tuple[str, ...],
    truth: Path,
    lower: tuple[str, ...],
    group: str | None,
    match: str,
    within: float,
    combinations: bool,
    sample: int | None,
    seed: int,
    unique: bool,
    scores: Path | None,
    metrics: tuple[str, ...],
    workers: int,
    time_limit: float | None,
    score_seed: int,
    aggregation: str | None,
    resamples: int,
    space_options: dict[str, int | str],
    output_format: OutputFormat,
    **scoring: Any,
) -> int:
    """Score networks, and compare the scores with measured accuracies.

    SPACE is a space of `aznas spaces`, or the path of a Python file with your own; or give ONNX files, or names
    such as `timm:resnet50`, in its place. The column `arch` or `model` of --truth has genotypes of the space, or
    the names of the files without .onnx, or these names. The output has Kendall's tau and Spearman's rho with every
    column of numbers, and tau over pairs of the same size, which says what a score knows beyond size: for each
    proxy, for each group of proxies asked for (`--proxies az,best`), and for counts that need no scoring (MACs,
    parameters, layers with weights).

    Each score is written to --scores at once: after an interruption or a crash, the same command continues.

    \b
    Examples:
      aznas bench nb201 --truth accuracies.csv --sample 200 --batch-size 8
      aznas bench candidates/*.onnx --truth measured.csv
      aznas bench zoo/*.onnx --truth measured.csv --group recipe --match latency_ms --within 5%
      aznas bench nb201 --truth accuracies.csv --sample 1000 -o nb201.jsonl --format json
      aznas bench ./my_space.py --truth measured.csv --metric top1 --device cuda

    Exit status: 0 done, 2 bad usage or fewer than two scored, 3 some failed, 130 interrupted.
    """
    from aznas_onnx.cli.named_networks import export_named
    from aznas_onnx.evaluation import SizeMatch, prepare_run
    from aznas_onnx.ranking import Ensemble
    from aznas_onnx.scoring import ScoreSettings
    from aznas_onnx.zoo import is_name

    settings = ScoreSettings.of(**scoring, seed=score_seed)
    is_of_networks = len(sources) > 1 or sources[0].endswith(".onnx") or is_name(sources[0])
    source = sources if is_of_networks else sources[0]
    export_named(sources)
    label = Path(source).stem if isinstance(source, str) else "networks"
    path = Path(f"bench-{label}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl") if scores is None else scores
    run = prepare_run(
        source,
        truth,
        metrics=metrics,
        group=group,
        lower=lower,
        match=SizeMatch(by=match, within=within),
        sample=sample,
        seed=seed,
        unique=unique,
        scores=path,
        space_options=space_options,
        workers=workers,
        time_limit=time_limit,
        settings=settings,
    )
    if scores is None:
        click.echo(f"scores: {printable(str(path))}", err=True)
    interrupted = False
    try:
        _score(run)
    except KeyboardInterrupt:
        interrupted = True
    failed = _report_trouble(run, interrupted)
    n_scored = len(run.records()) - failed
    if n_scored >= 2:
        _evaluate(
            run,
            truth,
            Ensemble.of(settings.proxies, aggregation),
            0 if interrupted else resamples,
            output_format,
            combinations=combinations,
            interrupted=interrupted,
        )
    if interrupted:
        return INTERRUPTED
    if n_scored < 2:
        say(f"{plural(n_scored, 'architecture')} scored; 2 or more can be compared")
        return BAD_INPUT
    return SOME_FAILED if failed else DONE


def _score(run: Run) -> None:
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.cli.render.progress import shown_scoring

    with shown_scoring(diagnostics()) as show:
        run.score(show)


def _evaluate(
    run: Run,
    truth: Path,
    ensemble: Ensemble,
    resamples: int,
    output_format: OutputFormat,
    *,
    combinations: bool,
    interrupted: bool,
) -> None:
    from aznas_onnx.cli.console import diagnostics, results
    from aznas_onnx.cli.render.bench import BenchReport, render_bench
    from aznas_onnx.cli.render.progress import shown_resampling
    from aznas_onnx.evaluation import Bootstrap

    with shown_resampling(diagnostics(), resamples) as show:
        evaluation = run.evaluate(ensemble, Bootstrap(resamples=resamples), show, has_combinations=combinations)
    for warning in evaluation.warnings:
        warn(warning)
    report = BenchReport(
        evaluation=evaluation,
        space=run.space.name,
        truth=str(truth),
        scores=str(run.scores),
        settings=run.settings,
        selection=run.selection,
        interrupted=interrupted,
    )
    render_bench(report, output_format, results())


def _report_trouble(run: Run, interrupted: bool) -> int:
    """Print failures and how to continue to stderr; return the number of failures."""
    records = run.records()
    reasons = [record.reason for record in records if record.reason is not None]
    warn_of_failures(reasons, "architecture")
    if interrupted:
        total = plural(len(run.archs), "architecture")
        say(
            f"interrupted after {len(records):,} of {total}, all of them in {run.scores}; the same command with "
            f"--scores {run.scores} goes on"
        )
    return len(reasons)
