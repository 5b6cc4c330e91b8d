"""The device to compute on."""

from __future__ import annotations

import torch

from aznas_onnx.errors import SettingsError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """Return the device of a name.

    - `name`: ``"auto"`` (CUDA where there is a GPU, else Apple's MPS, else the CPU), ``"cpu"``, ``"cuda"``,
      ``"cuda:INDEX"`` or ``"mps"``.

    Raises SettingsError if there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isascii() and index.isdigit())):
        raise SettingsError(f"there is no device {name!r}; auto, cpu, cuda, cuda:INDEX and mps are accepted")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            found = f"there are {count}" if count else "torch sees none on this machine"
            raise SettingsError(f"device {name!r} is not available: no such CUDA device ({found}); use auto or cpu")
    if kind == "mps" and not _has_mps():
        raise SettingsError("device 'mps' is not available: torch sees no Apple GPU on this machine; use auto or cpu")
    return torch.device(name)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
