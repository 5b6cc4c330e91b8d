"""Render the results of `aznas gate` for one candidate or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from aznas_onnx.cli.gate_runs import GateOutcome
from aznas_onnx.cli.render.gate import MARKS, STYLES, failure_document, gate_document, render_gate, write_summary
from aznas_onnx.cli.render.tables import Cells, Column, write_json, write_markdown
from aznas_onnx.cli.words import plural
from aznas_onnx.escaping import markdown, markdown_code, printable
from aznas_onnx.gating import GateFailure

__all__ = ["render_gates", "write_failed_summary", "write_summaries"]

_NO_DECISION = "no decision"


def render_gates(
    outcomes: Sequence[GateOutcome], output_format: str, console: Any, *, origin: str, is_list: bool
) -> None:
    """Write results to a console.

    - `origin`: The source of the rules.
    - `is_list`: Whether JSON is a list of documents also for one candidate.
    """
    if output_format == "json":
        documents = [
            failure_document(one.candidate, one.reason) if isinstance(one, GateFailure) else gate_document(one)
            for one in outcomes
        ]
        write_json(console, documents if is_list else documents[0])
    elif output_format == "md":
        write_summaries(outcomes, console.file)
    else:
        _print(outcomes, console, origin)


def write_summaries(outcomes: Sequence[GateOutcome], stream: Any) -> None:
    """Write results as Markdown: a table of all where there are several, then each."""
    if len(outcomes) > 1:
        stream.write(f"### {_counted(outcomes)}\n\n")
        columns = [Column(title, Cells.TEXTS) for title in ("Model", "Verdict", "Reason")]
        write_markdown(stream, columns, list(_rows(outcomes)))
        stream.write("\n")
    for number, outcome in enumerate(outcomes):
        stream.write("\n" if number else "")
        if isinstance(outcome, GateFailure):
            write_failed_summary(outcome, stream)
        else:
            write_summary(outcome, stream)


def write_failed_summary(failure: GateFailure, stream: Any) -> None:
    """Write as Markdown that there is no decision, and why."""
    stream.write(f"### {_NO_DECISION}: {markdown_code(failure.candidate)}\n\n")
    stream.write(f"The gate could not decide: {markdown(failure.reason)}\n")


def _print(outcomes: Sequence[GateOutcome], console: Any, origin: str) -> None:
    if len(outcomes) > 1:
        _line(console, _counted(outcomes), "")
        console.print()
        width = max(len(printable(one.candidate)) for one in outcomes)
        for outcome, (name, mark, reason) in zip(outcomes, _rows(outcomes), strict=True):
            style = "bold red" if isinstance(outcome, GateFailure) else STYLES[outcome.verdict]
            _line(console, f"  {mark:<13}{printable(name):<{width}}  {printable(reason)}".rstrip(), style)
        console.print()
    for number, outcome in enumerate(one for one in outcomes if not isinstance(one, GateFailure)):
        if number:
            console.print()
        render_gate(outcome, "table", console, origin=origin)


def _line(console: Any, text: str, style: str) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _rows(outcomes: Sequence[GateOutcome]) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each candidate, what became of it, and why."""
    for one in outcomes:
        if isinstance(one, GateFailure):
            yield one.candidate, _NO_DECISION, one.reason
        else:
            yield one.candidate, MARKS[one.verdict], one.reasons[0] if one.reasons else plural(len(one.checks), "check")


def _counted(outcomes: Sequence[GateOutcome]) -> str:
    """Return how many candidates became what: ``3 models: 1 rejected, 2 passed``."""
    found = Counter(
        "without a decision" if isinstance(one, GateFailure) else "passed" if one.passed else "rejected"
        for one in outcomes
    )
    parts = [f"{found[word]} {word}" for word in ("without a decision", "rejected", "passed") if found[word]]
    return f"{plural(len(outcomes), 'model')}: {', '.join(parts)}"
