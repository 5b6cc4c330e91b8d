"""Efforts: batch size, and the estimate of spectral norms."""

from __future__ import annotations

import enum

__all__ = ["Effort"]


class Effort(str, enum.Enum):
    """A trade of time against fidelity; docs/benchmarks.md has what each costs and loses.

    The noise of few samples makes the spectral norm of a Jacobian's estimate too large, the more so the fewer samples a
    block has for its channels. A larger batch has less of it, and pays in time. The cheaper efforts take out the share
    of the estimate's squared norm that must be noise, which is known from the gradients, and so get by with few.
    """

    PAPER = "paper"
    BALANCED = "balanced"
    FAST = "fast"

    @property
    def batch_size(self) -> int:
        """Samples in a batch, where nobody says."""
        return {Effort.PAPER: 64, Effort.BALANCED: 16, Effort.FAST: 4}[self]

    @property
    def debias(self) -> bool:
        """Whether the noise of few samples is taken out of spectral norms."""
        return self is not Effort.PAPER

    @property
    def shares_repeats(self) -> bool:
        """Whether blocks that repeat each other share one Jacobian."""
        return self is not Effort.PAPER
