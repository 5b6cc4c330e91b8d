"""The settings of a study, which have to be equal when it is resumed."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aznas_onnx.documents import table, text, whole
from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies import Direction, directions_of, without_references
from aznas_onnx.ranking import Ensemble
from aznas_onnx.scoring import method_of
from aznas_onnx.searching.budget import Budget, CountConvention

__all__ = ["Strategy", "StudySettings", "differences", "plain"]


class Strategy(str, enum.Enum):
    """How candidates come about."""

    EVOLUTION = "evolution"  # Algorithm 1 of the paper
    RANDOM = "random"  # sampled from the space, as the paper does for AutoFormer


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """The settings of a study.

    - `space`: ``name``, ``options`` and ``code`` (a digest of the file, for a space that is a file) identify the space;
      ``reference`` is its file or name and can change.
    - `budget`: Limits on every candidate.
    - `count`: The counting convention of the budget and the complexity proxy.
    - `top_k`: Number of the best candidates that are mutated; unused by the random strategy.
    - `seed`: Of all random choices of the search; the scorer has its own in `scoring`.
    - `scoring`: The scorer's description, as JSON values.
    - `ensemble`: The combination of a candidate's ranks to its score.
    """

    space: Mapping[str, Any]
    budget: Budget
    count: CountConvention
    strategy: Strategy
    top_k: int
    seed: int
    scoring: Mapping[str, Any]
    ensemble: Ensemble = field(default_factory=Ensemble)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise SettingsError(f"top-k is {self.top_k}; at least 1 candidate must be kept for mutation")
        if self.seed < 0:
            raise SettingsError(f"the seed is {self.seed}; it must not be negative")

    @property
    def directions(self) -> Mapping[str, Direction]:
        """Which way the proxies that are not built in point."""
        return directions_of(self.scoring)

    def as_json(self) -> dict[str, object]:
        """Return the settings as JSON values."""
        return {
            "space": dict(self.space),
            "budget": self.budget.as_json(),
            "count": self.count.value,
            "strategy": self.strategy.value,
            "top_k": self.top_k,
            "seed": self.seed,
            "scoring": dict(self.scoring),
            # Only where it is not the paper's: studies from before there was a choice are resumed.
            **({} if self.ensemble.is_default else {"assembly": self.ensemble.as_json()}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudySettings:
        """Read back what :meth:`as_json` wrote."""
        space, scoring = table(data["space"]), table(data["scoring"])
        text(space["name"]), table(space["options"]), directions_of(scoring), method_of(scoring)
        return cls(
            space=space,
            budget=Budget.from_json(table(data["budget"])),
            count=CountConvention(data["count"]),
            strategy=Strategy(data["strategy"]),
            top_k=whole(data["top_k"]),
            seed=whole(data["seed"]),
            scoring=scoring,
            ensemble=Ensemble.from_json(data["assembly"]) if "assembly" in data else Ensemble(),
        )

    @property
    def method(self) -> int:
        """The version of the scoring method that the scores are of."""
        return method_of(self.scoring)

    def differences(self, other: StudySettings) -> tuple[str, ...]:
        """Return what differs from `other`, in words: the values here, then those of `other`."""
        default = {"assembly": Ensemble().as_json()}
        found = differences(default | self.as_json(), default | other.as_json())
        return tuple(f"{path} is {_shown(path, here)}, not {_shown(path, there)}" for path, here, there in found)


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Yield path and values of the differing settings of two files that make their scores incomparable.

    The paths of space and proxies are ignored: a file can be continued from another folder.
    """
    yield from _differences("", _compared(here), _compared(there))


def _compared(data: Mapping[str, Any]) -> dict[str, object]:
    space = {key: value for key, value in data["space"].items() if key != "reference"}
    scoring = {**without_references(data["scoring"]), "method": method_of(data["scoring"])}
    return {**data, "space": space, "scoring": scoring}


def _differences(path: str, here: Any, there: Any) -> Iterator[tuple[str, object, object]]:
    if here != there and all(value is None or isinstance(value, Mapping) for value in (here, there)):
        here, there = here or {}, there or {}
        for key in dict.fromkeys([*here, *there]):
            yield from _differences(f"{path}.{key}" if path else str(key), here.get(key), there.get(key))
    elif here != there:
        yield path, here, there


def plain(value: object) -> str:
    """Return a value of the settings for a message."""
    return "unset" if value is None else repr(value)


def _shown(path: str, value: object) -> str:
    """Write a value; a limit of a budget in words, to the last digit."""
    if not path.startswith("budget.") or not isinstance(value, list):  # latency: a number or nothing
        return plain(value)
    low, high = (None if end is None else f"{end:,}" for end in value)
    if low is None:
        return "any" if high is None else f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"
