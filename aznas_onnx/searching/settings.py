"""The settings of a study, which have to be equal when it is resumed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from aznas_onnx.documents import JsonObject, table, whole
from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies import Direction
from aznas_onnx.ranking import Ensemble
from aznas_onnx.searching.budget import Budget, CountConvention
from aznas_onnx.searching.identity import Identity
from aznas_onnx.searching.space_reference import StoredSpace
from aznas_onnx.searching.stored_settings import StoredScoring, StoredSettings, differences, plain

__all__ = ["Strategy", "StudySettings"]


class Strategy(str, enum.Enum):
    """How candidates come about."""

    EVOLUTION = "evolution"  # Algorithm 1 of the paper
    RANDOM = "random"  # sampled from the space, as the paper does for AutoFormer


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """The settings of a study.

    - `space`: The space; its file or name can change.
    - `budget`: Limits on every candidate.
    - `count`: The counting convention of the budget and the complexity proxy.
    - `top_k`: Number of the best candidates that are mutated; unused by the random strategy.
    - `seed`: Of all random choices of the search; the scorer has its own in `scoring`.
    - `scoring`: The scorer's description.
    - `ensemble`: The combination of a candidate's ranks to its score.
    - `identity`: What is scored once.
    """

    space: StoredSpace
    budget: Budget
    count: CountConvention
    strategy: Strategy
    top_k: int
    seed: int
    scoring: StoredScoring
    ensemble: Ensemble = field(default_factory=Ensemble)
    identity: Identity = Identity.GENOTYPE

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise SettingsError(f"top-k is {self.top_k}; at least 1 candidate must be kept for mutation")
        if self.seed < 0:
            raise SettingsError(f"the seed is {self.seed}; it must not be negative")

    @property
    def directions(self) -> Mapping[str, Direction]:
        """Which way the proxies that are not built in point."""
        return self.scoring.directions

    def as_json(self) -> JsonObject:
        """Return the settings as JSON values."""
        return {
            "space": self.space.as_json(),
            "budget": self.budget.as_json(),
            "count": self.count.value,
            "strategy": self.strategy.value,
            "top_k": self.top_k,
            "seed": self.seed,
            "scoring": dict(self.scoring.document),
            # Only where they are not the first versions': studies from before there was a choice are resumed.
            **({} if self.ensemble.is_default else {"assembly": self.ensemble.as_json()}),
            **({} if self.identity is Identity.GENOTYPE else {"identity": self.identity.value}),
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> StudySettings:
        """Read back what :meth:`as_json` wrote."""
        return cls(
            space=StoredSpace.from_json(table(data["space"])),
            budget=Budget.from_json(table(data["budget"])),
            count=CountConvention(data["count"]),
            strategy=Strategy(data["strategy"]),
            top_k=whole(data["top_k"]),
            seed=whole(data["seed"]),
            scoring=StoredScoring.from_json(table(data["scoring"])),
            ensemble=Ensemble.from_json(data["assembly"]) if "assembly" in data else Ensemble(),
            identity=Identity(data.get("identity", Identity.GENOTYPE)),
        )

    @property
    def method(self) -> int:
        """The version of the scoring method that the scores are of."""
        return self.scoring.method

    def differences(self, other: StudySettings) -> tuple[str, ...]:
        """Return what differs from `other`, in words: the values here, then those of `other`."""
        found = differences(self._compared(), other._compared())
        return tuple(f"{path} is {_shown(path, here)}, not {_shown(path, there)}" for path, here, there in found)

    def _compared(self) -> JsonObject:
        stored = StoredSettings(space=self.space, scoring=self.scoring)
        defaults = {"assembly": Ensemble().as_json(), "identity": Identity.GENOTYPE.value}
        return {**defaults, **self.as_json(), **stored.compared()}


def _shown(path: str, value: object) -> str:
    """Write a value; a limit of a budget in words, to the last digit."""
    if not path.startswith("budget.") or not isinstance(value, list):  # latency: a number or nothing
        return plain(value)
    low, high = (None if end is None else f"{end:,}" for end in value)
    if low is None:
        return "any" if high is None else f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"
