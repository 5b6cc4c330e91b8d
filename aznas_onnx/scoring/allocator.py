"""Configure glibc's allocator to reuse memory that torch frees. Does nothing elsewhere."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

__all__ = ["freed_memory_kept"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_KEPT_BYTES = 2**30
_MOST_KEPT_BYTES = 2**31 - 1  # the most that the call takes
_REUSED_BYTES = 2**25  # the most that glibc allows
_ALL_REUSED_BYTES = 2**27  # gaps between larger blocks cost more memory than the time is worth: measured on mbv2
_USUAL_MAPPINGS = 65536  # glibc's default


@contextmanager
def freed_memory_kept(largest_bytes: int) -> Iterator[None]:
    """Let tensors reuse the memory of freed ones.

    By default glibc requests every large block from the kernel and returns it at once, and the kernel clears each page
    again: with feature maps of some megabytes that took up to half of the time of a pass. From the first call on,
    blocks up to 32 MiB are cached for the rest of the process, up to 1 GiB. If the largest block is above 32 MiB and at
    most 128 MiB, all are cached within the context. What the context leaves in the cache stays there for the next
    network, up to 1 GiB. Everything is released of a larger cache, and after blocks above 128 MiB, which do not use it.

    The variables that glibc itself reads (``MALLOC_MMAP_MAX_`` and others) take precedence. With another C library this
    does nothing.

    - `largest_bytes`: Size of the largest tensor of the work in the context.
    """
    library = _glibc()
    if library is None:
        yield
        return
    _set(library, _M_MMAP_THRESHOLD, _REUSED_BYTES, "MALLOC_MMAP_THRESHOLD_")
    _set(library, _M_TRIM_THRESHOLD, _KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_")
    if largest_bytes <= _REUSED_BYTES:
        yield
        return
    keeps_all = largest_bytes <= _ALL_REUSED_BYTES
    if keeps_all:
        _set(library, _M_MMAP_MAX, 0, "MALLOC_MMAP_MAX_")
        _set(library, _M_TRIM_THRESHOLD, _MOST_KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_")
    try:
        yield
    finally:
        if keeps_all:
            _set(library, _M_MMAP_MAX, _USUAL_MAPPINGS, "MALLOC_MMAP_MAX_")
            _set(library, _M_TRIM_THRESHOLD, _KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_")
        if not keeps_all or _cached_bytes(library) > _KEPT_BYTES:
            library.malloc_trim(0)


def _set(library: ctypes.CDLL, option: int, value: int, variable: str) -> None:
    if variable not in os.environ:
        library.mallopt(option, value)


class _Statistics(ctypes.Structure):
    """The ``struct mallinfo2`` of glibc: ten sizes in bytes or numbers of blocks."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def _cached_bytes(library: ctypes.CDLL) -> int:
    """Return how much freed memory the allocator holds; more than any limit where glibc (before 2.33) cannot say."""
    statistics = getattr(library, "mallinfo2", None)
    if statistics is None:
        return _MOST_KEPT_BYTES
    statistics.restype = _Statistics
    return int(statistics().fordblks)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
