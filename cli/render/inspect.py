"""Render the result of `aznas inspect`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from string import ascii_lowercase
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from aznas_onnx.cli.options import OutputFormat
from aznas_onnx.cli.render.tables import (
    Cells,
    Column,
    print_table,
    print_trimmed,
    write_csv,
    write_json,
    write_markdown,
)
from aznas_onnx.cli.words import plural
from aznas_onnx.costs import Costs, CountStatus, NodeCost
from aznas_onnx.counts import format_bytes, format_count
from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import markdown, printable
from aznas_onnx.inspection import InspectedBlock, InspectedNode, Inspection

if TYPE_CHECKING:
    from rich.console import Console

    from aznas_onnx.latency import Latency
    from aznas_onnx.verify import Comparison, Verification

__all__ = ["render_inspection"]

_QUOTED = re.compile(r"(['\"]).*?\1")
_NUMBER = re.compile(r"\b\d+\b")
_NODES_OF_A_REASON = 4  # that are listed


class _Shown(NamedTuple):
    """What is shown besides blocks and operators."""

    nodes: bool
    why: bool
    verification: Verification | None
    latency: Latency | None


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
    shown = _Shown(show_nodes, show_why, verification, latency)
    if output_format is OutputFormat.JSON:
        write_json(console, _inspection_document(inspection, shown))
    elif output_format is OutputFormat.CSV:
        _write_csv(inspection, console, shown)
    elif output_format is OutputFormat.MARKDOWN:
        _write_markdown(inspection, console.file, shown)
    else:
        _print_tables(inspection, console, shown)


# --- JSON ---------------------------------------------------------------------------------------------------------


def _inspection_document(inspection: Inspection, shown: _Shown) -> JsonObject:
    """Return the inspection as plain values, in the layout ``aznas.inspect/1``. Counts are for one sample."""
    document: dict[str, Any] = {
        "schema": "aznas.inspect/1",
        "model": inspection.model,
        "inputs": dict(inspection.inputs),
        "batch_axes": dict(inspection.batch_axes),
        "sample_input": inspection.sample_input,
        "is_transformer": inspection.is_transformer,
        "macs": inspection.costs.macs,
        "params": inspection.costs.params,
        "activation_bytes": inspection.costs.activation_bytes,
        "unsupported": dict(inspection.costs.unsupported),
        "blocks": [_block_fields(row) for row in inspection.blocks],
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
        "changes": inspection.changes,
        "warnings": inspection.warnings,
    }
    if shown.nodes:
        document["nodes"] = [_node_fields(row) for row in inspection.nodes]
    if shown.why:
        document["why"] = [
            {"pattern": pattern, "reason": reason, "nodes": nodes}
            for (pattern, reason), nodes in _grouped_misses(inspection).items()
        ]
    verification = shown.verification
    if verification is not None:
        document["verification"] = {
            "agrees": verification.agrees,
            **_measured(verification, verification.relative_difference),
            "output": verification.output,
            "batch_size": verification.batch_size,
            "seed": verification.seed,
            "precision": verification.precision,
            "inner": verification.inner,
            "outputs": [{"output": one.output, **_measured(one, one.difference)} for one in verification.outputs],
        }
    if shown.latency is not None:
        document["latency"] = shown.latency.as_json()
    return document


def _measured(one: Verification | Comparison, difference: float) -> JsonObject:
    return {
        "verdict": one.verdict.value,
        "relative_difference": difference if math.isfinite(difference) else None,
        "variation": one.variation,
        "tolerance": one.tolerance,
    }


def _block_fields(row: InspectedBlock) -> JsonObject:
    block = row.block
    return {
        "index": block.index,
        "name": block.name,
        "kind": block.kind.value,
        "reason": block.reason,
        "output": block.output,
        "shape": row.shape,
        "channel_axis": row.channel_axis,
        **_cost_fields(row.costs),
        "nodes": block.nodes,
    }


def _grouped_misses(inspection: Inspection) -> dict[tuple[str, str], list[str]]:
    """Return the nodes that share each pattern and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for miss in inspection.near_misses:
        groups.setdefault((miss.pattern, miss.reason), []).append(miss.node)
    return groups


def _node_fields(row: InspectedNode) -> JsonObject:
    cost = row.cost
    named = {"node": cost.node, "operator": cost.operator, "block": row.block, "status": cost.status.value}
    return {**named, "shape": row.shape, **_cost_fields(cost)}


def _cost_fields(costs: Costs | NodeCost) -> dict[str, int]:
    return {"macs": costs.macs, "params": costs.params, "activation_bytes": costs.activation_bytes}


def _worst_status(costs: Costs) -> CountStatus:
    """Return the worst status among nodes: some nodes of one operator can be countable and others not."""
    severity = (CountStatus.UNSUPPORTED, CountStatus.COUNTED, CountStatus.ZERO)
    return min((node.status for node in costs.nodes), key=severity.index)


# --- CSV ----------------------------------------------------------------------------------------------------------

_BLOCK_HEADER = ("index", "name", "kind", "output", "shape", "macs", "params", "activation_bytes", "reason")
_NODE_HEADER = ("node", "operator", "block", "status", "shape", "macs", "params", "activation_bytes")


def _write_csv(inspection: Inspection, console: Console, shown: _Shown) -> None:
    if shown.why:
        misses = ((miss.node, miss.pattern, miss.reason) for miss in inspection.near_misses)
        write_csv(console.file, ("node", "pattern", "reason"), misses)
        return
    fields = [_node_fields(row) for row in inspection.nodes] if shown.nodes else map(_block_fields, inspection.blocks)
    header = _NODE_HEADER if shown.nodes else _BLOCK_HEADER
    rows = (one | {"shape": _shape_text(one["shape"])} for one in fields)
    write_csv(console.file, header, ([row[name] for name in header] for row in rows))


# --- Tables -------------------------------------------------------------------------------------------------------


def _macs(status: CountStatus, macs: int) -> str:
    return "?" if status is CountStatus.UNSUPPORTED else format_count(macs)


def _doubt(costs: Costs) -> str:
    return "MACs unknown" if _worst_status(costs) is CountStatus.UNSUPPORTED else ""


_BLOCK_COLUMNS = (
    Column("#"),
    Column("Block", Cells.NAMES),
    Column("Kind", Cells.TEXTS),
    *map(Column, ("Output", "MACs", "Params")),
    Column("Why", Cells.TEXTS),
)
_OPERATOR_COLUMNS = (  # of operator and costs
    Column("Operator", Cells.NAMES, lambda row: row[0]),
    Column("Nodes", text=lambda row: str(len(row[1].nodes))),
    Column("MACs", text=lambda row: _macs(_worst_status(row[1]), row[1].macs)),
    Column("Params", text=lambda row: format_count(row[1].params)),
    Column("Activations", text=lambda row: format_bytes(row[1].activation_bytes)),
    Column("", Cells.TEXTS, lambda row: _doubt(row[1])),
)
_NODE_COLUMNS = (
    Column("Node", Cells.NAMES, lambda row: row.cost.node),
    Column("Operator", Cells.TEXTS, lambda row: row.cost.operator),
    Column("Block", Cells.NAMES, lambda row: row.block or ""),
    Column("Output", text=lambda row: _shape_text(row.shape)),
    Column("MACs", text=lambda row: _macs(row.cost.status, row.cost.macs)),
    Column("Params", text=lambda row: format_count(row.cost.params)),
)
_MISS_COLUMNS = tuple(Column(title, Cells.TEXTS) for title in ("Not recognised as", "Why", "Nodes"))


def _print_tables(inspection: Inspection, console: Console, shown: _Shown) -> None:
    _print_pairs(console, _summary(inspection, shown))
    console.print()
    letters, legend = _shared_reasons(inspection)
    blocks = zip_longest(_block_rows(inspection), letters, fillvalue="")
    print_table(console, _BLOCK_COLUMNS, ((*row[:-1], letter) for row, letter in blocks))
    console.print()
    _print_pairs(console, ((letter, reason, "") for letter, reason in legend))
    console.print()
    print_table(console, _OPERATOR_COLUMNS, inspection.costs.by_operator().items())
    if shown.nodes:
        console.print()
        print_table(console, _NODE_COLUMNS, inspection.nodes)
    if shown.why:
        console.print()
        _print_misses(console, inspection)


def _misses_in_words(inspection: Inspection) -> Iterator[tuple[str, str, str]]:
    """Yield the pattern, the reason and the nodes of each group of near misses."""
    for (pattern, reason), nodes in _grouped_misses(inspection).items():
        shown = ", ".join(nodes[:_NODES_OF_A_REASON])
        more = f" and {len(nodes) - _NODES_OF_A_REASON} more" if len(nodes) > _NODES_OF_A_REASON else ""
        yield pattern, reason, f"{plural(len(nodes), 'node')}: {shown}{more}"


def _print_misses(console: Console, inspection: Inspection) -> None:
    """Print near misses below the name of their pattern."""
    from rich.padding import Padding
    from rich.text import Text

    def line(text: str, indent: int, style: str = "") -> None:
        print_trimmed(console, Padding(Text(printable(text), style, overflow="fold"), (0, 0, 0, indent)))

    if not inspection.near_misses:
        line("why: no pattern was nearly recognised, and no layer was found that may lack a folded normalisation", 0)
    heading, order = "", list(dict.fromkeys(miss.pattern for miss in inspection.near_misses))
    for pattern, reason, nodes in sorted(_misses_in_words(inspection), key=lambda miss: order.index(miss[0])):
        if pattern != heading:
            line(f"not recognised as {pattern}", 0, "bold")
        heading = pattern
        line(reason, 2)
        line(nodes, 4, "dim")


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


def _summary(inspection: Inspection, shown: _Shown) -> Iterator[tuple[str, str, str]]:
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
    if shown.verification is not None:
        style = "green" if shown.verification.agrees else "bold red"
        yield "verified", _verification_text(shown.verification), style
    if shown.latency is not None:
        yield "latency", f"{shown.latency} for one sample in ONNX Runtime, on one thread of this machine's CPU", ""
    for change in inspection.changes:
        yield "changed", change, ""


def _input_text(shape: tuple[int, ...], batch_axis: int | None) -> str:
    """Return the shape of an input, with N for its batch where it has one."""
    sizes = list(map(str, shape))
    if batch_axis is not None:
        sizes.insert(batch_axis, "N")
    return "x".join(sizes) or "one number"


def _block_summary(inspection: Inspection) -> str:
    kinds = Counter(row.block.kind.value for row in inspection.blocks)
    parts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
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
    """Return a letter for each block, and the reason of each letter.

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


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else "x".join(map(str, shape))


def _write_markdown(inspection: Inspection, stream: IO[str], shown: _Shown) -> None:
    for label, text, _ in _summary(inspection, shown):
        stream.write(f"- **{label}**: {markdown(text)}\n")
    tables: list[tuple[Iterable[Column], Iterable[Any]]] = [
        (_BLOCK_COLUMNS, _block_rows(inspection)),
        (_OPERATOR_COLUMNS, inspection.costs.by_operator().items()),
        *([(_NODE_COLUMNS, inspection.nodes)] if shown.nodes else []),
        *([(_MISS_COLUMNS, _misses_in_words(inspection))] if shown.why else []),
    ]
    for columns, rows in tables:
        stream.write("\n")
        write_markdown(stream, columns, rows)
