"""Import ONNX Runtime with its telemetry off; no other module imports it.

Its builds for Linux look up a telemetry host and store a device id and a database under ``~/.cache/Microsoft`` unless
an environment variable disables it. An existing value of ``ORT_DISABLE_TELEMETRY`` is not changed.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["onnxruntime", "unoptimised_session"]


def onnxruntime() -> Any:
    """Return the module ``onnxruntime``; loading it takes some tenths of a second."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as module

    return module


def unoptimised_session(model: bytes) -> Any:
    """Return a silent session that runs a serialised model on the CPU unchanged, without fusions.

    ONNX Runtime's exceptions derive directly from Exception.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
