"""Render the result of `aznas search`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.tables import (
    Column,
    format_proxy,
    hidden_proxies,
    print_table,
    proxies_with_room,
    proxy_title,
    write_csv,
    write_json,
    write_markdown,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.counts import format_count
from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import markdown, markdown_code, printable
from aznas_onnx.results import Status
from aznas_onnx.searching import COMPLEXITY, Budget, Candidate, CountConvention, Study

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_study"]

Escape = Callable[[str], str]

_COUNTS = (COMPLEXITY, "params", "layers")  # shown as counts: of layers, as the space counts them
_OTHER_COLUMNS = 52  # what scores and counts take
_SHOWN_SHARE = 0.01  # a smaller one is a number of genotypes
_WIDE = 100  # columns of a terminal in which undivided titles have room


def render_study(
    study: Study, n: int, output_format: OutputFormat, console: Console, *, interrupted: bool = False
) -> None:
    """Write the `n` best candidates of a study to a console."""
    best = study.best(n)
    if output_format is OutputFormat.JSON:
        write_json(console, _study_document(study, best, interrupted=interrupted))
    elif output_format is OutputFormat.CSV:
        rows = [_candidate_fields(one) for one in best]
        header = [name for name in (rows[0] if rows else ()) if name not in ("stderr", "missing", "latency_again")]
        write_csv(console.file, header, [[row[name] for name in header] for row in rows])
    elif output_format is OutputFormat.MARKDOWN:
        write_markdown(console.file, _columns(study, _proxies(study, best)), best)
        console.file.writelines(f"\n{line}\n" for line in _notes(study, best, text=markdown, code=markdown_code))
    else:
        narrow = console.width < _WIDE
        shown = proxies_with_room(_proxies(study, best), console.width, _OTHER_COLUMNS, narrow=narrow)
        print_table(console, _columns(study, shown, narrow=narrow), best)
        console.print()
        for line in (*hidden_proxies(_proxies(study, best), shown), *_notes(study, best)):
            console.out(line, highlight=False)  # whole, to be copied


def _study_document(study: Study, best: Sequence[Candidate], *, interrupted: bool = False) -> JsonObject:
    """Return a study and its best candidates as plain values, in the layout ``aznas.search/1``."""
    return {
        "schema": "aznas.search/1",
        "db": None if study.path is None else str(study.path),
        "settings": study.settings.as_json(),
        "scored": len(study.trials),
        "failed": sum(trial.status is Status.FAILED for trial in study.trials),
        "tries": study.tries,
        "acceptance_rate": study.acceptance_rate,
        "sampled_instead": study.sampled_instead,
        "interrupted": interrupted,
        "stopped": study.stopped,
        "best": [_candidate_fields(one) | _again_fields(study, one) for one in best],
    }


def _candidate_fields(one: Candidate) -> JsonObject:
    """Return a candidate as plain values; `macs` are always those of the graph."""
    trial = one.trial
    # A count replaces a proxy of the same name: a budget limits the layers of the space.
    values = {name: value for name, value in trial.proxies.items() if name not in _COUNTS}
    return {
        "rank": one.rank,
        "trial": trial.number,
        "genotype": trial.genotype,
        "az_score": one.az_score,
        **{name: value.mean for name, value in values.items()},
        "macs": trial.cost.macs,
        "params": trial.cost.params,
        "layers": trial.cost.layers,
        "paper_flops": trial.cost.paper_flops,
        "latency_ms": trial.cost.latency_ms,
        "stderr": {name: value.stderr for name, value in values.items()},
        "missing": {name: value.reason for name, value in values.items() if value.mean is None},
        "parent": trial.proposal.parent,
        "origin": trial.proposal.origin.value,
        "seconds": round(trial.elapsed_s, 3),
    }


def _again_fields(study: Study, one: Candidate) -> JsonObject:
    """Return what was measured again at the end of the search; nothing where the budget has no latency."""
    budget = study.settings.budget
    if budget.latency_ms is None:
        return {}
    again = study.again.get(one.trial.genotype)
    found = None if again is None else again.as_json() | {"budget_kept": budget.keeps_latency(again)}
    return {"latency_again": found}


def _proxies(study: Study, best: Sequence[Candidate]) -> list[str]:
    """Return the proxies that have a column of their own: those that count."""
    weight = study.settings.ensemble.weight
    return [name for name in (best[0].trial.proxies if best else {}) if name not in _COUNTS and weight(name)]


def _columns(study: Study, shown: Sequence[str], *, narrow: bool = False) -> Iterator[Column]:
    """Yield the columns of a table whose rows are candidates."""

    def az_score(one: Candidate) -> str:
        return "" if one.az_score is None else f"{one.az_score:.2f}"

    def proxy(name: str) -> Callable[[Candidate], str]:
        return lambda one: format_proxy(name, one.trial.proxies.get(name))

    def count(name: str) -> Callable[[Candidate], str]:
        return lambda one: format_count(getattr(one.trial.cost, name))

    yield Column("Rank", text=lambda one: str(one.rank))
    yield Column("Trial", text=lambda one: str(one.trial.number))
    yield Column("AZ\nscore" if narrow else "AZ score", text=az_score)
    for name in shown:
        yield Column(proxy_title(name, narrow=narrow), text=proxy(name))
    yield Column("MACs", text=count("macs"))
    if _counts_by_paper(study):
        yield Column("FLOPs\n(paper)" if narrow else "FLOPs (paper)", text=count("paper_flops"))
    yield Column("Params", text=count("params"))
    yield Column("Layers", text=lambda one: str(one.trial.cost.layers))
    if study.settings.budget.latency_ms is not None:
        yield Column("Latency", text=lambda one: f"{one.trial.cost.latency_ms:.3g} ms")


def _notes(
    study: Study, best: Sequence[Candidate], *, text: Escape = printable, code: Escape = printable
) -> Iterator[str]:
    """Yield sentences about a study, escaped: `text` for prose, `code` for commands."""
    counted = "MACs: multiply-adds of one sample."
    if _counts_by_paper(study):
        counted += " The budget and the ranking count the FLOPs of the paper's code."
    found = f"{plural(len(study.trials), 'candidate')} of {study.settings.space.name}"
    budget = study.settings.budget
    accepted = f"{_accepted(study)} of the {study.tries:,} genotypes tried were new"
    if budget == Budget():
        yield text(f"{found}, without a budget; {accepted}. {counted}")
    else:
        yield text(f"{found} within the budget ({budget}); {accepted} and within it. {counted}")
    if study.sampled_instead:
        refused = "scored already" if budget == Budget() else "over the budget or scored already"
        yield text(
            f"{study.sampled_instead:,} of the candidates came from random samples, because all changes of parents "
            f"that were tried for them were {refused}."
        )
    for one in best[:1]:
        yield f"Best: {code(one.trial.genotype)}"
    for one in best:
        again = study.again.get(one.trial.genotype)
        if again is not None:
            kept = "yes" if budget.keeps_latency(again) else "NO"
            yield text(f"Trial {one.trial.number} measured again: {again}. Budget kept: {kept}.")
    if best and study.path is not None:
        yield f"To get it as ONNX with weights: {code(f'aznas export {study.path} -o winners/')}"


def _accepted(study: Study) -> str:
    """Return the share of genotypes that became candidates; their number, where the share would be shown as 0%."""
    rate = study.acceptance_rate
    return f"{len(study.trials):,}" if rate < _SHOWN_SHARE else f"{rate:.0%}"


def _counts_by_paper(study: Study) -> bool:
    return study.settings.count is CountConvention.PAPER
