"""Set-up of child processes: the parent handles Ctrl-C, and children end with it."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Iterator

__all__ = ["end_with_parent", "interrupts_ignored"]

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def end_with_parent() -> None:
    """Let the kernel end this process when its parent ends, however that comes about. Linux only."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


@contextlib.contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Start processes that ignore Ctrl-C; this one gets it at the end of the context.

    Outside the main thread, where Python does not let a thread change that, do nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    blocks = hasattr(signal, "pthread_sigmask")  # a blocked signal waits, where an ignored one is lost
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
