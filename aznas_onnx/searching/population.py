"""The population of a search: known candidates, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.ranking import Ensemble
from aznas_onnx.results import ProxyValue, Status
from aznas_onnx.searching.leaderboard import Leaderboard
from aznas_onnx.searching.trial import Trial

__all__ = ["Population"]


class Population:
    """All trials of a study known to this process, ranked as by :func:`aznas_onnx.ranking.rank`.

    It stores texts and ranks only: a hundred thousand trials take some tens of megabytes.

    - `ensemble`: The combination of ranks to a score.
    - `directions`: Direction of each user proxy.
    - `identify`: Returns a text for a genotype that is equal for equal candidates; by default the genotype itself.
    """

    def __init__(
        self,
        ensemble: Ensemble | None = None,
        directions: Mapping[str, Direction] | None = None,
        identify: Callable[[str], str] = str,
    ) -> None:
        self._directions = directions or {}
        self._ensemble = ensemble or Ensemble()
        self._identify = identify
        self.numbers: set[int] = set()
        self.known: set[str] = set()
        self.tries = 0
        self.failed = 0
        self._names: list[str] = []
        self._board = Leaderboard(0)
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
            self.known.add(self._identify(trial.genotype))
            self.tries += trial.proposal.tries
        scored = [trial for trial in trials if trial.status is Status.OK]
        self.failed += len(trials) - len(scored)
        if not scored:
            return
        self._agree_on_proxies([trial.proxies for trial in scored])
        rows = [self._ranked_values(trial.proxies) for trial in scored]
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

    def _ranked_values(self, proxies: Mapping[str, ProxyValue]) -> npt.NDArray[np.float64]:
        """Return the named proxies so that higher is better, shape (n_proxies,); NaN, which ranks lowest, if none."""
        return np.array([PROXIES.sign(name, self._directions) * _number(proxies[name]) for name in self._names])

    def _agree_on_proxies(self, scored: Sequence[Mapping[str, ProxyValue]]) -> None:
        """Leave out, for good, a proxy that a candidate lacks or that does not apply to it."""
        if not self._ranked:
            self._names = [name for name in scored[0] if self._ensemble.weight(name) > 0.0]
            weights = [self._ensemble.weight(name) for name in self._names]
            self._board = Leaderboard(len(self._names), weights, self._ensemble.aggregation)
        for name in list(self._names):
            if not all(name in proxies and proxies[name].applies for proxies in scored):
                self._board.leave_out(self._names.index(name))
                self._names.remove(name)


def _number(value: ProxyValue) -> float:
    return math.nan if value.mean is None else value.mean
