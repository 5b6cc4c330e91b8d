"""Intel's oneDNN, whose kernels torch runs on a CPU."""

from __future__ import annotations

import torch

__all__ = ["has_onednn"]


def has_onednn() -> bool:
    """Whether this build of torch contains oneDNN."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
