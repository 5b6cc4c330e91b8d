"""One scored candidate of a study."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from aznas_onnx.results import ProxyValue, Status
from aznas_onnx.searching.budget import Cost

__all__ = ["COMPLEXITY", "Candidate", "TrialOrigin", "Proposal", "Trial"]

COMPLEXITY = "macs"
"""Name of the complexity proxy, whose value follows the study's counting convention."""


class TrialOrigin(str, enum.Enum):
    """How a candidate came about."""

    START = "start"  # mutated from the space's start
    HISTORY = "history"  # mutated from a random earlier candidate
    TOP = "top"  # mutated from one of the best
    SAMPLE = "sample"  # sampled from the space


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that is within budget and new, before it is scored.

    Attributes
    ----------
    number
        Its place in the study, from 0; the random choices that led to it follow from the study's seed, this number
        and the candidates scored before it.
    genotype
        In the notation of the space.
    parent
        Number of the candidate that it was mutated from, or None.
    tries
        Genotypes sampled until this one was within budget and new; at least 1.
    """

    number: int
    genotype: str
    origin: TrialOrigin
    cost: Cost
    parent: int | None = None
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate and the result of scoring it.

    Attributes
    ----------
    proposal
        The candidate.
    status, reason
        A failed candidate has a reason and no proxies, and is not ranked.
    proxies
        By name; the complexity proxy ``macs`` follows the study's counting convention.
    elapsed_s
        Wall-clock seconds of building and scoring.
    """

    proposal: Proposal
    status: Status
    reason: str | None
    proxies: Mapping[str, ProxyValue]
    elapsed_s: float

    @property
    def number(self) -> int:
        """Its place in the study, from 0."""
        return self.proposal.number

    @property
    def genotype(self) -> str:
        """The genotype, in the notation of the space."""
        return self.proposal.genotype

    @property
    def cost(self) -> Cost:
        """Multiply-adds, parameters and layers."""
        return self.proposal.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trial with its place in the ranking of the whole study.

    Attributes
    ----------
    az_score
        Eq. 12 over all trials of the study that did not fail: at most 0, higher is better; None for one alone.
    rank
        From 1, the best; equal scores share the better rank.
    """

    trial: Trial
    az_score: float | None
    rank: int
