"""Render the result of `aznas gate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aznas_onnx.cli.render.tables import (
    Column,
    print_table,
    print_trimmed,
    proxies_with_room,
    proxy_title,
    write_markdown,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.counts import format_bytes, format_count
from aznas_onnx.escaping import json_text, markdown, markdown_code, printable
from aznas_onnx.gating import COMPARED, Compared, Decision, GateResult
from aznas_onnx.gating.policy import RULES

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["failure_document", "headline", "render_gate", "write_summary"]

_MARKS = {Decision.PASS: "pass", Decision.REJECT: "REJECT", Decision.INCONCLUSIVE: "unclear"}
_STYLES = {Decision.PASS: "green", Decision.REJECT: "bold red", Decision.INCONCLUSIVE: "yellow"}
_COUNTS = ("macs", "params")  # shown as counts for every model
_OTHER_COLUMNS = 60  # what names and counts take


def render_gate(result: GateResult, output_format: str, console: Console, *, origin: str) -> None:
    """Write a result to a console; `origin` says where its rules come from."""
    if output_format == "json":
        console.file.write(json_text(_gate_document(result)) + "\n")
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
    meaning = "and passes by the policy" if result.passed else "and is rejected by the policy"
    return f"{name} is undecided {meaning}: {result.reasons[0]}"


def _gate_document(result: GateResult) -> dict[str, object]:
    """Return a result as plain values, in the layout ``aznas.gate/1``."""
    return {
        "schema": "aznas.gate/1",
        "candidate": result.candidate,
        "status": "ok",
        "verdict": result.verdict.value,
        "passed": result.passed,
        "reasons": list(result.reasons),
        "checks": [
            {
                "rule": check.rule,
                "against": check.against,
                "verdict": check.verdict.value,
                "reason": check.reason,
                "value": check.value,
                "limit": check.limit,
                "stderr": check.stderr,
            }
            for check in result.checks
        ],
        "models": [_model_document(model) for model in result.models],
        "seeds": result.seeds,
        "settings": {key: _plain(value) for key, value in result.settings.items()},
        "policy": {name: _plain(getattr(result.policy, name)) for name in RULES},
        "warnings": list(result.warnings),
        "seconds": round(result.elapsed_s, 3),
    }


def failure_document(candidate: str, reason: str) -> dict[str, object]:
    """Return what scripts get where there is no decision: the same layout, with status failed and verdict null."""
    return {
        "schema": "aznas.gate/1",
        "candidate": candidate,
        "status": "failed",
        "verdict": None,
        "passed": False,
        "reasons": [reason],
        "checks": [],
        "models": [],
        "seeds": 0,
        "settings": {},
        "policy": {},
        "warnings": [],
        "seconds": 0.0,
    }


def write_summary(result: GateResult, stream: Any) -> None:
    """Write a result as Markdown: the decision, each check with its reason, and the numbers."""
    stream.write(f"### {_MARKS[result.verdict]}: {markdown_code(result.candidate)}\n\n")
    columns = (
        Column(title="Check", is_number=False),
        Column(title="Verdict", is_number=False),
        Column(title="Reason", is_number=False),
    )
    rows = [(check.rule, _MARKS[check.verdict], check.reason) for check in result.checks]
    write_markdown(stream, columns, rows)
    stream.write("\n")
    shown = _shown(result)
    write_markdown(
        stream,
        _columns(shown, narrow=False, has_latency=_has_latency(result)),
        (_cells(model, shown, has_latency=_has_latency(result)) for model in result.models),
    )
    stream.write(f"\n{markdown(_legend(result))}\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, (tuple, list)) else value


def _model_document(model: Compared) -> dict[str, object]:
    return {
        "model": model.model,
        "macs": model.macs,
        "params": model.params,
        "activation_bytes": model.activation_bytes,
        "latency_ms": None if model.latency_ms is None else round(model.latency_ms, 4),
        "proxies": {name: value for name, value in model.proxies.items() if name != "macs"},
    }


def _print(result: GateResult, console: Console, origin: str) -> None:
    console.print(
        printable(headline(result)), style=_STYLES[result.verdict], markup=False, highlight=False, soft_wrap=True
    )
    console.print()
    for check in result.checks:
        style = "" if check.verdict is Decision.PASS else _STYLES[check.verdict]
        line = f"  {_MARKS[check.verdict]:<8}{check.rule:<22}{printable(check.reason)}"
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    console.print()
    narrow = console.width < 118
    shown = proxies_with_room(_shown(result), console.width, _OTHER_COLUMNS, narrow=narrow)
    print_table(
        console,
        _columns(shown, narrow=narrow, has_latency=_has_latency(result)),
        (_cells(model, shown, has_latency=_has_latency(result)) for model in result.models),
    )
    console.print()
    print_trimmed(console, f"{_legend(result)} Rules: {printable(origin)}.", style="dim")


def _shown(result: GateResult) -> list[str]:
    """Return the proxies that have a column: what was compared, and those of AZ-NAS; none where nothing was scored."""
    if not result.seeds:
        return []
    names = dict.fromkeys((*COMPARED, *result.compared))
    return [name for name in names if name not in _COUNTS]


def _has_latency(result: GateResult) -> bool:
    return any(model.latency_ms is not None for model in result.models)


def _columns(shown: Sequence[str], *, narrow: bool, has_latency: bool) -> list[Column]:
    return [
        Column(title="Model", is_number=False, is_name=True),
        *(Column(title=proxy_title(name, narrow=narrow)) for name in shown),
        Column(title="MACs"),
        Column(title="Params"),
        Column(title="Activations"),
        *((Column(title="ms"),) if has_latency else ()),
    ]


def _cells(model: Compared, shown: Sequence[str], *, has_latency: bool) -> list[str]:
    return [
        model.model,
        *(_value(model.proxies, name) for name in shown),
        format_count(model.macs),
        format_count(model.params),
        format_bytes(model.activation_bytes),
        *((_milliseconds(model),) if has_latency else ()),
    ]


def _milliseconds(model: Compared) -> str:
    return "" if model.latency_ms is None else f"{model.latency_ms:.3g}"


def _value(proxies: Mapping[str, float | None], name: str) -> str:
    if name not in proxies:
        return "n/a" if proxies else ""
    value = proxies[name]
    return "none" if value is None else f"{value:.3f}" if abs(value) < 1e6 else f"{value:.3g}"


def _legend(result: GateResult) -> str:
    parts = ["MACs: multiply-adds of one sample."]
    if result.seeds:
        settings = result.settings
        pairs = "paired seed" if len(result.models) > 1 else "seed"
        parts.append(f"Effort {settings['effort']}, batch {settings['batch_size']}, {plural(result.seeds, pairs)}.")
    parts.append(f"{result.elapsed_s:.0f} s.")
    return " ".join(parts)
