"""ONNX Runtime, imported in this one place, so that its telemetry is off before it is loaded.

Its builds for Linux look up a telemetry host and keep a device id and a database under ``~/.cache/Microsoft`` unless
the environment says otherwise. A value of ``ORT_DISABLE_TELEMETRY`` that is set already stays.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["onnxruntime"]


def onnxruntime() -> Any:
    """Return the module ``onnxruntime``; loading it takes some tenths of a second."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as module

    return module
