"""The scored candidates as the search sees them: who is known, and who is best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from aznas_onnx.results import Status
from aznas_onnx.searching.leaderboard import Leaderboard
from aznas_onnx.searching.trial import Trial

__all__ = ["Population", "ranked_proxies", "ranked_values"]


class Population:
    """All trials of a study that this process knows of, ranked.

    It keeps genotypes and ranks only: a hundred thousand trials take some tens of megabytes.
    """

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.genotypes: set[str] = set()
        self.tries = 0
        self.failed = 0
        self._names: tuple[str, ...] = ()
        self._board = Leaderboard(1)
        self._ranked: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_ranked(self) -> int:
        """Number of candidates that were scored without failure."""
        return len(self._ranked)

    def update(self, trials: Sequence[Trial]) -> None:
        """Take in new trials."""
        for trial in trials:
            self.numbers.add(trial.number)
            self.genotypes.add(trial.genotype)
            self.tries += trial.proposal.tries
        scored = [trial for trial in trials if trial.status is Status.OK]
        self.failed += len(trials) - len(scored)
        if not scored:
            return
        if not self._names:
            # A proxy that applies to none ties all of them, and so changes no order.
            self._names = tuple(scored[0].proxies)
            self._board = Leaderboard(len(self._names))
        rows = [ranked_values(trial, self._names) for trial in scored]
        if len(rows) == 1:
            self._board.add(rows[0])
        else:
            self._board.extend(rows)
        self._ranked.extend((trial.number, trial.genotype) for trial in scored)

    def member(self, rng: np.random.Generator) -> tuple[int, str]:
        """Return number and genotype of a random ranked candidate."""
        return self._ranked[int(rng.integers(len(self._ranked)))]

    def top(self, k: int) -> list[tuple[int, str]]:
        """Return number and genotype of the `k` best candidates, in the order in which they were recorded."""
        return [self._ranked[index] for index in self._board.top(k)]

    def best(self) -> tuple[int, str] | None:
        """Return number and genotype of the best candidate, or None where there is none yet."""
        return self._ranked[int(self._board.best(1)[0])] if self._ranked else None


def ranked_proxies(trials: Iterable[Trial]) -> tuple[str, ...]:
    """Return the proxies that take part in the ranking: those that apply to at least one of the trials."""
    names: dict[str, None] = {}
    for trial in trials:
        names.update((name, None) for name, value in trial.proxies.items() if value.applies)
    return tuple(names)


def ranked_values(trial: Trial, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the named proxies of a trial, shape (n_proxies,); one without a number is NaN, which ranks lowest."""
    means = (value.mean if (value := trial.proxies.get(name)) is not None else None for name in names)
    return np.array([math.nan if mean is None else mean for mean in means])
