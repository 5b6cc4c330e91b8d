"""Settings that are declared once: a policy file, the command line and the docs take them from these records."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any

from aznas_onnx.counts import parse_count
from aznas_onnx.documents import finite, flag, whole


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of scoring or of the gate.

    - `read`: Converts a value of a TOML file; its TypeError or ValueError has the accepted values. Also decides how the
      command line reads the option.
    - `help`: One or two sentences for the command line and the docs.
    - `example`: A value as a policy file has it.
    - `name`: The attribute or argument that gets the value. A policy file writes it with hyphens.
    - `own_option`: The option where it is not the name: ``--input`` for `input_shapes`.
    - `metavar`, `default_text`: Shown by help for the value, and for a default that is not a plain value.
    - `choices`: Accepted texts; empty for any.
    - `least`, `above`, `most`: Bounds of accepted numbers; `above` is not accepted itself.
    """

    read: Callable[[Any], Any]
    help: str
    example: str
    _: KW_ONLY
    name: str = ""
    own_option: str = ""
    metavar: str = "N"
    default_text: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None

    @property
    def option(self) -> str:
        """The option of the command line."""
        return self.own_option or f"--{self.key}"

    @property
    def key(self) -> str:
        """The name in a policy file."""
        return self.name.replace("_", "-")

    @property
    def is_repeated(self) -> bool:
        """Whether the option can be given several times."""
        return self.read in (texts, numbers, shapes, values)

    @property
    def accepted(self) -> str:
        """The accepted values in messages, for a number or a choice."""
        if self.choices:
            *others, last = map(repr, self.choices)
            return f"{', '.join(others)} or {last}"
        if self.above is not None:
            return f"a number above {self.above:g}"
        if self.least is None:
            return "a finite number"
        bounds = f"{self.least:g} or more" if self.most is None else f"{self.least:g} to {self.most:g}"
        return f"a count of {bounds}" if self.read is count else bounds

    def objection(self, value: Any) -> str | None:
        """Return why a choice or a number is not accepted, to follow the name of the setting; None if it is."""
        if value is None or isinstance(value, bool):
            return None
        if self.choices:
            return None if value in self.choices else f"is {value!r}; {self.accepted} is accepted"
        if self.read in (whole, finite) and not isinstance(value, Real):
            return f"is {value!r}; a number is accepted"
        if self.read is whole and not isinstance(value, Integral):
            return f"is {value!r}; a whole number is accepted"
        if isinstance(value, int | float) and not self._accepts(value):
            return f"is {value:g}; {self.accepted} is accepted"
        return None

    def _accepts(self, number: float) -> bool:
        least = -math.inf if self.least is None else self.least
        above = -math.inf if self.above is None else self.above
        most = math.inf if self.most is None else self.most
        return math.isfinite(number) and above < number <= most and number >= least


def text(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str) or not value:
        raise TypeError("a text in quotes is accepted")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Read a text, or a list of texts."""
    if isinstance(value, str):
        return (text(value),)
    if not isinstance(value, list) or not value:
        raise TypeError("a text in quotes, or a list of them, is accepted")
    return tuple(text(one) for one in value)


def names(value: Any) -> tuple[str, ...]:
    """Read a list of texts, or one text that has commas between them, as the option takes it."""
    return texts([one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value)


def count(value: Any) -> int:
    """Read a whole number, or a text such as ``600M``."""
    return parse_count(value) if isinstance(value, str) else whole(value)


def numbers(value: Any) -> dict[str, float]:
    """Read a table of numbers by proxy."""
    if not isinstance(value, dict):
        raise TypeError("a table of proxies and numbers is accepted")
    return {name: finite(number) for name, number in value.items()}


def shapes(value: Any) -> dict[str, tuple[int, ...]]:
    """Read a table of shapes by input."""
    if not isinstance(value, dict) or not all(isinstance(shape, list) for shape in value.values()):
        raise TypeError("a table of inputs and lists of sizes is accepted")
    return {name: tuple(whole(size) for size in shape) for name, shape in value.items()}


def values(value: Any) -> dict[str, bool | float | list[bool | float]]:
    """Read a table of numbers, truth values, or lists of either, by input."""
    expected = "a table of inputs and numbers, true or false is accepted"
    if not isinstance(value, dict):
        raise TypeError(expected)
    for one in (one for entry in value.values() for one in (entry if isinstance(entry, list) else [entry])):
        if not isinstance(one, bool | int | float):
            raise TypeError(expected)
        if not isinstance(one, bool):
            finite(one)
    return value


PROXY_LIST = Setting(
    names,
    "Proxies, separated by commas: az stands for the four of AZ-NAS, `aznas proxies` lists all. NAME:WEIGHT "
    "counts a proxy's rank WEIGHT times.",
    '["az", "synflow:0.5"]',
    name="proxies",
    metavar="LIST",
    default_text="az",
)
AGGREGATE = Setting(
    text,
    "How rank shares become the score: log-rank sums their logarithms (Eq. 12 of the paper), linear sums them.",
    '"linear"',
    name="aggregate",
    choices=("log-rank", "linear"),
    default_text="that of a group such as best, else log-rank",
)
EFFORT = Setting(
    text,
    "Number of samples in each estimate: paper is as published, balanced and fast take fewer, auto is balanced "
    "on a CPU and paper elsewhere.",
    '"fast"',
    name="effort",
    choices=("paper", "balanced", "fast", "auto"),
)
BATCH_SIZE = Setting(
    whole,
    "Samples in the batch that networks are fed.",
    "8",
    name="batch_size",
    least=1,
    default_text="by effort: paper 64, balanced 16, fast 4",
)
FEED = Setting(
    text,
    "What networks are fed: noise, natural (random images with the statistics of photographs), or the samples of an "
    ".npz file: an array `samples`, and `labels` where there are classes.",
    '"natural"',
    name="feed",
    metavar="noise|natural|FILE.npz",
)
DEVICE = Setting(
    text,
    "Device to compute on; auto takes CUDA, else MPS, else the CPU.",
    '"cpu"',
    name="device",
    metavar="auto|cpu|cuda[:i]|mps",
)
TIME_LIMIT = Setting(
    finite,
    "Refuse a network that takes longer to read (processor time), and a scoring pass that is estimated to take longer.",
    "60",
    name="time_limit",
    metavar="SECONDS",
    above=0,
    default_text="6 for reading, 3600 for a pass",
)
BLOCKS = Setting(
    texts,
    "End the primary blocks at the tensors or nodes whose names match PATTERN (* and ? are wildcards), in place "
    "of the blocks that are found.",
    '["*/layer?.?/Add"]',
    name="blocks",
    metavar="PATTERN",
)
INPUT_SHAPES = Setting(
    shapes,
    "Shape of an input whose dimensions the file leaves open, such as image=1x3x224x224. N in place of a size "
    "marks the batch axis. A shape without a name is that of the input that carries the samples.",
    "{ image = [1, 3, 224, 224] }",
    name="input_shapes",
    own_option="--input",
    metavar="[NAME=]SHAPE",
)
CUT_AT = Setting(
    texts,
    "End the network at this tensor or node, in place of the file's outputs: before the non-maximum suppression "
    "of a detector, for example.",
    '["boxes", "scores"]',
    name="cut_at",
    metavar="NAME",
)
VALUES = Setting(
    values,
    "Value of an input that steers the network, such as lengths=50, sr=16000, use_cache=false or size=224,224.",
    "{ lengths = 50 }",
    name="values",
    own_option="--value",
    metavar="NAME=VALUE",
)
KEEP_GRAPH = Setting(
    flag,
    "Score the graph as it is: do not restore normalisation that the exporter folded into convolutions.",
    "true",
    name="keep_graph",
)
