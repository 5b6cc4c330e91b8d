"""Compare the converted network with ONNX Runtime under random weights and samples.

``verdict`` has the possible results, ``scaled_weights`` the weights, ``onnx_runtime`` the reference, and ``compare``
the comparison.
"""

from __future__ import annotations

from aznas_onnx.verify.compare import verify
from aznas_onnx.verify.verdict import Comparison, Verdict, Verification, VerificationError

__all__ = ["Comparison", "Verdict", "Verification", "VerificationError", "verify"]
