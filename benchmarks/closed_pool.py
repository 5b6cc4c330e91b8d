"""A search over measured architectures: a space that holds these alone, and scores that are looked up."""

# ruff: noqa: D102  (the contract of the methods stands on Space and Scorer)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.evaluation import Record
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.spaces import GenotypeError, Space, choose, quote

Parts = tuple[object, ...]
PARTS: Mapping[str, Callable[[Any], Parts]] = {
    "nb201": lambda cell: cell.operations,
    "transnas-micro": lambda cell: cell.operations,
    "transnas-macro": lambda skeleton: skeleton.modules,
    "nats-sss": lambda widths: widths.channels,
    "nb-macro": lambda network: network.layers,
}
"""What a change of the space replaces, for each space whose changes are counted here."""
WITH_INSERTIONS = ("transnas-macro",)  # whose changes also insert and remove a part


class ClosedPool(Space[Any]):
    """Some genotypes of a space, and no others; everything about them is as in the space.

    A sample is a random member. A mutation is a random one of the members that up to `changes` changes of the space
    make of a genotype; where there is none, of those that the fewest changes make.
    """

    name = "pool"

    def __init__(self, space: Space[Any], members: Sequence[str]) -> None:
        super().__init__(resolution=space.resolution, num_classes=space.num_classes)
        if space.name not in PARTS:
            raise SettingsError(f"changes are counted in {', '.join(PARTS)}; not in {space.name}")
        if len(members) < 2:
            raise SettingsError(f"a pool of {len(members)} is too small; two architectures or more are needed")
        self._space = space
        self._members = [space.parse(text) for text in members]
        self._numbers = {genotype: number for number, genotype in enumerate(self._members)}
        self._parts = [PARTS[space.name](genotype) for genotype in self._members]
        self._neighbours: dict[tuple[int, int], list[int]] = {}

    def sample(self, rng: np.random.Generator) -> Any:
        return choose(self._members, rng)

    def mutate(self, genotype: Any, rng: np.random.Generator, changes: int = 1) -> Any:
        return self._members[choose(self.neighbours(genotype, changes), rng)]

    def neighbours(self, genotype: Any, changes: int) -> Sequence[int]:
        """Return the numbers of the members that a mutation can give."""
        number = self._numbers[genotype]
        if (number, changes) not in self._neighbours:
            distances = np.array([self._distance(self._parts[number], other) for other in self._parts])
            fewest = distances[distances > 0].min()
            near = (distances > 0) & (distances <= max(changes, fewest))
            self._neighbours[number, changes] = np.flatnonzero(near).tolist()
        return self._neighbours[number, changes]

    def parse(self, text: str) -> Any:
        genotype = self._space.parse(text)
        self.validate(genotype)
        return genotype

    def format(self, genotype: Any) -> str:
        return self._space.format(genotype)

    def validate(self, genotype: object) -> None:
        self._space.validate(genotype)
        if genotype not in self._numbers:
            raise GenotypeError(f"{quote(self._space.format(genotype))} is not in the pool")

    def canonical(self, genotype: Any) -> str | None:
        return self._space.canonical(genotype)

    def build(self, genotype: Any) -> onnx.ModelProto:
        return self._space.build(genotype)

    def macs(self, genotype: Any) -> int:
        return self._space.macs(genotype)

    def params(self, genotype: Any) -> int:
        return self._space.params(genotype)

    def layers(self, genotype: Any) -> int:
        return self._space.layers(genotype)

    def paper_flops(self, genotype: Any) -> int | None:
        return self._space.paper_flops(genotype)

    def _distance(self, parts: Parts, other: Parts) -> int:
        if self._space.name in WITH_INSERTIONS:
            return with_insertions(parts, other)
        return sum(one != two for one, two in zip(parts, other, strict=True))


def with_insertions(parts: Parts, other: Parts) -> int:
    """Return the fewest replacements, insertions and removals that make one sequence of another."""
    row = list(range(len(other) + 1))
    for removed, part in enumerate(parts, 1):
        before, row = row, [removed]
        for place, wanted in enumerate(other):
            row.append(min(before[place] + (part != wanted), before[place + 1] + 1, row[place] + 1))
    return row[-1]


class KnownScores:
    """The scorer of a search whose scores are known.

    - `records`: By architecture, in the notation of the space.
    - `proxies`: Names of those that a candidate gets.
    """

    def __init__(self, records: Mapping[str, Record], proxies: Sequence[str]) -> None:
        self._records = records
        self._proxies = tuple(proxies)

    def describe(self) -> Mapping[str, object]:
        return {"proxies": list(self._proxies)}

    def prepare(self, threads: int | None) -> None:
        pass

    def score(self, genotype: str) -> ProxyScores:
        record = self._records[genotype]
        if record.reason is not None:
            raise ModelError(record.reason)
        return ProxyScores(
            model=genotype,
            status=Status.OK,
            proxies={name: record.proxies[name] for name in self._proxies},
            macs=record.macs,
            params=record.params,
        )
