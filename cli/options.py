"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from aznas_onnx import declared_settings as declared
from aznas_onnx.counts import parse_count
from aznas_onnx.declared_settings import Setting
from aznas_onnx.documents import finite, flag, whole
from aznas_onnx.errors import SettingsError

if TYPE_CHECKING:
    from aznas_onnx.graph import Value
    from aznas_onnx.searching import Budget

__all__ = [
    "OutputFormat",
    "as_published_option",
    "bf16_option",
    "budget_options",
    "file_option",
    "format_of",
    "format_option",
    "measurement_options",
    "operators_option",
    "proxy_options",
    "read_budget",
    "read_count",
    "read_input_shapes",
    "read_values",
    "reading_options",
    "sampling_options",
    "setting_option",
    "space_options",
    "time_limit_option",
    "whole_option",
]

_DIGITS = 19  # of a whole number that int64 can hold
_BATCH_LETTERS = ("n", "b")
_Command = TypeVar("_Command", bound=Callable[..., Any])
LimitRange: TypeAlias = tuple[int | None, int | None] | None
"""The ends of a limit that an option sets; None for an open end, or for an option that is not given."""


class OutputFormat(str, enum.Enum):
    """How results are written to stdout."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"


def _all_of(*decorators: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    """Return one decorator of several options, which help shows in this order."""
    return lambda command: functools.reduce(lambda decorated, one: one(decorated), reversed(decorators), command)


def read_input_shapes(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes given as ``NAME=1x3x224x224``, by name; ``""`` is the input with the samples.

    A letter in place of a size (``25xNx16``) marks the batch axis.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, _, shape = value.rpartition("=")  # a name can have an equals sign, a shape cannot
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
    """Return a count such as ``600M``."""
    try:
        return None if value is None else parse_count(value)
    except SettingsError as error:
        raise click.BadParameter(str(error)) from error


def _read_range(ctx: click.Context, param: click.Parameter, value: str | None) -> LimitRange:
    """Return the ends of ``600M`` (at most), ``4M:6M``, ``4M:`` or ``:6M``; None where nothing is given."""
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


def _split_names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Return the names of proxies that an option lists."""
    names = None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())
    if names == ():
        raise click.BadParameter("no proxy is named; `aznas proxies` lists them")
    return names


def _refuse_empty(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> Sequence[str]:
    """Return the texts; an empty one, of an unset variable perhaps, names nothing."""
    if "" in values:
        raise click.UsageError(f"{param.opts[0]} is empty")
    return values


def _read_numbers(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, float]:
    """Return the numbers given as ``PROXY=NUMBER``, by name."""
    numbers = {}
    for value in values:
        name, _, number = value.rpartition("=")
        try:
            numbers[name] = float(number)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is not PROXY=NUMBER, such as trainability=-0.5") from error
        if not name:
            raise click.BadParameter(f"{value!r} names no proxy; write PROXY=NUMBER, such as trainability=-0.5")
    return numbers


def read_values(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, Value]:
    """Return the values given as ``NAME=50``, ``NAME=true`` or ``NAME=224,224``, by name."""
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


_FROM_TEXT: Mapping[Callable[[Any], Any], Callable[..., Any]] = {
    declared.count: read_count,
    declared.names: _split_names,
    declared.numbers: _read_numbers,
    declared.shapes: read_input_shapes,
    declared.texts: _refuse_empty,
    declared.values: read_values,
}


def setting_option(
    setting: Setting, *other_names: str, help_default: str = "", **arguments: Any
) -> Callable[[_Command], _Command]:
    """Return the option of a declared setting.

    - `other_names`: Further names of the option; the last one names the argument of the command.
    - `help_default`: The default that help names where the option has none; `arguments` are Click's.
    """
    given: dict[str, Any] = {"metavar": setting.metavar, "callback": _FROM_TEXT.get(setting.read)}
    if setting.choices:
        given["metavar"] = None
        given["type"] = click.Choice(setting.choices)
    elif setting.read is finite:
        least = setting.least if setting.above is None else setting.above
        given["type"] = click.FloatRange(least, setting.most, min_open=setting.above is not None)
    elif setting.read is whole:
        given["type"] = click.IntRange(None if setting.least is None else int(setting.least))
    elif setting.read is flag:
        given |= {"is_flag": True, "metavar": None}
    text = setting.help
    if setting.is_repeated:
        given["multiple"] = True
        text += " May be given several times."
    if help_default and "default" not in arguments:
        text += f"  [default: {help_default}]"
    given["show_default"] = arguments.get("default") is not None
    target = other_names[-1].removeprefix("--") if other_names else setting.name
    return click.option(setting.option, *other_names, target, help=text, **given, **arguments)


def whole_option(*names: str, least: int = 1, default: int | None = None, **arguments: Any) -> Callable[[Any], Any]:
    """Return an option that takes a whole number."""
    arguments = {"metavar": "N", "default": default, "show_default": default is not None} | arguments
    return click.option(*names, type=click.IntRange(min=least), **arguments)


def file_option(*names: str, **arguments: Any) -> Callable[[Any], Any]:
    """Return an option that takes the path of a file."""
    return click.option(*names, type=click.Path(dir_okay=False, path_type=Path), **arguments)


def format_of(*choices: str, text: str = "Format of the result on stdout.", **arguments: Any) -> Callable[[Any], Any]:
    """Return the option of a format: one of `choices`, by default the first."""
    kind = click.Choice(choices)
    return click.option(
        "--format", "output_format", type=kind, default=choices[0], show_default=True, help=text, **arguments
    )


format_option = format_of(
    *(choice.value for choice in OutputFormat), callback=lambda ctx, param, value: OutputFormat(value)
)


def _load_operators(ctx: click.Context, param: click.Parameter, files: Sequence[str]) -> None:
    if files and not ctx.resilient_parsing:
        from aznas_onnx.operators import CUSTOM_OPERATORS

        CUSTOM_OPERATORS.load(*files)


operators_option = click.option(
    "--operators",
    multiple=True,
    metavar="FILE.py",
    type=click.Path(),
    expose_value=False,
    callback=_load_operators,
    help="Execute a Python file with custom operators. May be given several times.",
)


def reading_options(*further: Setting) -> Callable[[_Command], _Command]:
    """Return the options of how a file is read, and further ones."""
    settings = (declared.INPUT_SHAPES, declared.VALUES, declared.CUT_AT, *further, declared.TIME_LIMIT)
    return _all_of(
        *(setting_option(setting, help_default=setting.default_text) for setting in settings), operators_option
    )


def sampling_options(effort: str) -> Callable[[_Command], _Command]:
    """Return the options of how much, and where, scoring computes; with the default of --effort."""
    return _all_of(
        whole_option("--seeds", default=1, help="Seeds to average over: each draws weights and input anew."),
        setting_option(declared.EFFORT, default=effort),
        setting_option(declared.BATCH_SIZE, help_default=declared.BATCH_SIZE.default_text),
        setting_option(declared.FEED, default="noise"),
        setting_option(declared.DEVICE, default="auto"),
    )


time_limit_option = setting_option(declared.TIME_LIMIT, help_default=declared.TIME_LIMIT.default_text)


proxy_options = _all_of(
    setting_option(declared.PROXY_LIST, help_default=declared.PROXY_LIST.default_text),
    setting_option(declared.AGGREGATE, "--aggregation", help_default=declared.AGGREGATE.default_text),
)
as_published_option = click.option(
    "--as-published",
    is_flag=True,
    help="Score as the code of the paper's comparison does: features with a singular covariance have no expressivity "
    "in place of a low one, and proxies of other papers have the form of Table 1. Some of it depends on rounding: use "
    "it to reproduce the paper only.",
)


bf16_option = click.option(
    "--bf16",
    is_flag=True,
    help="Run the pass in bfloat16, on a GPU or CPU that has it. Scores then compare with others in bfloat16 only.",
)


def _read_space_options(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, int | str]:
    """Return the options given as ``NAME=VALUE``, by name: a whole number, or else a text."""
    found: dict[str, int | str] = {}
    for value in values:
        name, _, text = value.partition("=")
        if not name or not text:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE, such as cells=20")
        if name in found:
            raise click.BadParameter(f"{value!r} gives an option a second value")
        is_whole = text.isascii() and text.isdigit() and len(text) <= _DIGITS
        found[name] = int(text) if is_whole else text
    return found


def space_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a space; the command gets those that are given as `space_options`."""

    @functools.wraps(command)
    def packed(
        *arguments: Any, resolution: int | None, classes: int | None, space_option: dict[str, int | str], **named: Any
    ) -> Any:
        given = {"resolution": resolution, "num_classes": classes}
        every = {name: value for name, value in given.items() if value is not None}
        for name in every.keys() & space_option.keys():
            raise click.UsageError(f"--space-option gives {name} a second value")
        named["space_options"] = every | space_option
        return command(*arguments, **named)

    options = (
        whole_option(
            "--resolution", help="Height and width of the input image, or number of tokens.  [default: the space's]"
        ),
        whole_option(
            "--classes", help="Outputs of the classifier, or words of a language model.  [default: the space's]"
        ),
        click.option(
            "--space-option",
            multiple=True,
            metavar="NAME=VALUE",
            callback=_read_space_options,
            help="A further option of the space, such as cells=20 of darts. May be given several times.",
        ),
    )
    return _all_of(*options)(packed)


def budget_options(of_space: str = "Budget: ") -> Callable[[_Command], _Command]:
    """Return the options that limit counts of the networks of a space; :func:`read_budget` takes their values."""
    texts = {
        "--flops": "MACs (multiply-adds) of one sample, such as 600M or 400M:600M.",
        "--params": "trainable parameters, such as 4M:6M.",
        "--layers": "layers, as the space counts them.",
    }
    return _all_of(
        *(
            click.option(name, _LIMITED[name], metavar="[MIN:]MAX", callback=_read_range, help=f"{of_space}{text}")
            for name, text in texts.items()
        )
    )


_LIMITED = {"--flops": "macs", "--params": "params", "--layers": "layers"}


def read_budget(*, macs: LimitRange, params: LimitRange, layers: LimitRange, latency_ms: float | None = None) -> Budget:
    """Return the budget of the values of :func:`budget_options`."""
    from aznas_onnx.searching import Budget, Limit

    limits = {}
    for (option, name), given in zip(_LIMITED.items(), (macs, params, layers), strict=True):
        try:
            limits[name] = Limit(*(given or ()))
        except SettingsError as error:
            raise SettingsError(f"{option}: {error}") from error
    return Budget(**limits, latency_ms=latency_ms)


def measurement_options(command: _Command) -> _Command:
    """Add the options of measurements that scores are compared with."""
    return _all_of(
        file_option(
            "--truth",
            required=True,
            metavar="FILE.csv",
            help="Measured architectures: a column `arch` and columns of numbers.",
        ),
        click.option(
            "--metric",
            "metrics",
            multiple=True,
            metavar="COLUMN",
            help="Column of --truth to compare with. May be given several times.  [default: all columns of numbers]",
        ),
        whole_option(
            "--resamples", least=0, default=200, help="Bootstrap resamples for confidence intervals; 0 for none."
        ),
    )(command)
