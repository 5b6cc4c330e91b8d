"""The C library's memory allocator, told to keep what torch frees. Linux with glibc only; elsewhere nothing is done."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import lru_cache

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_KEPT_BYTES = 2**31 - 1  # the most that the call takes
_REUSED_BYTES = 2**25  # the most that glibc allows
_ALL_REUSED_BYTES = 2**27
_USUAL_MAPPINGS = 65536


def keep_freed_memory(largest_bytes: int) -> None:
    """Let tensors reuse the memory of freed ones, for the rest of the process.

    By default glibc asks the kernel for every large block anew and gives it back at once, and the kernel clears each
    page again as it is touched: with feature maps of some megabytes that took up to half of the time of a pass. Now
    blocks up to 32 MiB are kept, and all of them where none is above 128 MiB. Between blocks that are kept there are
    gaps, which for larger ones would cost more memory than the time is worth; before work with such large ones, what
    was kept is given back. At most two gigabytes stay with the process after they were freed.

    The variables that glibc itself reads (``MALLOC_MMAP_MAX_`` and others) take precedence.

    Parameters
    ----------
    largest_bytes
        Size of the largest tensor of the work at hand.
    """
    library = _glibc()
    if library is None:
        return
    is_large = largest_bytes > _ALL_REUSED_BYTES
    for option, value, variable in (
        (_M_MMAP_THRESHOLD, _REUSED_BYTES, "MALLOC_MMAP_THRESHOLD_"),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_"),
        (_M_MMAP_MAX, _USUAL_MAPPINGS if is_large else 0, "MALLOC_MMAP_MAX_"),
    ):
        if variable not in os.environ:
            library.mallopt(option, value)
    if is_large:
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
