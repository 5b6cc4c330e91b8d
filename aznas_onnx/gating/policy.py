"""The rules of a gate, each declared once: type, default, file reader, option, bounds, help and example."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aznas_onnx import declared_settings as declared
from aznas_onnx.counts import read_count
from aznas_onnx.declared_settings import Setting, count, names, numbers, text, texts
from aznas_onnx.documents import finite, flag, whole
from aznas_onnx.errors import SettingsError, UnknownNameError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from aznas_onnx.graph import Value
    from aznas_onnx.proxies import ProxyRegistry
    from aznas_onnx.ranking import Ensemble
    from aznas_onnx.scoring import ScoreOptions, ScoreSettings

__all__ = ["COMPARED", "RULES", "Inconclusive", "Policy", "RuleError", "rule_default"]

_OF_THE_PAPER = frozenset(("tolerance", "proxies", "aggregate", "spreads"))
COMPARED = ("expressivity", "progressivity", "trainability", "macs")
"""The proxies that a baseline is compared by where the policy names no others: those of AZ-NAS."""

FOR_SMALLER = ("flatness", "trainability:0.5")
"""Those of the mode `allow_smaller`: neither grows with width. Trainability, a mean over blocks, counts half, since a
network of fewer blocks has more of its weight in those that change the resolution."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_Default = TypeVar("_Default")


class RuleError(SettingsError):
    """A rule of a policy is not accepted."""

    def __init__(self, rule: str, objection: str) -> None:
        super().__init__(f"{rule} {objection}")
        self.rule = rule
        self.objection = objection

    @property
    def in_file(self) -> str:
        """The message with the rule's name as a policy file has it."""
        return f"{self.rule.replace('_', '-')} {self.objection}"


class Inconclusive(str, enum.Enum):
    """Whether a candidate passes that the noise leaves undecided."""

    PASS = "pass"  # with a warning
    REJECT = "reject"


def _shared(default: _Default, setting: Setting, *, needs: str = "", **changes: Any) -> _Default:
    """Return the field of a rule that is a setting of scoring; `needs` is the rule without which it does nothing."""
    metadata = {"setting": replace(setting, **changes), "needs": needs}
    if isinstance(default, Mapping):
        return cast("_Default", field(default_factory=lambda: default, metadata=metadata))
    return field(default=default, metadata=metadata)


def _rule(
    default: _Default, read: Callable[[Any], Any], help_text: str, example: str, *, needs: str = "", **further: Any
) -> _Default:
    return _shared(default, Setting(read, help_text, example, **further), needs=needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of a gate.

    Attributes
    ----------
    baseline
        A shipped model that the candidate must not score below; git:origin/main:models/net.onnx is a file of a
        revision.
    reference
        A reference set in which the candidate must reach the minimum percentile; `aznas reference show` lists those of
        the package.
    min_percentile
        Least percentile of the AZ score in a reference set.
    compare
        How a baseline is compared: estimate, by accuracies that were published for similar networks; az, by the
        signal score, which tolerance, proxies, aggregate and spreads are about.
    max_drop
        Points that the estimated accuracy may be below a baseline's.
    drop_per_halving
        Further points that the estimated accuracy may be lower for each halving of a baseline's MACs.
    min_estimate
        Least estimated accuracy in percent.
    tolerance
        Most by which the signal score may be below a baseline's.
    min_shortcuts
        Least share to keep of the layers that a baseline's skip connections bypass; 0 accepts any candidate.
    allow_smaller
        Fewer MACs, parameters or layers than a baseline has are no defect; compare by what does not grow with size.
    interface
        Inputs and outputs must have the names, types and shapes of a baseline's, so that programs can use either.
    proxies
        Proxies that a baseline is compared by, such as az,synflow:0.5 with a weight; `aznas proxies` lists all.
    aggregate
        How rank shares become the score: log-rank sums their logarithms (Eq. 12 of the paper), linear sums them.
    spreads
        Standard deviation of a custom proxy across comparable architectures; scales its differences.
    max_macs
        Budget: MACs (multiply-adds) of one sample, such as 600M.
    max_params
        Budget: trainable parameters, such as 5.9M.
    max_activation_bytes
        Budget: bytes of the activations of one sample in float32.
    max_latency
        Budget: milliseconds of one sample in ONNX Runtime on one thread of this machine's CPU.
    max_latency_ratio
        Budget: latency divided by that of each baseline, measured in alternation.
    floors
        Least value of a proxy; the greatest value, for a proxy of which lower values are better.
    inconclusive
        Verdict on a candidate that the noise leaves undecided after the last seed.
    confidence
        Probability that no decision over noise is wrong, all checks taken together.
    min_seeds
        Seeds before the first decision; two are the fewest that show the noise.
    max_seeds
        Seeds before the last decision.
    seed
        First seed of weights and input.
    effort
        Number of samples in each estimate: paper is as published, balanced and fast take fewer, auto is balanced on a
        CPU and paper elsewhere.
    batch_size
        Samples in the batch that networks are fed.
    feed
        What networks are fed: noise, natural (random images with the statistics of photographs), or the samples of an
        .npz file: an array `samples`, and `labels` where there are classes.
    device
        Device to compute on; auto takes CUDA, else MPS, else the CPU.
    time_limit
        Refuse a network that takes longer to read (processor time), and a scoring pass that is estimated to take
        longer.
    blocks
        End the primary blocks at the tensors or nodes whose names match PATTERN (* and ? are wildcards), in place of
        the blocks that are found.
    input_shapes
        Shape of an input whose dimensions the file leaves open, such as image=1x3x224x224. N in place of a size marks
        the batch axis. A shape without a name is that of the input that carries the samples.
    cut_at
        End the network at this tensor or node, in place of the file's outputs: before the non-maximum suppression of a
        detector, for example.
    values
        Value of an input that steers the network, such as lengths=50, sr=16000, use_cache=false or size=224,224.
    keep_graph
        Score the graph as it is: do not restore normalisation that the exporter folded into convolutions.
    """

    baseline: tuple[str, ...] = _rule(
        (),
        texts,
        "A shipped model that the candidate must not score below; git:origin/main:models/net.onnx is a file of a "
        "revision.",
        '"models/shipped.onnx"',
        metavar="FILE.onnx",
    )
    reference: tuple[str, ...] = _rule(
        (),
        texts,
        "A reference set in which the candidate must reach the minimum percentile; `aznas reference show` lists those "
        "of the package.",
        '"mbv2-600M"',
        metavar="NAME|REF.json",
    )
    min_percentile: float = _rule(
        10.0, finite, "Least percentile of the AZ score in a reference set.", "25", least=0, most=100, needs="reference"
    )
    compare: str = _rule(
        "estimate",
        text,
        "How a baseline is compared: estimate, by accuracies that were published for similar networks; az, by the "
        "signal score, which tolerance, proxies, aggregate and spreads are about.",
        '"az"',
        choices=("estimate", "az"),
        needs="baseline",
    )
    max_drop: float = _rule(
        0.25,
        finite,
        "Points that the estimated accuracy may be below a baseline's.",
        "2.0",
        least=0,
        needs="baseline",
    )
    drop_per_halving: float = _rule(
        0.0,
        finite,
        "Further points that the estimated accuracy may be lower for each halving of a baseline's MACs.",
        "1.0",
        least=0,
        needs="baseline",
    )
    min_estimate: float | None = _rule(
        None, finite, "Least estimated accuracy in percent.", "75", least=0, most=100, needs="baseline"
    )
    tolerance: float = _rule(
        0.5, finite, "Most by which the signal score may be below a baseline's.", "0.7", least=0, needs="baseline"
    )
    min_shortcuts: float = _rule(
        0.5,
        finite,
        "Least share to keep of the layers that a baseline's skip connections bypass; 0 accepts any candidate.",
        "0",
        least=0,
        most=1,
        needs="baseline",
    )
    allow_smaller: bool = _rule(
        False,
        flag,
        "Fewer MACs, parameters or layers than a baseline has are no defect; compare by what does not grow with size.",
        "true",
        needs="baseline",
    )
    interface: bool = _rule(
        False,
        flag,
        "Inputs and outputs must have the names, types and shapes of a baseline's, so that programs can use either.",
        "true",
        needs="baseline",
    )
    proxies: tuple[str, ...] = _shared(
        COMPARED,
        declared.PROXY_LIST,
        help="Proxies that a baseline is compared by, such as az,synflow:0.5 with a weight; `aznas proxies` lists all.",
    )
    aggregate: str | None = _shared(None, declared.AGGREGATE, needs="baseline")
    spreads: Mapping[str, float] = _rule(
        _EMPTY,
        numbers,
        "Standard deviation of a custom proxy across comparable architectures; scales its differences.",
        "{ my_proxy = 0.3 }",
        own_option="--spread",
        metavar="PROXY=NUMBER",
        above=0,
    )
    max_macs: int | None = _rule(
        None, count, "Budget: MACs (multiply-adds) of one sample, such as 600M.", '"600M"', least=0
    )
    max_params: int | None = _rule(None, count, "Budget: trainable parameters, such as 5.9M.", '"5.9M"', least=0)
    max_activation_bytes: int | None = _rule(
        None, count, "Budget: bytes of the activations of one sample in float32.", '"30M"', least=0
    )
    max_latency: float | None = _rule(
        None,
        finite,
        "Budget: milliseconds of one sample in ONNX Runtime on one thread of this machine's CPU.",
        "20",
        metavar="MS",
        above=0,
    )
    max_latency_ratio: float | None = _rule(
        None, finite, "Budget: latency divided by that of each baseline, measured in alternation.", "1.1", above=0
    )
    floors: Mapping[str, float] = _rule(
        _EMPTY,
        numbers,
        "Least value of a proxy; the greatest value, for a proxy of which lower values are better.",
        "{ trainability = -1.0 }",
        own_option="--floor",
        metavar="PROXY=NUMBER",
    )
    inconclusive: Inconclusive = _rule(  # noqa: RUF009 - the field itself
        Inconclusive.PASS,
        text,
        "Verdict on a candidate that the noise leaves undecided after the last seed.",
        '"reject"',
        choices=tuple(choice.value for choice in Inconclusive),
    )
    confidence: float = _rule(
        0.99,
        finite,
        "Probability that no decision over noise is wrong, all checks taken together.",
        "0.95",
        least=0.5,
        most=0.9999,
    )
    min_seeds: int = _rule(
        2, whole, "Seeds before the first decision; two are the fewest that show the noise.", "4", least=2
    )
    max_seeds: int = _rule(8, whole, "Seeds before the last decision.", "16", least=2)
    seed: int = _rule(0, whole, "First seed of weights and input.", "100", least=0)
    effort: str | None = _shared(None, declared.EFFORT, default_text="that of the reference set, else balanced")
    batch_size: int | None = _shared(
        None,
        declared.BATCH_SIZE,
        default_text="that of the reference set, else by effort: paper 64, balanced 16, fast 4",
    )
    feed: str | None = _shared(None, declared.FEED, default_text="that of the reference set, else noise")
    device: str = _shared("auto", declared.DEVICE)
    time_limit: float | None = _shared(None, declared.TIME_LIMIT)
    blocks: tuple[str, ...] = _shared((), declared.BLOCKS)
    input_shapes: Mapping[str, Sequence[int]] = _shared(_EMPTY, declared.INPUT_SHAPES)
    cut_at: tuple[str, ...] = _shared((), declared.CUT_AT)
    values: Mapping[str, Value] = _shared(_EMPTY, declared.VALUES)
    keep_graph: bool = _shared(False, declared.KEEP_GRAPH)

    def __post_init__(self) -> None:
        from aznas_onnx.proxies.registry import is_reference, name_list

        for name, setting in RULES.items():
            given = getattr(self, name)
            if setting.read is names:
                object.__setattr__(self, name, name_list(given))
            elif setting.read is texts:
                object.__setattr__(self, name, _names(given))
            elif isinstance(given, Mapping):
                object.__setattr__(self, name, MappingProxyType(dict(given)))
            elif setting.read is count:
                given = read_count(name, given)
                object.__setattr__(self, name, given)
            objection = setting.objection(given)
            if objection is not None:
                raise RuleError(name, objection)
        object.__setattr__(self, "inconclusive", Inconclusive(self.inconclusive))
        if self.min_seeds > self.max_seeds:
            raise RuleError("min_seeds", f"is {self.min_seeds}, above max-seeds, which is {self.max_seeds}")
        if self.max_latency_ratio is not None and not self.baseline:
            raise RuleError("max_latency_ratio", "compares with a baseline, and none is named")
        if self.allow_smaller and self.proxies not in (COMPARED, FOR_SMALLER):
            raise RuleError("allow_smaller", "chooses the proxies, and others are named; drop one of the two rules")
        if not any(map(is_reference, self._named)):
            self._check_names()

    @property
    def _named(self) -> tuple[str, ...]:
        return (*self.proxies, *self.floors, *self.spreads)

    def load_proxies(self) -> None:
        """Execute the files that proxies are named by, and check what could not be checked before.

        Raises SettingsError if a file cannot be loaded, or has no proxy that the policy can use.
        """
        _registry().load_all(self._named)
        self._check_names()

    def _check_names(self) -> None:
        from aznas_onnx.references.proxy_scales import PROXY_SCALES

        proxies = _registry()
        with _named_by("proxies"):
            names = self.compared
        if not names:
            raise SettingsError("no proxy is named to compare with a baseline; name one or more, such as az")
        for name in self.spreads:
            try:
                proxies.resolve([name])
            except UnknownNameError as error:
                remedy = "name its file under proxies (`./mine.py:NAME`)"
                message = f"spreads names {name!r}, which is none of the proxies of this gate; {remedy}"
                raise UnknownNameError(message) from error
        for name in self.floors:
            if name not in proxies:
                with _named_by("floors"):
                    named = ", ".join(proxy.name for proxy in proxies.resolve([name]))
                raise SettingsError(f"a floor is for a single proxy by its name, and {name!r} stands for {named}")
        for table, noun in ((self.spreads, "spread"), (self.floors, "floor")):
            for name, number in table.items():
                objection = RULES[f"{noun}s"].objection(number)
                if objection is not None:
                    raise SettingsError(f"the {noun} of {name} {objection}")
        for name in names:
            if name not in PROXY_SCALES and name not in self.spreads:
                raise SettingsError(
                    f"how much {name} differs between networks is not known; say so in spreads, such as {name} = 0.3: "
                    "its standard deviation between networks that you would call alternatives"
                )

    @property
    def ensemble(self) -> Ensemble:
        """Weights and aggregation of the comparison with a baseline."""
        from aznas_onnx.ranking import Ensemble

        return Ensemble.of(self.proxies, self.aggregate)

    @property
    def for_smaller(self) -> Policy:
        """The policy for a candidate that is smaller than the baseline, where that is allowed."""
        return replace(self, proxies=FOR_SMALLER)

    @property
    def compared(self) -> tuple[str, ...]:
        """The proxies that a baseline is compared by, in full: those that count."""
        ensemble = self.ensemble
        return tuple(proxy.name for proxy in _registry().resolve(self.proxies) if ensemble.weight(proxy.name))

    @classmethod
    def of(cls, **rules: Any) -> Policy:
        """Make a policy of rules by name, and refuse those that would do nothing.

        Raises SettingsError if a rule is not accepted, or compares with something that no other rule names, and
        TypeError if there is no such rule.
        """
        unknown = sorted(rules.keys() - RULES.keys())
        if unknown:
            raise TypeError(f"{unknown[0]!r} is no rule of the gate; accepted are {', '.join(sorted(RULES))}")
        for one in fields(cls):
            needed = one.metadata["needs"]
            if needed and one.name in rules and not rules.get(needed):
                raise RuleError(one.name, f"compares with a {needed}, and none is named; name one, or drop the rule")
        if "compare" not in rules and not _OF_THE_PAPER.isdisjoint(rules):
            rules["compare"] = "az"
        return cls(**rules)

    @property
    def is_by_estimate(self) -> bool:
        """Whether baselines are compared by estimates."""
        return bool(self.baseline) and self.compare == "estimate"

    def score_settings(self, **others: Unpack[ScoreOptions]) -> ScoreSettings:
        """Return how the policy reads and scores networks; `others` are for what its rules leave open."""
        from aznas_onnx.scoring import ScoreOptions, ScoreSettings

        # The proxies of a policy are those that a baseline is compared by; more are scored.
        shared = RULES.keys() & ScoreOptions.__optional_keys__ - {"proxies"}
        rules = {name: getattr(self, name) for name in shared if getattr(self, name) is not None}
        return ScoreSettings.of(**cast("ScoreOptions", {**others, **rules}))

    def scored_by(self, settings: ScoreSettings) -> Policy:
        """Return the policy with the rules of scoring settings.

        Raises SettingsError if a rule of the policy contradicts them, or a gate has no such setting.
        """
        from aznas_onnx.scoring import ScoreSettings

        if settings.as_published or settings.bf16 or settings.seeds != 1:
            raise SettingsError("a gate has max_seeds in place of seeds, and no as_published or bf16; leave them out")
        rules: dict[str, Any] = {name: one for name, one in settings.options().items() if name in RULES}
        if settings.proxies == ScoreSettings().proxies:
            rules["proxies"] = COMPARED
        usual = Policy()
        for name, there in rules.items():
            here = getattr(self, name)
            if here not in (getattr(usual, name), there):
                raise SettingsError(f"{name} is given twice: {there!r} in settings and {here!r} as a rule; give one")
        return replace(self, **rules)

    @property
    def demands_nothing(self) -> bool:
        """Whether every candidate would pass."""
        return not (self.baseline or self.reference or self.floors or self.has_budget)

    @property
    def has_budget(self) -> bool:
        """Whether anything is limited that needs no score."""
        limits = (self.max_macs, self.max_params, self.max_activation_bytes, self.max_latency)
        return any(limit is not None for limit in limits)

    @property
    def needs_scores(self) -> bool:
        """Whether the candidate must be scored, which takes torch."""
        return bool(self.baseline or self.reference or self.floors)


RULES: Mapping[str, Setting] = MappingProxyType(
    {one.name: replace(one.metadata["setting"], name=one.name) for one in fields(Policy)}
)
"""The declaration of each rule, by the name of its attribute."""


def rule_default(name: str) -> str:
    """Return the default of a rule in words; empty where the rule is off."""
    default = Policy.__dataclass_fields__[name].default
    if RULES[name].default_text:
        return RULES[name].default_text
    if isinstance(default, str):
        return str(default.value if isinstance(default, enum.Enum) else default)
    return f"{default:g}" if isinstance(default, int | float) and not isinstance(default, bool) else ""


@contextmanager
def _named_by(rule: str) -> Iterator[None]:
    """Begin the message on an unknown name with the rule that has it."""
    try:
        yield
    except UnknownNameError as error:
        raise UnknownNameError(f"{rule}: {error}") from error


def _registry() -> ProxyRegistry:
    from aznas_onnx.proxies import PROXIES  # loads numpy, which `--help` does not need

    return PROXIES


def _names(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return one name or path, or several, as a tuple of texts."""
    return (os.fspath(given),) if isinstance(given, str | os.PathLike) else tuple(os.fspath(one) for one in given)
