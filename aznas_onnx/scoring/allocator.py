"""The C library's memory allocator, told to keep what torch frees. Linux with glibc only; elsewhere nothing is done."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import lru_cache

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 2**30
_REUSED_BYTES = 2**25  # the most that glibc allows


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let tensors reuse the memory of freed ones, for the rest of the process.

    By default glibc asks the kernel for every large block anew and gives it back at once, and the kernel clears each
    page again as it is touched: with feature maps of some megabytes that took up to half of the time of a pass. Blocks
    above 32 MiB are still handled so. At most a gigabyte stays with the process after it was freed.

    The variables that glibc itself reads (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``) take precedence.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value, variable in (
        (_M_MMAP_THRESHOLD, _REUSED_BYTES, "MALLOC_MMAP_THRESHOLD_"),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_"),
    ):
        if variable not in os.environ:
            mallopt(option, value)
