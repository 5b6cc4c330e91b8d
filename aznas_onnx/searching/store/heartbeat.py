"""Heartbeats: whether a process that wrote to a study still runs."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Heartbeat", "WriterProcess"]

_HEARTBEAT_S = 10.0
# A process elsewhere (another container on the same volume) counts as dead after this long without a heartbeat.
_SILENCE_S = 90.0
_AHEAD_S = 600.0  # clocks can differ by this


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterProcess:
    """A process that adds to a study.

    - `host`: Host name.
    - `process`: Its process id and, where available, its start time, which distinguishes it from a new process with the
      same id.
    - `seen`: Seconds since the epoch at its last heartbeat.
    """

    host: str
    process: str
    seen: float

    @classmethod
    def this(cls) -> WriterProcess:
        """Return the running process."""
        return cls(host=socket.gethostname(), process=_identity(os.getpid()) or str(os.getpid()), seen=time.time())

    @property
    def is_ahead(self) -> bool:
        """Whether it runs elsewhere by a clock so far ahead of this one that its silence would never be noticed."""
        return self.host != socket.gethostname() and self.seen - time.time() > _AHEAD_S

    def is_alive(self) -> bool:
        """Whether the process can still be running."""
        if self.host == socket.gethostname() and os.name == "posix":
            number = self.process.partition(":")[0]
            return number.isdecimal() and len(number) < 12 and _identity(int(number)) == self.process
        return time.time() - self.seen < _SILENCE_S


class Heartbeat:
    """A thread that writes to a study every ten seconds that this process runs."""

    def __init__(self, path: Path, writer: int) -> None:
        self._path = path
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="aznas-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        """Write heartbeats, on a separate connection, as SQLite requires per thread."""
        while not self._stop.wait(_HEARTBEAT_S):
            with (
                contextlib.suppress(sqlite3.Error),  # a missed beat is made up for by the next
                contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection,
            ):
                connection.execute("UPDATE writers SET seen_at = ? WHERE id = ?", (time.time(), self._writer))


def _identity(pid: int) -> str | None:
    """Return id and start time of a running process, or None where there is none (or a zombie)."""
    with contextlib.suppress(OSError):
        # pid (name, any characters) state ... ; the start time is field 22 of proc(5).
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if after_name[0] in "ZX" else f"{pid}:{after_name[19]}"
    if Path("/proc/self/stat").exists() or os.name != "posix":
        return None  # on Windows os.kill would end the process instead of testing it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return str(pid)
