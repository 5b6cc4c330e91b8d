"""`aznas score`: the proxies of models, and their ranking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aznas_onnx.cli.commands.reference import complete_reference
from aznas_onnx.cli.console import say, warn
from aznas_onnx.cli.exit_codes import BAD_INPUT, DONE, INTERRUPTED, SOME_FAILED
from aznas_onnx.cli.options import (
    OutputFormat,
    as_published_option,
    bf16_option,
    format_option,
    proxy_options,
    reading_options,
    sampling_options,
    whole_option,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.declared_settings import BLOCKS, KEEP_GRAPH
from aznas_onnx.escaping import printable
from aznas_onnx.results import ProxyScores, Status

if TYPE_CHECKING:
    from aznas_onnx.calibration import Calibration
    from aznas_onnx.cli.render.score import ScoreReport
    from aznas_onnx.references import Placement, ReferenceSet
    from aznas_onnx.scoring import ScoreOptions, ScoreSettings
    from aznas_onnx.scoring.score_models import Scorable

__all__ = ["score"]

_OTHER_DESIGN = 0.8  # standard deviations of the traits of design


@click.command()
@click.argument("models", metavar="MODEL...", type=click.Path(), nargs=-1, required=True)
@format_option
@sampling_options("paper")
@whole_option("--seed", least=0, default=0, help="First of the seeds.")
@proxy_options
@reading_options(BLOCKS, KEEP_GRAPH)
@as_published_option
@bf16_option
@click.option(
    "--reference",
    metavar="NAME|REF.json",
    shell_complete=complete_reference,
    help="Rank the networks within a reference set (`aznas reference show`), scored with its settings; or estimate "
    "what a calibration measures, such as imagenet.",
)
@click.option(
    "--rank-by",
    type=click.Choice(["az", "best", "estimate"]),
    help="az: the score of --proxies (default); best: --proxies best; estimate: by --reference, imagenet by default.",
)
@click.option("--profile", is_flag=True, help="Write the time of each phase to stderr.")
@click.pass_context
def score(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    output_format: OutputFormat,
    input_shapes: dict[str, tuple[int, ...]],
    profile: bool,
    time_limit: float | None,
    aggregation: str | None,
    reference: str | None,
    rank_by: str | None,
    **options: Any,
) -> int:
    """Score networks without training, and rank them.

    MODEL is an ONNX file, or the name of a network of timm or torchvision (`pip install 'aznas-onnx[zoo]'`), which is
    exported with random weights.

    Each network gets four proxies from one forward and one backward pass with random weights: expressivity,
    progressivity, trainability, and complexity (MACs: the multiply-adds of one sample). Higher is better. The AZ score
    ranks the given networks among themselves. --reference places them in a reference set. Compare networks of one
    family.

    \b
    Examples:
      aznas score resnet18.onnx resnet50.onnx mobilenet_v2.onnx
      aznas score mine.onnx timm:resnet50 torchvision:vit_b_16 timm:vit_small_patch16_224@384
      aznas score candidates/*.onnx --seeds 3 --format csv > scores.csv
      aznas score net.onnx --input image=1x3x224x224 --batch-size 16 --device cuda
      aznas score detector.onnx --cut-at boxes --cut-at scores
      aznas score net.onnx --reference mbv2-600M

    Exit status: 0 done, 2 bad usage or none scored, 3 some failed, 130 interrupted.
    """
    from aznas_onnx.cli.console import diagnostics, results
    from aznas_onnx.cli.named_networks import export_named
    from aznas_onnx.cli.render.score import render_profile, render_scores
    from aznas_onnx.limits import within
    from aznas_onnx.proxies import PROXIES
    from aznas_onnx.references import find_reference
    from aznas_onnx.references.build import check_comparable
    from aznas_onnx.scoring import ScoreSettings

    options["input_shapes"] = input_shapes
    PROXIES.load_all(options["proxies"] or ())
    calibration = _calibration(reference, rank_by)
    reference_set = None if reference is None or calibration is not None else find_reference(reference)
    is_weighted = aggregation not in (None, "log-rank") or PROXIES.weights(options["proxies"] or ())
    if reference_set is not None and is_weighted:
        raise click.UsageError("a --reference ranks by log-rank (Eq. 12), each proxy once; leave it out, or the rest")
    compared = calibration or reference_set
    own = {} if compared is None else _own_options(compared)
    options |= {key: value for key, value in own.items() if ctx.get_parameter_source(key) is ParameterSource.DEFAULT}
    options["proxies"] = _proxies_of(options["proxies"], rank_by, is_estimated=calibration is not None)
    settings = ScoreSettings.of(**options)
    export_named(models)
    networks: Iterable[Scorable] = models
    if reference_set is not None:
        networks = check_comparable(reference_set, models, settings, within(time_limit))
    scored: list[ProxyScores] = []
    interrupted = False
    try:
        _score_all(models, networks, settings, scored, profile=profile, time_limit=time_limit)
    except KeyboardInterrupt:
        interrupted = True
    succeeded = sum(one.status is Status.OK for one in scored)
    report = _rank(scored, settings, aggregation, reference_set) if scored else None
    if report is not None and calibration is not None:
        report = _estimated(report, calibration, is_ranked=rank_by == "estimate")
    elif report is not None:
        _warn_of_other_designs(scored)
    _report_trouble(scored, report, of_many=len(models) > 1)
    if report is not None and (succeeded or output_format is not OutputFormat.TABLE):
        render_scores(report, output_format, results())
    if profile and succeeded:
        render_profile(scored, diagnostics())
    if interrupted:
        say(f"interrupted after {len(scored)} of {plural(len(models), 'model')}")
        return INTERRUPTED
    if not succeeded:
        return BAD_INPUT
    return DONE if succeeded == len(models) else SOME_FAILED


def _score_all(
    models: Sequence[str],
    networks: Iterable[Scorable],
    settings: ScoreSettings,
    scored: list[ProxyScores],
    *,
    profile: bool,
    time_limit: float | None,
) -> None:
    """Score the models one after the other and append each result at once, so that an interruption loses none."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from aznas_onnx.cli.console import diagnostics

    console = diagnostics()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading PyTorch", total=len(models))
        from aznas_onnx.limits import within
        from aznas_onnx.scoring import score_many

        def advance(result: ProxyScores | None = None) -> None:
            if result is not None:
                scored.append(result)
            if len(scored) < len(models):
                progress.update(task, description=f"scoring {printable(models[len(scored)])}", completed=len(scored))

        advance()
        score_many(networks, settings=settings, limits=within(time_limit), profile=profile, on_result=advance)


def _calibration(reference: str | None, rank_by: str | None) -> Calibration | None:
    """Return the calibration that --reference names, or that --rank-by estimate needs; None for neither."""
    from aznas_onnx.calibration import BUNDLED_CALIBRATIONS, find_calibration

    if reference is None and rank_by == "estimate":
        reference = BUNDLED_CALIBRATIONS[0]
    found = None if reference is None else find_calibration(reference)
    if found is None and rank_by == "estimate":
        raise click.UsageError(f"--reference {reference} holds no measured values, so nothing is estimated")
    return found


def _own_options(reference: Calibration | ReferenceSet) -> ScoreOptions:
    """Return the options of scoring that compare with a reference."""
    from aznas_onnx.calibration import Calibration

    return reference.options() if isinstance(reference, Calibration) else _settings_of(reference)


def _proxies_of(asked: Sequence[str] | None, rank_by: str | None, *, is_estimated: bool) -> Sequence[str] | None:
    """Return the proxies that --rank-by ranks by and an estimate needs beside those asked for."""
    if rank_by == "best":
        asked = ("best", *(asked or ()))
    return (*(asked or ("az",)), *(f"{name}:0" for name in _unasked(asked))) if is_estimated else asked


def _unasked(proxies: Iterable[str] | None) -> list[str]:
    """Return the proxies that an estimate needs beside the given ones; the ranking gives them weight 0."""
    from aznas_onnx.calibration import NEEDED
    from aznas_onnx.proxies import PROXIES

    asked = {proxy.name for proxy in PROXIES.resolve(proxies or ("az",))}
    return [name for name in NEEDED if name not in asked]


def _estimated(report: ScoreReport, calibration: Calibration, *, is_ranked: bool) -> ScoreReport:
    """Add what a calibration says of the models, and rank by it if asked for."""
    from aznas_onnx.cli.render.estimates import Estimates

    estimates = Estimates.of(report.scores, calibration)
    ranking = estimates.ranked(report.ranking) if is_ranked else report.ranking
    return replace(report, estimates=estimates, ranking=ranking)


def _warn_of_other_designs(scored: Sequence[ProxyScores]) -> None:
    """Warn where a network has other kinds of layers than the first; name the one that differs most."""
    from aznas_onnx.calibration import design_distance, find_calibration

    there = [one for one in scored if one.status is Status.OK and one.design]
    calibration = find_calibration("imagenet") if len(there) > 1 else None
    if calibration is None:
        return
    pairs = [(design_distance(there[0].design, other.design, calibration), other) for other in there[1:]]
    distance, other = max(pairs, key=lambda pair: pair[0])
    if distance > _OTHER_DESIGN:
        warn(
            f"{there[0].model} and {other.model} are of different designs, and the score compares networks of one; "
            "for classifiers of images, --rank-by estimate compares by published accuracies"
        )


def _settings_of(reference_set: ReferenceSet) -> ScoreOptions:
    """Return what the options are by default beside a reference set: what its networks were scored with.

    Its seeds are not: more seeds only reduce the noise.
    """
    from aznas_onnx.proxies import AZ

    own = reference_set.options()
    del own["seeds"]
    if {proxy.name for proxy in AZ} >= {*reference_set.proxies}:
        del own["proxies"]
    return own


def _rank(
    scored: Sequence[ProxyScores], settings: ScoreSettings, aggregation: str | None, reference_set: ReferenceSet | None
) -> ScoreReport:
    from aznas_onnx.cli.render.score import ScoreReport
    from aznas_onnx.ranking import Ensemble, rank
    from aznas_onnx.references import rank_in
    from aznas_onnx.scoring import resolve_device

    scored_with = replace(settings.loaded(), device=str(resolve_device(settings.device)))
    places: tuple[Placement | None, ...] = ()
    if reference_set is None:
        ranking = rank(scored, proxies=settings.proxies, aggregation=aggregation)
    else:
        ranking, places = rank_in(scored, reference_set)
    return ScoreReport(
        scores=tuple(scored),
        ranking=ranking,
        reference="" if reference_set is None else reference_set.name,
        places=places,
        proxies=scored_with.proxies,
        settings=scored_with,
        ensemble=Ensemble.of(settings.proxies, aggregation),
    )


def _report_trouble(scored: Sequence[ProxyScores], report: ScoreReport | None, *, of_many: bool) -> None:
    """Write warnings and failures to stderr, one sentence each."""
    warnings = [f"{one.model}: {warning}" if of_many else warning for one in scored for warning in one.warnings]
    for warning in (*warnings, *(report.ranking.warnings if report else ())):
        warn(warning)
    for one in scored:
        if one.status is Status.FAILED:
            say(one.named(one.reason or ""))
