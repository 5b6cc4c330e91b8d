"""Every cache of the package that outlives a call: its name, its bound and its reason, in one list.

Cached results follow from their arguments alone, so a cache can be emptied at any time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

__all__ = ["CACHES", "Cache", "cached", "clear_caches", "register_cache"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A cache that lives as long as the process, or in the user's cache folder.

    - `name`: Module and function.
    - `bound`: The most entries; None where an entry ends with the object that it belongs to.
    - `reason`: Why recomputing would cost more.
    - `size`, `clear`: Return the number of entries, and drop them.
    """

    name: str
    bound: int | None
    reason: str
    size: Callable[[], int]
    clear: Callable[[], None]


CACHES: dict[str, Cache] = {}
"""By name; a cache joins when its module is imported."""


def cached(bound: int, reason: str) -> Callable[[Callable[..., T]], _lru_cache_wrapper[T]]:
    """Decorate a pure function of hashable arguments with :func:`functools.lru_cache`, and list the cache."""

    def decorate(function: Callable[..., T]) -> _lru_cache_wrapper[T]:
        wrapped = functools.lru_cache(maxsize=bound)(function)
        name = f"{function.__module__}.{function.__qualname__}"
        register_cache(name, bound, reason, size=lambda: wrapped.cache_info().currsize, clear=wrapped.cache_clear)
        return wrapped

    return decorate


def register_cache(
    name: str, bound: int | None, reason: str, *, size: Callable[[], int], clear: Callable[[], None]
) -> None:
    """List a cache that is not made by :func:`cached`."""
    CACHES[name] = Cache(name=name, bound=bound, reason=reason, size=size, clear=clear)


def clear_caches() -> None:
    """Empty all caches of the modules that are loaded: the next call computes anew, with the same result."""
    for cache in CACHES.values():
        cache.clear()
