"""Render the result of `aznas inspect`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.tables import Column, print_table, print_trimmed, write_csv, write_markdown
from aznas_onnx.cli.words import plural
from aznas_onnx.costs import Costs, CountStatus
from aznas_onnx.counts import format_bytes, format_count
from aznas_onnx.escaping import json_text, markdown, printable
from aznas_onnx.inspection import Inspection

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.latency import Latency
    from aznas_onnx.verify import Verification

__all__ = ["render_inspection"]

_QUOTED = re.compile(r"(['\"]).*?\1")
_NUMBER = re.compile(r"\b\d+\b")
_NODES_OF_A_REASON = 4  # that are listed


def render_inspection(
    inspection: Inspection,
    output_format: OutputFormat,
    console: Console,
    *,
    show_nodes: bool = False,
    show_why: bool = False,
    verification: Verification | None = None,
    latency: Latency | None = None,
) -> None:
    """Write an inspection to a console."""
    if output_format is OutputFormat.JSON:
        document = _inspection_document(
            inspection, show_nodes=show_nodes, show_why=show_why, verification=verification, latency=latency
        )
        console.file.write(json_text(document) + "\n")
    elif output_format is OutputFormat.CSV:
        _write_csv(inspection, console, show_nodes=show_nodes, show_why=show_why)
    elif output_format is OutputFormat.MARKDOWN:
        summary = _summary(inspection, verification, latency)
        _write_markdown(inspection, console, summary, show_nodes=show_nodes, show_why=show_why)
    else:
        summary = _summary(inspection, verification, latency)
        _print_tables(inspection, console, summary, show_nodes=show_nodes, show_why=show_why)


# --- JSON ---------------------------------------------------------------------------------------------------------


def _inspection_document(
    inspection: Inspection,
    *,
    show_nodes: bool = False,
    show_why: bool = False,
    verification: Verification | None = None,
    latency: Latency | None = None,
) -> dict[str, object]:
    """Return the inspection as plain values, in the layout ``aznas.inspect/1``. Counts are for one sample."""
    document: dict[str, Any] = {
        "schema": "aznas.inspect/1",
        "model": inspection.model,
        "inputs": {name: list(shape) for name, shape in inspection.inputs.items()},
        "batch_axes": dict(inspection.batch_axes),
        "sample_input": inspection.sample_input,
        "is_transformer": inspection.is_transformer,
        "macs": inspection.costs.macs,
        "params": inspection.costs.params,
        "activation_bytes": inspection.costs.activation_bytes,
        "unsupported": dict(inspection.costs.unsupported),
        "blocks": [
            {
                "index": row.block.index,
                "name": row.block.name,
                "kind": row.block.kind.value,
                "reason": row.block.reason,
                "output": row.block.output,
                "shape": _shape_list(row.shape),
                "channel_axis": row.channel_axis,
                **_cost_fields(row.costs),
                "nodes": list(row.block.nodes),
            }
            for row in inspection.blocks
        ],
        "outside_blocks": _cost_fields(inspection.outside),
        "operators": [
            {
                "operator": operator,
                "status": _worst_status(costs).value,
                "nodes": len(costs.nodes),
                **_cost_fields(costs),
            }
            for operator, costs in inspection.costs.by_operator().items()
        ],
        "changes": list(inspection.changes),
        "warnings": list(inspection.warnings),
    }
    if show_nodes:
        document["nodes"] = [dict(zip(_NODE_FIELDS, row, strict=True)) for row in _node_rows(inspection)]
    if show_why:
        document["why"] = [
            {"pattern": pattern, "reason": reason, "nodes": nodes}
            for (pattern, reason), nodes in _grouped_misses(inspection).items()
        ]
    if verification is not None:
        document["verification"] = {
            "agrees": verification.agrees,
            "verdict": verification.verdict.value,
            "relative_difference": _finite(verification.relative_difference),
            "variation": verification.variation,
            "tolerance": verification.tolerance,
            "output": verification.output,
            "batch_size": verification.batch_size,
            "seed": verification.seed,
            "precision": verification.precision,
            "inner": list(verification.inner),
            "outputs": [
                {
                    "output": one.output,
                    "verdict": one.verdict.value,
                    "relative_difference": _finite(one.difference),
                    "variation": one.variation,
                    "tolerance": one.tolerance,
                }
                for one in verification.outputs
            ],
        }
    if latency is not None:
        document["latency"] = latency.as_json()
    return document


_NODE_FIELDS = ("node", "operator", "block", "status", "shape", "macs", "params", "activation_bytes")


def _node_rows(inspection: Inspection) -> Iterator[tuple[Any, ...]]:
    for row in inspection.nodes:
        cost = row.cost
        shape = _shape_list(row.shape)
        yield (
            cost.node,
            cost.operator,
            row.block,
            cost.status.value,
            shape,
            cost.macs,
            cost.params,
            cost.activation_bytes,
        )


def _grouped_misses(inspection: Inspection) -> dict[tuple[str, str], list[str]]:
    """Return the nodes that share each pattern and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for miss in inspection.near_misses:
        groups.setdefault((miss.pattern, miss.reason), []).append(miss.node)
    return groups


def _cost_fields(costs: Costs) -> dict[str, int]:
    return {"macs": costs.macs, "params": costs.params, "activation_bytes": costs.activation_bytes}


def _worst_status(costs: Costs) -> CountStatus:
    """Return the most doubtful status among nodes: of one operator some may be countable and others not."""
    severity = (CountStatus.UNSUPPORTED, CountStatus.COUNTED, CountStatus.ZERO)
    return min((node.status for node in costs.nodes), key=severity.index)


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _shape_list(shape: tuple[int, ...] | None) -> list[int] | None:
    return None if shape is None else list(shape)


# --- CSV ----------------------------------------------------------------------------------------------------------


def _write_csv(inspection: Inspection, console: Console, *, show_nodes: bool, show_why: bool) -> None:
    if show_why:
        misses = ((miss.node, miss.pattern, miss.reason) for miss in inspection.near_misses)
        write_csv(console.file, ("node", "pattern", "reason"), misses)
        return
    if show_nodes:
        rows = ((*row[:4], _shape_text(row[4]), *row[5:]) for row in _node_rows(inspection))
        write_csv(console.file, _NODE_FIELDS, rows)
        return
    header = ("index", "name", "kind", "output", "shape", "macs", "params", "activation_bytes", "reason")
    write_csv(
        console.file,
        header,
        (
            (
                row.block.index,
                row.block.name,
                row.block.kind.value,
                row.block.output,
                _shape_text(row.shape),
                *_cost_fields(row.costs).values(),
                row.block.reason,
            )
            for row in inspection.blocks
        ),
    )


# --- Tables -------------------------------------------------------------------------------------------------------

_COUNT_COLUMNS = (Column(title="MACs"), Column(title="Params"))
_BLOCK_COLUMNS = (
    Column(title="#"),
    Column(title="Block", is_number=False, is_name=True),
    Column(title="Kind", is_number=False),
    Column(title="Output"),
    *_COUNT_COLUMNS,
)
_REASON_COLUMN = Column(title="Why", is_number=False)
_OPERATOR_COLUMNS = (
    Column(title="Operator", is_number=False, is_name=True),
    Column(title="Nodes"),
    *_COUNT_COLUMNS,
    Column(title="Activations"),
    Column(title="", is_number=False),
)
_NODE_COLUMNS = (
    Column(title="Node", is_number=False, is_name=True),
    Column(title="Operator", is_number=False),
    Column(title="Block", is_number=False, is_name=True),
    Column(title="Output"),
    *_COUNT_COLUMNS,
)
_MISS_COLUMNS = (
    Column(title="Not recognised", is_number=False),
    Column(title="Why", is_number=False),
    Column(title="Nodes", is_number=False),
)


def _print_tables(
    inspection: Inspection,
    console: Console,
    summary: Iterable[tuple[str, str, str]],
    *,
    show_nodes: bool,
    show_why: bool,
) -> None:
    _print_pairs(console, summary)
    console.print()
    letters, legend = _shared_reasons(inspection)
    blocks = zip_longest(_block_rows(inspection), letters, fillvalue="")
    print_table(console, (*_BLOCK_COLUMNS, _REASON_COLUMN), ((*row[:-1], letter) for row, letter in blocks))
    console.print()
    _print_pairs(console, ((letter, reason, "") for letter, reason in legend))
    console.print()
    print_table(console, _OPERATOR_COLUMNS, _operator_rows(inspection))
    if show_nodes:
        console.print()
        print_table(console, _NODE_COLUMNS, _node_texts(inspection))
    if show_why:
        console.print()
        _print_pairs(console, _why_rows(inspection))


def _misses_in_words(inspection: Inspection) -> Iterator[tuple[str, str, str]]:
    """Yield the pattern, the reason and the nodes of each group of near misses."""
    for (pattern, reason), nodes in _grouped_misses(inspection).items():
        shown = ", ".join(nodes[:_NODES_OF_A_REASON])
        more = f" and {len(nodes) - _NODES_OF_A_REASON} more" if len(nodes) > _NODES_OF_A_REASON else ""
        yield pattern, reason, f"{plural(len(nodes), 'node')}: {shown}{more}"


def _why_rows(inspection: Inspection) -> Iterator[tuple[str, str, str]]:
    if not inspection.near_misses:
        yield "why", "no pattern was nearly recognised, and no convolution or linear layer lacks a normalisation", ""
    for pattern, reason, nodes in _misses_in_words(inspection):
        yield f"no {pattern}", reason, ""
        yield "", nodes, "dim"


def _print_pairs(console: Console, rows: Iterable[tuple[str, str, str]]) -> None:
    """Print labels and texts, each text in its style."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text, style in rows:
        grid.add_row(label, Text(printable(text), style=style))
    print_trimmed(console, grid)


def _summary(
    inspection: Inspection, verification: Verification | None, latency: Latency | None
) -> Iterator[tuple[str, str, str]]:
    """Yield the label, text and style of each line about the whole model."""
    costs = inspection.costs
    yield "model", inspection.model, ""
    for name, shape in inspection.inputs.items():
        yield "input", f"{name}: {_input_text(shape, inspection.batch_axes.get(name))}", ""
    if costs.unsupported:
        names = ", ".join(f"{operator} ({plural(nodes, 'node')})" for operator, nodes in costs.unsupported.items())
        yield "NOT COUNTED", f"{names}: MACs unknown, so the totals are too low", "bold red"
    yield "MACs", f"{format_count(costs.macs)} multiply-adds for one sample", ""
    yield "params", f"{format_count(costs.params)} trainable", ""
    yield "activations", f"{format_bytes(costs.activation_bytes)} for one sample in float32", ""
    yield "blocks", _block_summary(inspection), ""
    if verification is not None:
        yield "verified", _verification_text(verification), "green" if verification.agrees else "bold red"
    if latency is not None:
        yield "latency", f"{latency} for one sample in ONNX Runtime, on one thread of this machine's CPU", ""
    for change in inspection.changes:
        yield "changed", change, ""


def _input_text(shape: tuple[int, ...], batch_axis: int | None) -> str:
    """Return the shape of an input, with N for its batch where it has one."""
    sizes = list(map(str, shape))
    if batch_axis is not None:
        sizes.insert(batch_axis, "N")
    return "x".join(sizes) or "one number"


def _block_summary(inspection: Inspection) -> str:
    type_fingerprint = Counter(row.block.kind.value for row in inspection.blocks)
    parts = ", ".join(f"{number} {kind}" for kind, number in type_fingerprint.items())
    return f"{len(inspection.blocks)} primary ({parts})" + ("; a transformer" if inspection.is_transformer else "")


def _verification_text(verification: Verification) -> str:
    verdict = {"agrees": "agrees with", "differs": "DIFFERS FROM"}.get(
        verification.verdict.value, "CANNOT BE COMPARED WITH"
    )
    count = len(verification.outputs)
    among = f", the worst of {count} {'tensors' if verification.inner else 'outputs'}" if count > 1 else ""
    inner = ", ".join(map(repr, verification.inner))
    before = f"; an output that samples do not change was not compared, but {inner} before it" if inner else ""
    return (
        f"{verdict} ONNX Runtime: difference {verification.relative_difference:.1e} at {verification.output!r}{among} "
        f"({verification.tolerance:.0e} counts as equal; two samples differ by {verification.variation:.1e} of the "
        f"largest output{before})"
    )


def _block_rows(inspection: Inspection) -> Iterator[tuple[str, ...]]:
    for row in inspection.blocks:
        counts = (format_count(row.costs.macs), format_count(row.costs.params))
        block = row.block
        yield str(block.index), block.name, block.kind.value, _shape_text(row.shape), *counts, block.reason
    outside = inspection.outside
    if outside.macs or outside.params:
        yield "", "(outside blocks)", "", "", format_count(outside.macs), format_count(outside.params), ""


def _shared_reasons(inspection: Inspection) -> tuple[list[str], list[tuple[str, str]]]:
    """Return a letter for each block, and the reason that each letter stands for.

    Reasons that differ in names and numbers only are one, without them; a reason of one block is given in full.
    """
    patterns = [_NUMBER.sub("N", _QUOTED.sub("...", row.block.reason)) for row in inspection.blocks]
    uses = Counter(patterns)
    letters = {pattern: _letter(index) for index, pattern in enumerate(uses)}
    full = {pattern: row.block.reason for pattern, row in zip(patterns, inspection.blocks, strict=True)}
    legend = [(letters[pattern], full[pattern] if uses[pattern] == 1 else pattern) for pattern in uses]
    return [letters[pattern] for pattern in patterns], legend


def _letter(index: int) -> str:
    turn, place = divmod(index, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn + 1) if turn else "")


def _operator_rows(inspection: Inspection) -> Iterator[tuple[str, ...]]:
    for operator, costs in inspection.costs.by_operator().items():
        is_known = _worst_status(costs) is not CountStatus.UNSUPPORTED
        yield (
            operator,
            str(len(costs.nodes)),
            format_count(costs.macs) if is_known else "?",
            format_count(costs.params),
            format_bytes(costs.activation_bytes),
            "" if is_known else "MACs unknown",
        )


def _node_texts(inspection: Inspection) -> Iterator[tuple[str, ...]]:
    for name, operator, block, status, shape, macs, params, _ in _node_rows(inspection):
        known = format_count(macs) if status != CountStatus.UNSUPPORTED.value else "?"
        yield name, operator, block or "", _shape_text(shape), known, format_count(params)


def _shape_text(shape: tuple[int, ...] | list[int] | None) -> str:
    return "?" if shape is None else "x".join(map(str, shape))


def _write_markdown(
    inspection: Inspection,
    console: Console,
    summary: Iterable[tuple[str, str, str]],
    *,
    show_nodes: bool,
    show_why: bool,
) -> None:
    stream = console.file
    for label, text, _ in summary:
        stream.write(f"- **{label}**: {markdown(text)}\n")
    stream.write("\n")
    write_markdown(stream, (*_BLOCK_COLUMNS, _REASON_COLUMN), _block_rows(inspection))
    stream.write("\n")
    write_markdown(stream, _OPERATOR_COLUMNS, _operator_rows(inspection))
    if show_nodes:
        stream.write("\n")
        write_markdown(stream, _NODE_COLUMNS, _node_texts(inspection))
    if show_why:
        stream.write("\n")
        write_markdown(stream, _MISS_COLUMNS, _misses_in_words(inspection))
