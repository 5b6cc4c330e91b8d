"""The result of a gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from aznas_onnx.gating.file_hashes import FileHashes
from aznas_onnx.gating.policy import Inconclusive, Policy
from aznas_onnx.gating.sequential_test import Decision

__all__ = ["Check", "Compared", "GateFailure", "GateResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule, applied.

    Attributes
    ----------
    rule
        Name of the rule: ``max_macs``, ``baseline_score``, ``floor`` and so on; stable, for scripts.
    verdict
        The verdict of the rule.
    reason
        One sentence for a reviewer, with every verdict.
    against
        The baseline, reference set or proxy of the rule; None for a budget.
    value, limit
        The value found, and its limit; None where they are not numbers.
    stderr
        Standard error of `value` over seeds; None for an exact one.
    """

    rule: str
    verdict: Decision
    reason: str
    against: str | None = None
    value: float | None = None
    limit: float | None = None
    stderr: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The numbers of the candidate, or of a baseline.

    Attributes
    ----------
    model
        Its path.
    macs, params, activation_bytes
        Of one sample.
    proxies
        Means over seeds; None where there is no finite value.
    latency_ms
        None where it was not measured.
    hashes
        Of its files.
    is_cached
        Whether all its scores were in the cache.
    changes
        Changes of its graph before it was judged, in words for the user.
    """

    model: str
    macs: int
    params: int
    activation_bytes: int
    proxies: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}))
    latency_ms: float | None = None
    hashes: FileHashes = field(default_factory=lambda: FileHashes(sha256=""))
    is_cached: bool = False
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """A gate's decision and its evidence.

    Attributes
    ----------
    candidate
        Its path.
    checks
        Every applied rule, in the order of reports.
    models
        The candidate, then the baselines.
    policy
        The rules.
    compared
        All proxies of the comparison with baselines.
    seeds
        Number of seeds; 0 without scores.
    settings
        Settings of the scores; empty without scores.
    warnings
        Warnings for the user.
    elapsed_s
        Wall-clock seconds.
    """

    candidate: str
    checks: tuple[Check, ...]
    models: tuple[Compared, ...]
    policy: Policy
    compared: tuple[str, ...] = ()
    seeds: int = 0
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()
    elapsed_s: float = 0.0

    @property
    def verdict(self) -> Decision:
        """Reject if any check does; else inconclusive if any is; else pass."""
        found = {check.verdict for check in self.checks}
        return next((one for one in (Decision.REJECT, Decision.INCONCLUSIVE) if one in found), Decision.PASS)

    @property
    def passed(self) -> bool:
        """Whether the candidate passes, by the policy's rule on inconclusive results."""
        return not any(self.fails(check) for check in self.checks)

    def fails(self, check: Check) -> bool:
        """Whether a check alone rejects the candidate."""
        if check.verdict is Decision.INCONCLUSIVE:
            return self.policy.inconclusive is Inconclusive.REJECT
        return check.verdict is Decision.REJECT

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the checks that decided: those that reject, else those that are inconclusive."""
        verdict = self.verdict
        return tuple(check.reason for check in self.checks if check.verdict is verdict is not Decision.PASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFailure:
    """A candidate about which the gate could not decide, and why, in one sentence."""

    candidate: str
    reason: str
