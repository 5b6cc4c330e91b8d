"""Whether a process that wrote to a study still runs."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HEARTBEAT_S", "Heartbeat"]

HEARTBEAT_S = 10.0
# A process elsewhere (another container on the same volume) counts as dead after this long without a heartbeat.
_SILENCE_S = 90.0
_AHEAD_S = 600.0  # clocks can differ by this


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
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
    def this(cls) -> Heartbeat:
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
