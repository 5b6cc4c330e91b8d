"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aznas_onnx.counts import parse_count
from aznas_onnx.errors import SettingsError

if TYPE_CHECKING:
    from aznas_onnx.graph import Value

__all__ = [
    "OutputFormat",
    "aggregate_option",
    "batch_size_option",
    "blocks_option",
    "cut_option",
    "device_option",
    "effort_option",
    "format_option",
    "input_option",
    "keep_graph_option",
    "limit_option",
    "proxies_option",
    "read_count",
    "read_input_shapes",
    "read_values",
    "seeds_option",
    "split_names",
    "time_limit_option",
    "value_option",
]

_DIGITS = 19  # of a whole number that int64 can hold
_BATCH_LETTERS = ("n", "b")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class OutputFormat(str, enum.Enum):
    """How results are written to stdout."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"


def read_input_shapes(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes given as ``NAME=1x3x224x224``, by name; ``""`` names the input that carries the samples.

    A letter in place of a size (``25xNx16``) says that this axis is the batch.

    Raises
    ------
    click.BadParameter
        If a text is no shape, or an input is given two.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, _, shape = value.rpartition("=")  # a name may hold an equals sign, a shape cannot
        sizes = shape.lower().replace(",", "x").split("x")
        if not all(size in _BATCH_LETTERS or (size.isascii() and size.isdigit() and len(size) < 12) for size in sizes):
            raise click.BadParameter(
                f"{value!r} is not NAME=SHAPE with sizes, such as image=1x3x224x224 or, to name the batch, x=25xNx16"
            )
        if name in shapes:
            raise click.BadParameter(f"{value!r} gives an input a second shape")
        shapes[name] = tuple(_batch_mark() if size in _BATCH_LETTERS else int(size) for size in sizes)
    return shapes


def _batch_mark() -> int:
    from aznas_onnx.graph.files.inputs import BATCH_MARK  # not at the top: the import takes longer than --help

    return BATCH_MARK


def read_count(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Return a count such as ``600M``.

    Raises
    ------
    click.BadParameter
        If the text is no count.
    """
    try:
        return None if value is None else parse_count(value)
    except SettingsError as error:
        raise click.BadParameter(str(error)) from error


def _read_range(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int | None, int | None] | None:
    """Return the ends of ``600M`` (at most), ``4M:6M``, ``4M:`` or ``:6M``; None where nothing is given.

    Raises
    ------
    click.BadParameter
        If the text is none of these.
    """
    if value is None:
        return None
    low, _, high = value.rpartition(":")
    try:
        ends = [parse_count(end) if end else None for end in (low, high)]
    except SettingsError as error:
        raise click.BadParameter(str(error)) from error
    if ends == [None, None]:
        raise click.BadParameter(f"{value!r} names no limit; write MAX, MIN:MAX, or MIN:, such as 4M:6M")
    return ends[0], ends[1]


def limit_option(*names: str, help_text: str) -> Callable[[_Command], _Command]:
    """Return an option that takes a range of counts."""
    return click.option(*names, metavar="[MIN:]MAX", callback=_read_range, help=help_text)


format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice([choice.value for choice in OutputFormat]),
    default=OutputFormat.TABLE.value,
    show_default=True,
    callback=lambda ctx, param, value: OutputFormat(value),
    help="How the result is written to stdout.",
)


def split_names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Return the names of proxies that an option lists."""
    names = None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())
    if names == ():
        raise click.BadParameter("no proxy is named; `aznas proxies` lists them")
    return names


seeds_option = click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Score with so many draws of weights and input, and average.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:i]|mps",
    help="Where to compute; auto takes CUDA, else MPS, else the CPU.",
)
proxies_option = click.option(
    "--proxies",
    metavar="LIST",
    callback=split_names,
    help="Proxies to compute, separated by commas; az stands for the four of AZ-NAS, `aznas proxies` lists all. "
    "NAME:WEIGHT counts one's rank WEIGHT times.  [default: az]",
)
aggregate_option = click.option(
    "--aggregate",
    "--aggregation",
    "aggregation",
    type=click.Choice(["log-rank", "linear"]),
    default="log-rank",
    show_default=True,
    help="How the score is made of the proxies' ranks: the sum of their logarithms (the paper), or of the ranks.",
)
batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Samples in the batch of Gaussian input.  [default: by effort: paper 64, balanced 16, fast 4]",
)


def effort_option(default: str) -> Callable[[_Command], _Command]:
    """Return the option that trades time against fidelity; ``auto`` is balanced on a CPU and paper elsewhere."""
    return click.option(
        "--effort",
        type=click.Choice(["paper", "balanced", "fast", "auto"]),
        default=default,
        show_default=True,
        help="Estimate as the paper does, or faster from fewer samples; auto: balanced on a CPU, else paper.",
    )


input_option = click.option(
    "--input",
    "input_shapes",
    multiple=True,
    callback=read_input_shapes,
    metavar="[NAME=]SHAPE",
    help="Shape of an input whose dimensions the file leaves open, such as image=1x3x224x224; N in place of a size "
    "says which axis is the batch. "
    "Without a name: the input that carries the samples. May be given several times.",
)


def read_values(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, Value]:
    """Return the values given as ``NAME=50``, ``NAME=true`` or ``NAME=224,224``, by name.

    Raises
    ------
    click.BadParameter
        If a text is none of these, or an input is given two.
    """
    found: dict[str, Value] = {}
    for value in values:
        name, _, text = value.rpartition("=")
        try:
            numbers = [_number(part.strip().lower()) for part in text.split(",")]
        except ValueError as error:
            raise click.BadParameter(
                f"{value!r} is not NAME=VALUE with numbers, true or false, such as lengths=50 or size=224,224"
            ) from error
        if not name or name in found:
            raise click.BadParameter(f"{value!r} {'gives an input a second value' if name else 'names no input'}")
        found[name] = numbers[0] if len(numbers) == 1 else numbers
    return found


def _number(text: str) -> bool | int | float:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text[:_DIGITS]) if len(text) <= _DIGITS else int("")
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise
        return number


cut_option = click.option(
    "--cut-at",
    "cut_at",
    multiple=True,
    metavar="NAME",
    help="End the network at this tensor or node, instead of the file's outputs: before the non-maximum suppression of "
    "a detector, say. May be given several times.",
)
value_option = click.option(
    "--value",
    "values",
    multiple=True,
    callback=read_values,
    metavar="NAME=VALUE",
    help="What an input holds that steers the network, such as lengths=50, sr=16000, use_cache=false or size=224,224. "
    "May be given several times.",
)
blocks_option = click.option(
    "--blocks",
    multiple=True,
    metavar="PATTERN",
    help="Name the primary blocks yourself: tensors or nodes that match PATTERN (* and ? are wildcards) end a block. "
    "May be given several times.",
)
time_limit_option = click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Refuse a file that takes longer to read (processor time), and a scoring pass that is estimated to take "
    "longer.  [default: 6 for reading, an hour for a pass]",
)
keep_graph_option = click.option(
    "--keep-graph",
    is_flag=True,
    help="Take the graph as it is: do not put back normalisation that the exporter folded into convolutions.",
)
