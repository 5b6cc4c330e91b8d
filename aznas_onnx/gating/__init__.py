"""Whether a candidate is good enough: the gate, its policy, and stored populations. Loads torch only to score."""

from aznas_onnx.gating.bundled import BUNDLED, find_population
from aznas_onnx.gating.evidence import Verdict
from aznas_onnx.gating.gate import gate
from aznas_onnx.gating.placing import Placement, place, rank_in
from aznas_onnx.gating.policy import COMPARED, Inconclusive, Policy
from aznas_onnx.gating.policyfile import find_policy_file, python_files, read_policy
from aznas_onnx.gating.population import Member, Population, PopulationSettings
from aznas_onnx.gating.result import Check, Compared, GateResult

__all__ = [
    "BUNDLED",
    "COMPARED",
    "Check",
    "Compared",
    "GateResult",
    "Inconclusive",
    "Member",
    "Placement",
    "Policy",
    "Population",
    "PopulationSettings",
    "Verdict",
    "find_policy_file",
    "find_population",
    "gate",
    "place",
    "python_files",
    "rank_in",
    "read_policy",
]
