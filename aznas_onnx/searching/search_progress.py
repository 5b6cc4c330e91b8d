"""The progress of a search."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a search.

    Attributes
    ----------
    done, iterations
        Candidates recorded in the study (by all processes and sessions), and requested.
    failed
        Number of candidates that could not be scored.
    tries
        Genotypes sampled for them, most of them over budget or known.
    best
        Number and genotype of the best so far, or None.
    rate
        Candidates recorded per second since this session began.
    sampled
        Genotypes sampled so far for the next candidate; 0 between candidates.
    """

    done: int
    iterations: int
    failed: int
    tries: int
    best: tuple[int, str] | None
    rate: float
    sampled: int = 0

    @property
    def acceptance_rate(self) -> float:
        """Share of the sampled genotypes that were scored."""
        return self.done / self.tries if self.tries else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds left at this rate; None before the first candidate."""
        return max(0, self.iterations - self.done) / self.rate if self.rate > 0 else None
