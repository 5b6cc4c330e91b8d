"""The device to compute on."""

from __future__ import annotations

import torch

from aznas_onnx.errors import SettingsError

__all__ = ["hardware_of", "resolve_device"]


def resolve_device(name: str, *, bf16: bool = False) -> torch.device:
    """Return the device of a name.

    - `name`: ``"auto"`` (CUDA where there is a GPU, else Apple's MPS, else the CPU), ``"cpu"``, ``"cuda"``,
      ``"cuda:INDEX"`` or ``"mps"``.
    - `bf16`: Whether it has to have instructions for bfloat16: emulated, that is 8 to 50 times slower.

    Raises SettingsError if there is no such device on this machine.
    """
    device = _resolved(name)
    if bf16 and not _has_bf16(device):
        raise SettingsError(f"device {str(device)!r} has no instructions for bfloat16; leave bf16 out")
    return device


def hardware_of(name: str) -> str:
    """Return what computes on the device of a name, as far as it decides the rounding of results."""
    device = resolve_device(name)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _resolved(name: str) -> torch.device:
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


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in instructions)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
