"""Options that several commands share, and the parameter types they use."""

from __future__ import annotations

import enum
from typing import Any

import click

from aznas_onnx.counts import parse_count
from aznas_onnx.errors import SettingsError

__all__ = [
    "COUNT",
    "INPUT_SHAPE",
    "OutputFormat",
    "blocks_option",
    "format_option",
    "input_option",
    "input_shapes",
    "keep_graph_option",
]


class OutputFormat(str, enum.Enum):
    """How results are written to stdout."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"


class _Count(click.ParamType):
    """A count such as ``600M``."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_count(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class _InputShape(click.ParamType):
    """A shape such as ``image=1x3x224x224``; without a name it is that of the input that carries the samples."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        if isinstance(value, tuple):
            return value
        name, _, shape = value.rpartition("=")  # a name may hold an equals sign, a shape cannot
        sizes = shape.lower().replace(",", "x").split("x")
        if not all(size.isascii() and size.isdigit() and 0 < len(size) < 12 and int(size) > 0 for size in sizes):
            self.fail(f"{value!r} is not NAME=SHAPE with positive sizes, such as image=1x3x224x224", param, ctx)
        return name, tuple(int(size) for size in sizes)


COUNT = _Count()
INPUT_SHAPE = _InputShape()

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice([choice.value for choice in OutputFormat]),
    default=OutputFormat.TABLE.value,
    show_default=True,
    callback=lambda ctx, param, value: OutputFormat(value),
    help="How the result is written to stdout.",
)
input_option = click.option(
    "--input",
    "inputs",
    type=INPUT_SHAPE,
    multiple=True,
    metavar="[NAME=]SHAPE",
    help="Shape of an input whose dimensions the file leaves open, such as image=1x3x224x224. "
    "Without a name: the input that carries the samples. May be given several times.",
)
blocks_option = click.option(
    "--blocks",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Name the primary blocks yourself: tensors or nodes that match PATTERN (* and ? are wildcards) end a block. "
    "May be given several times.",
)
keep_graph_option = click.option(
    "--keep-graph",
    is_flag=True,
    help="Take the graph as it is: do not put back normalisation that the exporter folded into convolutions.",
)


def input_shapes(inputs: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes given by `--input`, by name.

    Raises
    ------
    click.BadParameter
        If an input is given two shapes.
    """
    shapes = dict(inputs)
    if len(shapes) < len(inputs):
        raise click.BadParameter("the same input is given twice", param_hint="'--input'")
    return shapes
