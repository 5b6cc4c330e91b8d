"""Complexity: MACs of one sample (Sec. 3.1). Higher is better within a budget."""

from __future__ import annotations

from aznas_onnx.proxies.engine.evidence import Evidence, Outcome
from aznas_onnx.proxies.registry import Direction, Need, Proxy

__all__ = ["MACS"]


def _evaluate(evidence: Evidence) -> Outcome:
    return Outcome(value=float(evidence.macs))


def _doubt(evidence: Evidence, value: float) -> str:
    return "" if value > 0 else "a network multiplies somewhere"


MACS = Proxy(
    name="macs",
    description="complexity: multiply-adds of one sample",
    equation="AZ-NAS (CVPR 2024), Sec. 3.1, Complexity",
    direction=Direction.HIGHER_IS_BETTER,
    needs=Need.GRAPH,
    evaluate=_evaluate,
    origin="AZ-NAS: Lee and Ham, CVPR 2024",
    cost="no pass: they are counted anyway",
    fidelity="as published",
    doubt=_doubt,
)
