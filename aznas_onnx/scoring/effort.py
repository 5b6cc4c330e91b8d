"""Efforts: batch size, and the estimate of spectral norms."""

from __future__ import annotations

import enum

__all__ = ["Effort"]


class Effort(str, enum.Enum):
    """A trade of time against fidelity; docs/benchmarks.md has the cost and loss of each.

    The noise of few samples makes the spectral norm of an estimated Jacobian too large, most where a block has few
    samples per channel. A larger batch has less noise and takes more time. The cheaper efforts remove the share of
    noise in the squared norm of the estimate, which is known from the gradients.
    """

    PAPER = "paper"
    BALANCED = "balanced"
    FAST = "fast"

    @property
    def batch_size(self) -> int:
        """Default number of samples in a batch."""
        return {Effort.PAPER: 64, Effort.BALANCED: 16, Effort.FAST: 4}[self]

    @property
    def debias(self) -> bool:
        """Whether the noise of few samples is removed from spectral norms."""
        return self is not Effort.PAPER

    @property
    def shares_repeats(self) -> bool:
        """Whether blocks that repeat each other share one Jacobian."""
        return self is not Effort.PAPER
