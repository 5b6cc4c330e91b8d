"""Time per phase of a score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

__all__ = ["Clock"]


class Clock:
    """Adds up the time spent in named phases; the time of an inner phase does not count for the outer one.

    - `is_running`: A clock that does not run costs next to nothing and has no phases.
    """

    def __init__(self, *, is_running: bool = True) -> None:
        self._is_running = is_running
        self._elapsed_s: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0
        self.synchronise: Callable[[], None] | None = None
        """Waits for a device that computes on its own; called where a phase begins or ends."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what runs inside towards a phase."""
        if not self._is_running:
            yield
            return
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    @property
    def elapsed_s(self) -> Mapping[str, float]:
        """Seconds by phase, in the order in which the phases first ended."""
        return MappingProxyType(self._elapsed_s)

    def _switch(self) -> None:
        """Book the time since the last switch on the innermost phase."""
        if self.synchronise is not None:
            self.synchronise()
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self._elapsed_s[name] = self._elapsed_s.get(name, 0.0) + now - self._since
        self._since = now
