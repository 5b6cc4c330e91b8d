"""The gate: policy, checks and decision. Each name is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aznas_onnx.late_names import late_names

if TYPE_CHECKING:
    from aznas_onnx.gating.policy import COMPARED, Inconclusive, Policy
    from aznas_onnx.gating.policyfile import PolicySources, find_policy_file, read_models, read_policy
    from aznas_onnx.gating.result import Check, Compared, GateFailure, GateResult
    from aznas_onnx.gating.run_gate import gate
    from aznas_onnx.gating.sequential_test import Decision

__all__ = [
    "PolicySources",
    "COMPARED",
    "Check",
    "Compared",
    "GateFailure",
    "GateResult",
    "Inconclusive",
    "Policy",
    "Decision",
    "find_policy_file",
    "gate",
    "read_models",
    "read_policy",
]

_LATE = {
    "gating.policy": ("COMPARED", "Inconclusive", "Policy"),
    "gating.policyfile": ("PolicySources", "find_policy_file", "read_models", "read_policy"),
    "gating.result": ("Check", "Compared", "GateFailure", "GateResult"),
    "gating.run_gate": ("gate",),
    "gating.sequential_test": ("Decision",),
}
__getattr__ = late_names(__name__, _LATE)
