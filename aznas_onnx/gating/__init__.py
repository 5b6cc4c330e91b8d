"""The gate: policy, checks and decision. Each name is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aznas_onnx.gating.policy import COMPARED, Inconclusive, Policy
    from aznas_onnx.gating.policyfile import PolicySources, find_policy_file, read_policy
    from aznas_onnx.gating.result import Check, Compared, GateResult
    from aznas_onnx.gating.run_gate import gate
    from aznas_onnx.gating.sequential_test import Decision

__all__ = [
    "PolicySources",
    "COMPARED",
    "Check",
    "Compared",
    "GateResult",
    "Inconclusive",
    "Policy",
    "Decision",
    "find_policy_file",
    "gate",
    "read_policy",
]

_NAMES = {
    "policy": ("COMPARED", "Inconclusive", "Policy"),
    "policyfile": ("PolicySources", "find_policy_file", "read_policy"),
    "result": ("Check", "Compared", "GateResult"),
    "run_gate": ("gate",),
    "sequential_test": ("Decision",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
