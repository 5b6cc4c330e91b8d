"""The settings of a score, which results and studies store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypedDict, cast

from aznas_onnx.documents import JsonObject
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Limits, Model, Source, Value, prepare
from aznas_onnx.proxies import PROXIES
from aznas_onnx.proxies.feed import Feed
from aznas_onnx.proxies.registry import name_list
from aznas_onnx.scoring.effort import Effort
from aznas_onnx.scoring.method_version import METHOD_VERSION, other_method

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ScoreOptions", "ScoreSettings", "UnseededOptions", "checked_seeds"]

_LARGEST_SEED = 2**32
_NEWER = (
    "cut_at",
    "values",
    "bf16",
    "feed",
)  # stored only where given, so that studies from before these settings are resumed


class UnseededOptions(TypedDict, total=False):
    """The keywords of :class:`ScoreSettings` without the seed."""

    effort: str
    batch_size: int | None
    seeds: int
    device: str
    proxies: Sequence[str] | None
    blocks: Sequence[str]
    input_shapes: Mapping[str, Sequence[int]] | None
    cut_at: Sequence[str]
    values: Mapping[str, Value] | None
    keep_graph: bool
    as_published: bool
    bf16: bool
    feed: str | os.PathLike[str]


class ScoreOptions(UnseededOptions, total=False):
    """The keywords of :class:`ScoreSettings`."""

    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """Settings of a score. Two scores are comparable if their settings are equal.

    Attributes
    ----------
    effort
        The estimate of spectral norms, and the batch size where none is given; also its name, or ``"auto"``: balanced
        on a CPU, paper elsewhere.
    batch_size
        Samples in a batch; by default that of the effort. Few samples in a small feature map cause a bias, not only
        noise, so never compare across batch sizes.
    seeds
        Number of seeds for weights, input and gradients.
    seed
        The first seed; the others count up from it.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:INDEX"`` or ``"mps"``.
    proxies
        Names of proxies or groups, with weights (``synflow:0.5``), or ``FILE.py:NAME``. Settings only store the names;
        the functions that score look them up, and execute the files.
    blocks
        Patterns that name the primary blocks; empty to find them.
    input_shapes
        Pairs of an input's name and its shape, for open dimensions of a file.
    cut_at
        Tensors or nodes that end the network, instead of the file's outputs.
    values
        Pairs of an input's name and its value, for inputs that steer the network.
    keep_graph
        Whether to keep normalisation folded where the exporter folded it.
    as_published
        Whether proxies are as in the published code of the paper's comparison, faults included: features with a
        singular covariance have no expressivity instead of a low one, and proxies of other papers have the form of
        Table 1. Some of it depends on rounding, so it is for reproducing the paper only.
    bf16
        Whether the pass computes in bfloat16, on hardware that has it; statistics are in float32 either way.
    feed
        What networks are fed: ``"noise"``, ``"natural"`` (random images with the statistics of photographs), or the
        path of an ``.npz`` file with an array ``samples``, and ``labels`` where there are classes.
    method
        The version of the scoring method; only the current one can be scored with.

    Examples
    --------
    >>> from aznas_onnx.scoring import ScoreSettings
    >>> settings = ScoreSettings.of(effort="fast", seeds=3)
    >>> settings.batch_size, settings.method
    (4, 1)
    """

    effort: Effort = Effort.PAPER
    batch_size: int = cast("int", None)  # until __post_init__, which takes that of the effort
    seeds: int = 1
    seed: int = 0
    device: str = "auto"
    proxies: tuple[str, ...] = ("az",)
    blocks: tuple[str, ...] = ()
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    cut_at: tuple[str, ...] = ()
    values: tuple[tuple[str, Value], ...] = ()
    keep_graph: bool = False
    as_published: bool = False
    bf16: bool = False
    feed: Feed = field(default_factory=Feed)
    method: int = METHOD_VERSION

    def __post_init__(self) -> None:
        effort, batch_size = _effort(self.effort, self.device), cast("int | None", self.batch_size)
        read: dict[str, object] = {
            "effort": effort,
            "batch_size": effort.batch_size if batch_size is None else _whole("batch size", batch_size),
            "seeds": _whole("number of seeds", self.seeds),
            "seed": _whole("seed", self.seed),
            "proxies": name_list(self.proxies),
            "blocks": name_list(self.blocks, "blocks", separator=""),
            "cut_at": name_list(self.cut_at, "cut_at", separator=""),
            "input_shapes": tuple((name, _shape(name, shape)) for name, shape in self.input_shapes),
            "feed": Feed.of(self.feed),
        }
        for name, value in read.items():
            object.__setattr__(self, name, value)
        if self.batch_size < 1:
            raise SettingsError(f"the batch size is {self.batch_size}; 1 or more is accepted")
        if self.seeds < 1:
            raise SettingsError(f"the number of seeds is {self.seeds}; 1 or more is accepted")
        if not 0 <= self.seed <= _LARGEST_SEED - self.seeds:
            raise SettingsError(f"the seed is {self.seed}; 0 to {_LARGEST_SEED - self.seeds:,} is accepted")
        if self.as_published and self.effort is not Effort.PAPER:
            raise SettingsError(f"as_published goes with effort paper only, not with {self.effort.value}")
        if not self.proxies:
            raise SettingsError("no proxy is requested; name one or more")
        if self.method != METHOD_VERSION:
            raise SettingsError(f"the settings are {other_method(self.method)}")

    @classmethod
    def of(cls, settings: ScoreSettings | None = None, **options: Unpack[ScoreOptions]) -> ScoreSettings:
        """Make settings from the keywords of :func:`aznas_onnx.scoring.score`, or return the given ones.

        Raises
        ------
        SettingsError
            If a value is not accepted, or a keyword contradicts `settings`.
        TypeError
            If there is no such keyword.
        """
        unknown = sorted(options.keys() - ScoreOptions.__optional_keys__)
        if unknown:
            accepted = ", ".join(sorted(ScoreOptions.__optional_keys__))
            raise TypeError(f"{unknown[0]!r} is no keyword of scoring; accepted are {accepted}")
        if not isinstance(cast("object", settings), ScoreSettings | None):
            raise SettingsError(f"settings is {settings!r}; ScoreSettings.of(effort='fast') makes an accepted one")
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        for name in ("input_shapes", "values"):
            if not isinstance(given.get(name, {}), Mapping):
                raise SettingsError(f"{name} is {given[name]!r}; a mapping by input is needed")
            given[name] = tuple(given.get(name, {}).items())
        if not given.get("proxies", True):
            del given["proxies"]
        made = cls(**given)
        if settings is None:
            return made
        for name, value in options.items():
            here, there = getattr(made, name), getattr(settings, name)
            if value is not None and here != there:
                raise SettingsError(f"{name} is given twice: {there!r} in settings and {value!r} by keyword; give one")
        return settings

    def loaded(self) -> ScoreSettings:
        """Return the settings with each proxy by its own name; a file that one names (``FILE.py:NAME``) is executed."""
        return replace(self, proxies=tuple(proxy.name for proxy in PROXIES.load_all(self.proxies)))

    def read(self, source: Source, limits: Limits | None = None) -> Model:
        """Read a model as it is scored with these settings; raise ModelError if it cannot be read."""
        return prepare(
            source,
            input_shapes=dict(self.input_shapes),
            cut_at=self.cut_at,
            values=dict(self.values),
            keep_graph=self.keep_graph,
            limits=limits,
        )

    def options(self) -> ScoreOptions:
        """Return the keywords that :meth:`of` makes equal settings of."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "method"}
        found |= {"effort": self.effort.value, "input_shapes": dict(self.input_shapes), "values": dict(self.values)}
        found["feed"] = self.feed.text
        return cast("ScoreOptions", found)

    def as_json(self) -> JsonObject:
        """Return the settings as JSON writes them."""
        stored = {name: list(one) if isinstance(one, tuple) else one for name, one in self.options().items()}
        stored["input_shapes"] = {name: list(shape) for name, shape in self.input_shapes}
        stored["feed"] = None if self.feed == Feed() else self.feed.as_json()
        empty = {name for name in _NEWER if not stored[name]}
        return {**{name: one for name, one in stored.items() if name not in empty}, "method": self.method}


def _effort(name: str, device: str) -> Effort:
    if name == "auto":
        from aznas_onnx.scoring.device import resolve_device  # imports torch

        return Effort.BALANCED if resolve_device(device).type == "cpu" else Effort.PAPER
    try:
        return Effort(name)
    except ValueError as error:
        accepted = ", ".join([*(effort.value for effort in Effort), "auto"])
        raise SettingsError(f"effort {name!r} is not one of {accepted}") from error


def _whole(noun: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, Integral):
        raise SettingsError(f"the {noun} is {given!r}; a whole number is accepted")
    return int(given)


def checked_seeds(given: object) -> tuple[int, ...]:
    """Return seeds as a tuple; raise SettingsError if there is none, or one is not accepted or given twice."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SettingsError(f"the seeds are {given!r}; a list of whole numbers is needed, such as range(3)")
    seeds = tuple(_whole("seed", one) for one in given)
    if not seeds:
        raise SettingsError("no seed is given; name one or more")
    for position, seed in enumerate(seeds):
        if not 0 <= seed < _LARGEST_SEED:
            raise SettingsError(f"the seed is {seed}; 0 to {_LARGEST_SEED - 1:,} is accepted")
        if seed in seeds[:position]:
            raise SettingsError(f"the seed {seed} is given twice; name each once")
    return seeds


def _shape(name: str, given: object) -> tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SettingsError(f"the shape of input {name!r} is {given!r}; a list such as [1, 3, 32, 32] is needed")
    return tuple(_whole(f"size in the shape of input {name!r}", size) for size in given)
