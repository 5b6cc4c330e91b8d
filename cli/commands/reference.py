"""`aznas reference`: build, show and extend reference sets."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.console import say, warn
from aznas_onnx.cli.exit_codes import DONE, INTERRUPTED, SOME_FAILED
from aznas_onnx.cli.options import (
    LimitRange,
    OutputFormat,
    budget_options,
    file_option,
    format_option,
    read_budget,
    reading_options,
    sampling_options,
    setting_option,
    space_options,
    whole_option,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.declared_settings import DEVICE, KEEP_GRAPH
from aznas_onnx.errors import SettingsError
from aznas_onnx.escaping import printable

if TYPE_CHECKING:
    from aznas_onnx.results import ProxyScores

__all__ = ["complete_reference", "reference"]


def complete_reference(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of bundled reference sets that begin with what was typed, for the shell."""
    from aznas_onnx.references import BUNDLED

    return [bundled.name for bundled in BUNDLED if bundled.name.startswith(incomplete)]


@click.group()
def reference() -> None:
    """Build, extend and show reference sets: scored networks that give a single score its percentile.

    \b
    Examples:
      aznas reference show                            the reference sets that come with the package
      aznas reference build -o ours.json models/*.onnx
      aznas reference build -o ref.json --space mbv2 --flops 400M:600M --sample 512
      aznas score model.onnx --reference mbv2-600M
    """


@reference.command()
@click.argument("models", metavar="[MODEL.onnx]...", type=click.Path(), nargs=-1)
@file_option(
    "-o",
    "--output",
    required=True,
    metavar="REF.json",
    help="The reference set to write; an existing file is replaced.",
)
@click.option("--name", help="Name of the reference set.  [default: the name of the file]")
@click.option(
    "--description", help="Description of the networks, one line.  [default: the space and its budget; none for files]"
)
@click.option("--space", metavar="NAME|FILE.py", help="Sample the networks from a space, in place of files.")
@budget_options("With --space, budget: ")
@whole_option("--sample", least=2, default=256, help="With --space: number of networks.")
@whole_option("--sample-seed", least=0, default=0, help="With --space: seed of the sample.")
@space_options
@sampling_options("auto")
@reading_options(KEEP_GRAPH)
def build(
    models: tuple[str, ...],
    output: Path,
    name: str | None,
    description: str | None,
    space: str | None,
    space_options: dict[str, int | str],
    macs: LimitRange,
    params: LimitRange,
    layers: LimitRange,
    sample: int,
    sample_seed: int,
    time_limit: float | None,
    **settings: Any,
) -> int:
    """Score networks as a reference set.

    The networks are files, or a sample of a space. The file stores the scores with their settings.

    Exit status: 0 done, 2 bad usage or nothing scored, 3 some were not scored, 130 interrupted (finished
    scores are stored).
    """
    budget = read_budget(macs=macs, params=params, layers=layers)
    if bool(models) == bool(space):
        raise SettingsError("a reference set is built from networks or from a --space; give one of the two")
    from aznas_onnx.limits import within
    from aznas_onnx.references.build import BuildInterrupted, build_from_models, build_from_space

    settings["limits"] = within(time_limit)
    command = f"aznas {shlex.join(sys.argv[1:])}"
    name = name or output.stem
    total = len(models) or sample
    tried: int | None = None
    try:
        with _progress(total) as show:
            if space is None:
                reference_set = build_from_models(models, name=name, command=command, on_result=show, **settings)
            else:
                from aznas_onnx.spaces import get

                reference_set = build_from_space(
                    get(space, **space_options),
                    budget,
                    sample,
                    name=name,
                    sample_seed=sample_seed,
                    command=command,
                    on_result=show,
                    **settings,
                )
    except BuildInterrupted as interruption:
        reference_set, tried = interruption.reference_set, interruption.scored
        reference_set = replace(reference_set, command=f"{command}  # interrupted after {tried} of {total}")
    if description:
        reference_set = replace(reference_set, description=description)
    reference_set.write(output)
    scored = len(reference_set.members)
    described = f" of {reference_set.description}" if reference_set.description else ""
    click.echo(f"{printable(str(output))}: {plural(scored, 'network')}{described}")
    if tried is not None:
        return _say_interrupted(tried, total)
    return DONE if scored == total else SOME_FAILED


@reference.command()
@click.argument("name", metavar="REF.json", type=click.Path())
@click.argument("models", metavar="MODEL.onnx...", type=click.Path(), nargs=-1, required=True)
@setting_option(DEVICE, default="auto")
@reading_options()
def add(name: str, models: tuple[str, ...], time_limit: float | None, **settings: Any) -> int:
    """Add networks to a reference set.

    They are scored with the effort, batch size and seeds of the reference set. A network of the same name is replaced.

    Exit status: 0 done, 2 bad usage or nothing scored, 3 some were not scored, 130 interrupted (finished
    scores are stored).
    """
    from aznas_onnx.limits import within
    from aznas_onnx.references import ReferenceSet
    from aznas_onnx.references.build import BuildInterrupted, add_models
    from aznas_onnx.results import Status

    reference_set = ReferenceSet.read(name)
    settings["limits"] = within(time_limit)
    try:
        with _progress(len(models)) as show:
            joined, scores = add_models(reference_set, models, on_result=show, **settings)
    except BuildInterrupted as interruption:
        interruption.reference_set.write(name)
        click.echo(f"{printable(name)}: {plural(len(interruption.reference_set.members), 'network')}")
        return _say_interrupted(interruption.scored, len(models))
    added = sum(result.status is Status.OK for result in scores)
    if not added:
        raise SettingsError("none of the networks could be scored; the reference set stays as it was")
    joined.write(name)
    click.echo(f"{printable(name)}: {plural(len(joined.members), 'network')}, {added} of them scored now")
    return DONE if added == len(models) else SOME_FAILED


@reference.command()
@click.argument("name", metavar="[NAME|REF.json]", required=False, shell_complete=complete_reference)
@format_option
def show(name: str | None, output_format: OutputFormat) -> int:
    """Show a reference set, or list the bundled ones."""
    from aznas_onnx.cli.console import results
    from aznas_onnx.cli.render.reference import render_bundled, render_reference_set
    from aznas_onnx.references import find_reference

    if name is None:
        render_bundled(output_format, results())
    else:
        render_reference_set(find_reference(name), output_format, results())
    return DONE


def _say_interrupted(tried: int, total: int) -> int:
    say(f"interrupted after {tried} of {plural(total, 'network')}; those that were scored are kept")
    return INTERRUPTED


@contextmanager
def _progress(total: int) -> Iterator[Callable[[ProxyScores], None]]:
    """Show the progress of scoring, and the warnings or the error of each network."""
    from aznas_onnx.cli.console import diagnostics
    from aznas_onnx.cli.render.progress import shown
    from aznas_onnx.results import Status

    done = 0
    update = {"description": "scoring"}
    with shown(
        diagnostics(), total, lambda count: f"{count} of {total} scored", lambda count: {**update, "completed": count}
    ) as tell:

        def count(scores: ProxyScores) -> None:
            nonlocal done
            done += 1
            for warning in scores.warnings:
                warn(scores.named(warning))
            if scores.status is Status.FAILED:
                say(scores.named(scores.reason or ""))
            tell(done)

        yield count
