"""Compare the converted network with ONNX Runtime under random weights and samples.

``verdict`` says what a comparison can say, ``weights`` draws weights that keep signal, ``reference`` is the side of
ONNX Runtime, ``compare`` puts the two side by side.
"""

from __future__ import annotations

from aznas_onnx.verify.compare import verify
from aznas_onnx.verify.verdict import Comparison, Verdict, Verification, VerificationError

__all__ = ["Comparison", "Verdict", "Verification", "VerificationError", "verify"]
