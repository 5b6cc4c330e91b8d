"""Render the result of `aznas gate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aznas_onnx.cli.render.tables import (
    Cells,
    Column,
    format_number,
    print_table,
    print_trimmed,
    proxies_with_room,
    proxy_title,
    write_json,
    write_markdown,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.counts import format_bytes, format_count
from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import markdown, markdown_code, printable
from aznas_onnx.gating import COMPARED, Compared, Decision, GateResult
from aznas_onnx.gating.policy import RULES
from aznas_onnx.software import software_versions

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "MARKS",
    "STYLES",
    "failure_document",
    "gate_document",
    "headline",
    "plain",
    "render_gate",
    "undecided",
    "write_summary",
]

MARKS = {Decision.PASS: "pass", Decision.REJECT: "REJECT", Decision.INCONCLUSIVE: "unclear"}
STYLES = {Decision.PASS: "green", Decision.REJECT: "bold red", Decision.INCONCLUSIVE: "yellow"}
_CHECK_FIELDS = ("rule", "against", "verdict", "reason", "value", "limit", "stderr")
_COUNTS = ("macs", "params")  # shown as counts for every model
_OTHER_COLUMNS = 60  # what names and counts take


def render_gate(result: GateResult, output_format: str, console: Console, *, origin: str) -> None:
    """Write a result to a console; `origin` is the source of its rules."""
    if output_format == "json":
        write_json(console, gate_document(result))
    elif output_format == "md":
        write_summary(result, console.file)
    else:
        _print(result, console, origin)


def headline(result: GateResult) -> str:
    """Return the decision in one line."""
    name = result.candidate
    if result.verdict is Decision.PASS:
        return f"{name} passes ({plural(len(result.checks), 'check')})"
    if result.verdict is Decision.REJECT:
        return f"{name} is rejected: {result.reasons[0]}"
    return f"{name} {undecided(result)}: {result.reasons[0]}"


def undecided(result: GateResult) -> str:
    """Return the decision on an undecided candidate, to follow its name."""
    return f"is undecided and {'passes' if result.passed else 'is rejected'} by the policy"


def gate_document(result: GateResult) -> JsonObject:
    """Return a result as plain values, in the layout ``aznas.gate/1``."""
    checks = [
        {name: getattr(check, name) for name in _CHECK_FIELDS} | {"verdict": check.verdict.value}
        for check in result.checks
    ]
    return failure_document(result.candidate) | {
        "status": "ok",
        "verdict": result.verdict.value,
        "passed": result.passed,
        "reasons": list(result.reasons),
        "checks": checks,
        "models": [_model_document(model) for model in result.models],
        "seeds": result.seeds,
        "settings": {key: plain(value) for key, value in result.settings.items()},
        "policy": {name: plain(getattr(result.policy, name)) for name in RULES},
        "warnings": list(result.warnings),
        "seconds": round(result.elapsed_s, 3),
    }


def failure_document(candidate: str, *reasons: str) -> JsonObject:
    """Return what scripts get where there is no decision: the same layout, with status failed and verdict null."""
    decision = {"status": "failed", "verdict": None, "passed": False, "reasons": list(reasons)}
    evidence = {"checks": [], "models": [], "seeds": 0, "settings": {}, "policy": {}, "warnings": [], "seconds": 0.0}
    software = software_versions()
    return {"schema": "aznas.gate/1", "candidate": candidate, **decision, **evidence, "software": software}


def write_summary(result: GateResult, stream: Any) -> None:
    """Write a result as Markdown: the decision, each check with its reason, and the numbers."""
    name = markdown_code(result.candidate)
    if result.verdict is Decision.INCONCLUSIVE:
        stream.write(f"### {name} {undecided(result)}: {markdown(result.reasons[0])}\n\n")
    else:
        stream.write(f"### {MARKS[result.verdict]}: {name}\n\n")
    rows = [(check.rule, MARKS[check.verdict], check.reason) for check in result.checks]
    write_markdown(stream, [Column(title, Cells.TEXTS) for title in ("Check", "Verdict", "Reason")], rows)
    stream.write("\n")
    write_markdown(stream, _columns(result, _shown(result), narrow=False), result.models)
    stream.write("\n")
    for noun, sentence in _notes(result):
        stream.write(f"- {noun}: {markdown(sentence)}\n")
    stream.write(f"\n{markdown(_legend(result))}\n")


def _notes(result: GateResult) -> Iterator[tuple[str, str]]:
    """Yield what was done to the graphs, and what to doubt."""
    for model in result.models:
        yield from (("changed", f"{model.model}: {change}") for change in model.changes)
    yield from (("warning", warning) for warning in result.warnings)


def plain(value: Any) -> Any:
    """Return read-only mappings and tuples as dicts and lists, which JSON has."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, (tuple, list)) else value


def _model_document(model: Compared) -> JsonObject:
    return {
        "model": model.model,
        "sha256": model.hashes.sha256,
        "external_data": dict(model.hashes.data),
        "macs": model.macs,
        "params": model.params,
        "activation_bytes": model.activation_bytes,
        "latency_ms": None if model.latency_ms is None else round(model.latency_ms, 4),
        "cached": model.is_cached,
        "changes": list(model.changes),
        "proxies": {name: value for name, value in model.proxies.items() if name != "macs"},
    }


def _print(result: GateResult, console: Console, origin: str) -> None:
    console.print(
        printable(headline(result)), style=STYLES[result.verdict], markup=False, highlight=False, soft_wrap=True
    )
    console.print()
    for check in result.checks:
        style = "" if check.verdict is Decision.PASS else STYLES[check.verdict]
        line = f"  {MARKS[check.verdict]:<8}{check.rule:<22}{printable(check.reason)}"
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    console.print()
    narrow = console.width < 118
    shown = proxies_with_room(_shown(result), console.width, _OTHER_COLUMNS, narrow=narrow)
    print_table(console, _columns(result, shown, narrow=narrow), result.models)
    console.print()
    for noun, sentence in _notes(result):
        if noun != "warning":  # those are on stderr
            console.print(
                f"  {noun:<8}{printable(sentence)}", markup=False, highlight=False, soft_wrap=True, style="dim"
            )
    if any(model.changes for model in result.models):
        console.print()
    print_trimmed(console, f"{_legend(result)} Rules: {printable(origin)}.", style="dim")


def _shown(result: GateResult) -> list[str]:
    """Return the proxies that have a column: what was compared, and those of AZ-NAS; none where nothing was scored."""
    if not result.seeds:
        return []
    names = dict.fromkeys((*COMPARED, *result.compared))
    return [name for name in names if name not in _COUNTS]


def _columns(result: GateResult, shown: Sequence[str], *, narrow: bool) -> Iterator[Column]:
    """Yield the columns of a table whose rows are models."""

    def proxy(name: str) -> Callable[[Compared], str]:
        return lambda model: _value(model.proxies, name)

    yield Column("Model", Cells.NAMES, lambda model: model.model)
    for name in shown:
        yield Column(proxy_title(name, narrow=narrow), text=proxy(name))
    yield Column("MACs", text=lambda model: format_count(model.macs))
    yield Column("Params", text=lambda model: format_count(model.params))
    yield Column("Activations", text=lambda model: format_bytes(model.activation_bytes))
    if any(model.latency_ms is not None for model in result.models):
        yield Column("ms", text=lambda model: "" if model.latency_ms is None else f"{model.latency_ms:.3g}")


def _value(proxies: Mapping[str, float | None], name: str) -> str:
    if name not in proxies:
        return "n/a" if proxies else ""
    return format_number(proxies[name], missing="none", most=1e6, large=".3g")


def _legend(result: GateResult) -> str:
    parts = ["MACs: multiply-adds of one sample."]
    if result.seeds:
        settings = result.settings
        pairs = "paired seed" if len(result.models) > 1 else "seed"
        parts.append(f"Effort {settings['effort']}, batch {settings['batch_size']}, {plural(result.seeds, pairs)}.")
    known = list(dict.fromkeys(model.model for model in result.models if model.is_cached))
    if known:
        parts.append(f"Scores of {' and '.join(known)} from the cache.")
    parts.append(f"{result.elapsed_s:.0f} s.")
    return " ".join(parts)
