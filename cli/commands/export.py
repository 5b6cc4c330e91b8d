"""`aznas export`: write networks of a study as files to deploy and to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aznas_onnx.cli.console import warn
from aznas_onnx.cli.exit_codes import DONE
from aznas_onnx.cli.options import format_of, operators_option, whole_option
from aznas_onnx.cli.words import plural
from aznas_onnx.counts import format_count
from aznas_onnx.escaping import json_text, printable

if TYPE_CHECKING:
    from aznas_onnx.export import Exported
    from aznas_onnx.searching import Candidate, Study

__all__ = ["export"]


@click.command()
@click.argument("study_file", metavar="RUN.db", type=click.Path(path_type=Path))
@whole_option("--best", metavar="N", help="Export the N best candidates.  [default: 1]")
@whole_option(
    "--trial",
    "trials",
    least=0,
    multiple=True,
    metavar="ID",
    help="Export the trial of this number. May be given several times.",
)
@click.option(
    "--pareto",
    type=click.Choice(["macs", "params", "layers", "paper_flops"]),
    help="Export the Pareto front of score against this count.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to."
)
@operators_option
@whole_option("--seed", least=0, default=0, help="Seed of the initial weights.")
@format_of("table", "json", text="Format of the list of exports on stdout.")
def export(
    study_file: Path,
    best: int | None,
    trials: tuple[int, ...],
    pareto: str | None,
    output: Path,
    seed: int,
    output_format: str,
) -> int:
    """Write the best networks of a search, each into its own folder.

    A folder has model.onnx (with initial weights, checked in ONNX Runtime against torch), weights.pt (the same as a
    torch state dict), genotype.txt, scores.json, and README.md: the model card, with the lines that load the network
    for training.

    \b
    Examples:
      aznas export run.db -o winners/
      aznas export run.db --best 3 --pareto macs -o winners/
      aznas export run.db --trial 204 --seed 1 -o winners/

    Exit status: 0 done, 2 bad usage or bad input.
    """
    from aznas_onnx.searching import Study

    study = Study.open(study_file)
    chosen = _chosen(study, best, trials, pareto)
    if best is not None and len(study.best(best)) < best:
        there_are = plural(len(study.best(best)), "scored candidate")
        warn(f"--best {best}: the study has {there_are}")

    from aznas_onnx.export import export_winners  # torch, once there is something to write

    written: list[Exported] = []
    for candidate in chosen:
        written += export_winners(study, [candidate], output, seed=seed)
        if output_format == "table":  # a large network takes half a minute, so each is reported at once
            click.echo(_line(written[-1], len(study.trials)))
    if output_format == "json":
        entries = [
            {
                "folder": str(one.folder),
                "rank": one.candidate.rank,
                "trial": one.candidate.trial.number,
                "genotype": one.candidate.trial.genotype,
                "relative_difference": one.relative_difference,
                "replaces_earlier": one.replaces_earlier,
            }
            for one in written
        ]
        click.echo(json_text({"schema": "aznas.export/1", "study": str(study_file), "exported": entries}))
    return DONE


def _line(one: Exported, n_candidates: int) -> str:
    cost = one.candidate.trial.cost
    replaced = " (in place of an earlier export)" if one.replaces_earlier else ""
    return (
        f"{printable(str(one.folder))}{replaced}: rank {one.candidate.rank} of {plural(n_candidates, 'candidate')}, "
        f"{format_count(cost.macs)} MACs (multiply-adds), {format_count(cost.params)} parameters"
    )


def _chosen(study: Study, best: int | None, trials: tuple[int, ...], pareto: str | None) -> list[Candidate]:
    """Return the requested candidates, each once, the best first; by default the best one.

    Raises SettingsError if a trial does not exist or failed, or the study has no candidate.
    """
    from aznas_onnx.errors import SettingsError

    found = [study.candidate(number) for number in trials]
    if pareto is not None:
        found += study.pareto(pareto)
    if best is not None or not (trials or pareto):
        found += study.best(best or 1)
    if not found:
        raise SettingsError(f"{study.path} has no scored candidate yet; `aznas search` adds some")
    return sorted({one.trial.number: one for one in found}.values(), key=lambda one: (one.rank, one.trial.number))
