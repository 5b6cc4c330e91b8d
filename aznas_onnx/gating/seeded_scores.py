"""The proxies of one model under a growing number of seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aznas_onnx import scoring
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.prepare import error_context
from aznas_onnx.results import ProxyScores, ProxyValue, Status

if TYPE_CHECKING:
    from aznas_onnx.gating.score_cache import CachedScores
    from aznas_onnx.scoring import Session

__all__ = ["SeededScores"]

Floats = npt.NDArray[np.float64]


class SeededScores:
    """Scores a model under a growing number of seeds; seed i has the same random numbers for every model.

    - `model`: Its path.
    - `open_session`: Called once, for the first seeds that are not in the cache.
    - `cached`: Its scores of earlier processes; None for no cache.
    """

    def __init__(
        self,
        model: str,
        open_session: Callable[[], Session],
        first_seed: int,
        cached: CachedScores | None = None,
    ) -> None:
        self.model = model
        self._open_session: Callable[[], Session] | None = open_session
        self._session: Session | None = None
        self._first_seed = first_seed
        self._cached = cached
        self._values: dict[str, list[float]] = {}
        self._last: ProxyScores | None = None
        self._reasons: dict[str, str] = {}
        self.warnings: tuple[str, ...] = ()
        self.seeds = 0
        self.seeds_scored = 0  # and not taken from the cache

    def extend(self, seeds: int) -> None:
        """Score under further seeds until there are so many.

        Raises ModelError if the model cannot be scored; the message names it.
        """
        more = seeds - self.seeds
        if more <= 0:
            return
        # An error inside must be a sentence, never a status that could mean "rejected".
        first = self._first_seed + self.seeds
        scores = self._scores(range(first, first + more))
        if scores.status is Status.FAILED:
            with error_context(self.model):  # a node's name can be of any length
                raise ModelError(scores.named(scores.reason or "it cannot be scored"))
        for name, value in scores.proxies.items():
            # An exact proxy has the same value for every seed.
            new = value.per_seed if len(value.per_seed) == more else (_exact(value),) * more
            self._values.setdefault(name, []).extend(new)
            if value.reason is not None:
                self._reasons[name] = value.reason
        self._last = scores
        self.warnings = tuple(dict.fromkeys((*self.warnings, *scores.warnings)))
        self.seeds = seeds

    def _scores(self, seeds: range) -> ProxyScores:
        known = None if self._cached is None else self._cached.read(self.model, seeds)
        if known is not None:
            return known
        scores = scoring.attempt(self.model, lambda: self._opened().scores(seeds))
        self.seeds_scored += len(seeds)
        if self._cached is not None and scores.status is Status.OK:
            self._cached.write(scores, seeds)
        return scores

    def _opened(self) -> Session:
        """Return the session that all looks share."""
        if self._open_session is not None:
            self._session, self._open_session = self._open_session(), None
        assert self._session is not None
        return self._session

    @property
    def last(self) -> ProxyScores:
        """The scores under the last seeds."""
        assert self._last is not None
        return self._last

    @property
    def proxies(self) -> Mapping[str, ProxyValue]:
        """The proxies under the last seeds."""
        return self.last.proxies

    def applies(self, proxy: str) -> bool:
        """Whether a proxy is defined for this kind of network."""
        return proxy in self.proxies and self.proxies[proxy].applies

    def means(self) -> dict[str, float | None]:
        """Return the mean of each proxy that applies, over the seeds that gave a value; None where too few did."""
        return {
            name: None if self.missing(name) else float(np.nanmean(self.values(name)))
            for name in self._values
            if self.applies(name)
        }

    def values(self, proxy: str) -> Floats:
        """Return a proxy's values, (n_seeds,), NaN where a seed gave none."""
        values = np.asarray(self._values[proxy], dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan)

    def n_missing(self, proxy: str) -> int:
        """Return under how many seeds a proxy has no finite value."""
        return int(np.isnan(self.values(proxy)).sum())

    def reason(self, proxy: str) -> str:
        """Return why a proxy has no finite value."""
        return self._reasons.get(proxy, "the value is not finite")

    def missing(self, proxy: str) -> str | None:
        """Return why a proxy has no finite value under half of the seeds or more; else None."""
        return self.reason(proxy) if 2 * self.n_missing(proxy) >= self.seeds else None


def _exact(value: ProxyValue) -> float:
    return np.nan if value.mean is None else value.mean
