"""Whether a candidate is good enough: the gate, its policy, and stored reference sets. Loads torch only to score."""

from aznas_onnx.gating.gate import gate
from aznas_onnx.gating.policy import COMPARED, Inconclusive, Policy
from aznas_onnx.gating.policyfile import find_policy_file, python_files, read_policy
from aznas_onnx.gating.result import Check, Compared, GateResult
from aznas_onnx.gating.sequential_test import Decision

__all__ = [
    "COMPARED",
    "Check",
    "Compared",
    "GateResult",
    "Inconclusive",
    "Policy",
    "Decision",
    "find_policy_file",
    "gate",
    "python_files",
    "read_policy",
]
