"""Render the result of `aznas score`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.estimates import Estimates
from aznas_onnx.cli.render.tables import (
    Cells,
    Column,
    format_proxy,
    hidden_proxies,
    print_table,
    print_trimmed,
    proxies_with_room,
    proxy_title,
    write_csv,
    write_json,
    write_markdown,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.counts import format_count
from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import markdown, printable
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.proxies.feed import Feed
from aznas_onnx.ranking import Aggregation, Ensemble, Ranking
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.scoring import Effort, ScoreSettings

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.references import Placement

__all__ = ["ScoreReport", "render_scores"]

_COUNTS = ("macs", "params")  # shown as counts, and never means over seeds
_OTHER_COLUMNS, _OTHER_WIDE_COLUMNS = 44, 60  # what names, scores and counts take
_PERCENTILE_COLUMN = 9
_ESTIMATE_COLUMN = 11
_WIDE = 118  # a console at least this wide has room for everything, and for names of a sensible length


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReport:
    """Scores in the order of the models, their ranking, the requested proxies, and the settings.

    Where there is a `reference`, the ranking is by it, and `places` are those of the models in it. Where there is a
    calibration, `estimates` are what it says of the models.
    """

    scores: tuple[ProxyScores, ...]
    ranking: Ranking
    proxies: tuple[str, ...]
    settings: ScoreSettings
    ensemble: Ensemble
    reference: str = ""
    places: tuple[Placement | None, ...] = ()
    estimates: Estimates | None = None

    @property
    def best_first(self) -> list[int]:
        """Indices of the models by rank; those without one keep their order, and failed ones come last."""
        unranked = [index for index, place in enumerate(self.ranking.rank) if place is None]
        unranked.sort(key=lambda index: self.scores[index].status is Status.FAILED)
        return [*self.ranking.order, *unranked]

    @property
    def shown(self) -> list[str]:
        """The proxies that have a column of their own: those that count, where others serve something else."""
        all_count = self.ranking.kind is None and self.estimates is None
        names = self.proxies if all_count else self.ranking.proxies
        return [name for name in names if name not in _COUNTS]


def render_scores(report: ScoreReport, output_format: OutputFormat, console: Console) -> None:
    """Write scores to a console."""
    if output_format is OutputFormat.JSON:
        write_json(console, _score_document(report))
    elif output_format is OutputFormat.CSV:
        _write_csv(report, console)
    elif output_format is OutputFormat.MARKDOWN:
        write_markdown(console.file, _columns(report, report.shown, narrow=False), report.best_first)
        console.file.writelines(f"\n{markdown(line)}\n" for line in (_legend(report), *_notes(report)))
    else:
        _print_table(report, console)


# --- JSON and CSV: exact values, in the order given -------------------------------------------------------------


def _score_document(report: ScoreReport) -> JsonObject:
    """Return the report as plain values, in the layout ``aznas.score/1``."""
    return {
        "schema": "aznas.score/1",
        "settings": report.settings.as_json() | report.ensemble.as_json(),
        **({"kind": report.ranking.kind.value} if report.ranking.kind else {}),
        **({"reference": report.reference} if report.reference else {}),
        "models": [_model_fields(report, index) for index in range(len(report.scores))],
    }


def _model_fields(report: ScoreReport, index: int) -> JsonObject:
    scores = report.scores[index]
    values = {name: scores.proxies.get(name) for name in report.proxies if name not in _COUNTS}
    return {
        "model": scores.model,
        "status": scores.status.value,
        "reason": scores.reason,
        **{name: None if value is None else value.mean for name, value in values.items()},
        "macs": scores.macs,
        "params": scores.params,
        "blocks": scores.blocks,
        "az_score": report.ranking.az_score[index],
        "rank": report.ranking.rank[index],
        **(_place_fields(report.places[index]) if report.places else {}),
        **(report.estimates.document(index) if report.estimates else {"estimate": None}),
        "stderr": {name: None if value is None else value.stderr for name, value in values.items()},
        "missing": {name: value.reason for name, value in values.items() if value is not None and value.mean is None},
        "seconds": round(scores.elapsed_s, 3),
        "changes": list(scores.changes),
        "warnings": list(scores.warnings),
        **({"profile_s": {phase: round(s, 6) for phase, s in scores.profile_s.items()}} if scores.profile_s else {}),
    }


def _place_fields(place: Placement | None) -> JsonObject:
    percentiles = {} if place is None else {name: round(value, 2) for name, value in place.percentiles.items()}
    return {"percentile": None if place is None else round(place.percentile, 2), "percentiles": percentiles}


def render_profile(scores: Sequence[ProxyScores], console: Console) -> None:
    """Write the time of each phase over all models, the slowest first."""
    total_s: dict[str, float] = {}
    for result in scores:
        for phase, elapsed_s in result.profile_s.items():
            total_s[phase] = total_s.get(phase, 0.0) + elapsed_s
    whole_s = sum(total_s.values())
    rows = [
        (phase, f"{1e3 * elapsed_s:.1f}", f"{elapsed_s / whole_s:.0%}")
        for phase, elapsed_s in sorted(total_s.items(), key=lambda item: -item[1])
    ]
    columns = (Column("phase", Cells.TEXTS), Column("ms"), Column("share"))
    print_table(console, columns, [*rows, ("all", f"{1e3 * whole_s:.1f}", "")])


def _write_csv(report: ScoreReport, console: Console) -> None:
    proxies = [name for name in report.proxies if name not in _COUNTS]
    place = ["percentile"] if report.places else []
    spreads = [f"{name}_stderr" for name in proxies]
    header = ["model", "status", "rank", "az_score", *place, *proxies, *spreads]
    header += ["macs", "params", "blocks", "seconds", "reason"]
    rows = []
    for index in range(len(report.scores)):
        fields = _model_fields(report, index)
        fields |= {f"{name}_stderr": fields["stderr"][name] for name in proxies}
        rows.append([fields[name] for name in header])
    write_csv(console.file, header, rows)


# --- Tables for people: rounded values, the best first --------------------------------------------------------------


def _print_table(report: ScoreReport, console: Console) -> None:
    narrow = console.width < _WIDE
    others = (_OTHER_COLUMNS if narrow else _OTHER_WIDE_COLUMNS) + (_PERCENTILE_COLUMN if report.places else 0)
    others += _ESTIMATE_COLUMN if report.estimates else 0
    shown = proxies_with_room(report.shown, console.width, others, narrow=narrow)
    print_table(console, _columns(report, shown, narrow=narrow), report.best_first)
    console.print()
    for line in (_legend(report), *hidden_proxies(report.shown, shown), *_notes(report)):
        print_trimmed(console, printable(line), style="dim")


def _columns(report: ScoreReport, shown: Sequence[str], *, narrow: bool) -> Iterator[Column]:
    """Yield the columns of a table whose rows are indices of models."""
    scores, ranking, places = report.scores, report.ranking, report.places

    def az_score(index: int) -> str:
        has_failed = scores[index].status is Status.FAILED
        return "failed" if has_failed else _optional(ranking.az_score[index], "{:.2f}".format)

    def proxy(name: str) -> Callable[[int], str]:
        separator = "\n" if narrow else " "
        return lambda index: format_proxy(name, scores[index].proxies.get(name), separator)

    def seconds(index: int) -> str:
        return "" if scores[index].status is Status.FAILED else f"{scores[index].elapsed_s:.1f}"

    yield Column("Rank", text=lambda index: _optional(ranking.rank[index], str))
    yield Column("Model", Cells.NAMES, lambda index: scores[index].model)
    yield Column("AZ\nscore" if narrow else "AZ score", text=az_score)
    if places:
        title = "Per-\ncentile" if narrow else "Percentile"
        yield Column(title, text=lambda index: _optional(places[index], lambda place: f"{place.percentile:.0f}"))
    if report.estimates is not None:
        yield Column("Estimate", text=report.estimates.cell)
    for name in shown:
        yield Column(proxy_title(name, narrow=narrow), text=proxy(name))
    yield Column("MACs", text=lambda index: _optional(scores[index].macs, format_count))
    yield Column("Params", text=lambda index: _optional(scores[index].params, format_count))
    if not narrow:
        yield Column("Blocks", text=lambda index: _optional(scores[index].blocks, str))
        yield Column("Seconds", text=seconds)


def _optional(value: Any, show: Callable[[Any], str]) -> str:
    return "" if value is None else show(value)


def _legend(report: ScoreReport) -> str:
    settings = report.settings
    lower = [name for name in report.shown if name in PROXIES and PROXIES[name].direction is Direction.LOWER_IS_BETTER]
    parts = [f"Proxies: higher is better{', but of ' + ' and '.join(lower) if lower else ''}."]
    if report.ranking.order:
        names = ", ".join(_weighted(name, report.ranking) for name in report.ranking.proxies)
        among = f", ranked in {report.reference}" if report.reference else ""
        if report.ranking.aggregation is Aggregation.LOG_RANK:
            parts.append(f"AZ score: sum of ln(rank/m) over {names}{among}; 0 is the best in all of them.")
        else:
            best = sum(report.ranking.weights.get(name, 1.0) for name in report.ranking.proxies)
            parts.append(f"AZ score: sum of rank/m over {names}; {best:g} is the best in all of them.")
    if report.ranking.kind is not None:
        parts.append(f"They are those of best-{report.ranking.kind.value}, by what differs between the models.")
    if report.estimates is not None:
        parts.append(report.estimates.legend())
    parts.append("MACs: multiply-adds of one sample.")
    spread = " ±: standard error over seeds." if settings.seeds > 1 else ""
    effort = "" if settings.effort is Effort.PAPER else f"Effort {settings.effort.value}, batch"
    size = f"{effort or 'Batch'} {settings.batch_size}"
    fed = f", fed {settings.feed.text}" if settings.feed != Feed() else ""
    parts.append(f"{size}{fed}, {plural(settings.seeds, 'seed')}, {settings.device}.{spread}")
    return " ".join(parts)


def _weighted(name: str, ranking: Ranking) -> str:
    """Name a proxy, and how often it counts where that is not once."""
    shown = "MACs" if name == "macs" else name
    weight = ranking.weights.get(name, 1.0)
    return shown if weight == 1.0 else f"{weight:g} {shown}"


def _notes(report: ScoreReport) -> Iterator[str]:
    """Yield what was changed and what is missing, one line for all models that share it."""
    for index in report.best_first if report.places else ():
        place = report.places[index]
        if place is not None:
            percentiles = ", ".join(f"{name} {value:.0f}" for name, value in place.percentiles.items())
            yield f"{report.scores[index].model}: percentiles in {report.reference}: {percentiles}"
    if report.estimates is not None:
        yield from report.estimates.notes([one.model for one in report.scores], report.best_first)
    models: dict[str, list[str]] = {}
    for scores in (report.scores[index] for index in report.best_first):
        for text in (*_missing(scores), *scores.changes):
            models.setdefault(text, []).append(scores.model)
    for text, names in models.items():
        yield f"{', '.join(names)}: {text}"


def _missing(scores: ProxyScores) -> Iterator[str]:
    proxies: dict[str, list[str]] = {}
    for name, value in scores.proxies.items():
        if value.reason is not None:
            proxies.setdefault(value.reason, []).append(name)
    for reason, names in proxies.items():
        yield f"no {' and '.join(names)} ({reason})"
