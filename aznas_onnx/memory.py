"""Available memory, and a refusal before the kernel kills the process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from aznas_onnx.errors import SettingsError

__all__ = ["available_bytes", "check_memory", "in_words"]

_NO_LIMIT = 2**60  # version 1 of control groups writes a number near 2**63 for no limit


def check_memory(needed_bytes: int, what: str, remedy: str) -> None:
    """Raise if more memory is needed than available.

    - `needed_bytes`: An estimate, in addition to the memory of the process.
    - `what`: The purpose, as the beginning of a sentence: ``scoring it at batch size 64``.
    - `remedy`: The remedy, in words.

    Raises SettingsError if less is available. Where the available memory is unknown, nothing is raised.
    """
    there_is = available_bytes()
    if there_is is not None and needed_bytes > there_is:
        raise SettingsError(
            f"{what} takes about {in_words(needed_bytes)} of memory, and {in_words(there_is)} are available; {remedy}"
        )


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that this process can still allocate: of the machine, its control groups, and its own limits.

    - `root`: Root of the system's files.

    Returns: None where it is unknown (other systems than Linux).
    """
    if not sys.platform.startswith("linux"):
        return None
    rooms = [_of_machine(root), *_of_groups(root), *_of_process(root)]
    known = [room for room in rooms if room is not None]
    return max(0, min(known)) if known else None


def in_words(size_bytes: float) -> str:
    """Return a size as people write it: ``1.4 GB``."""
    for unit, name in ((10**12, "TB"), (10**9, "GB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes / 10**6:,.0f} MB"


def _of_machine(root: Path) -> int | None:
    available = _field(root / "proc/meminfo", "MemAvailable:")
    return None if available is None else available * 1024


def _of_groups(root: Path) -> Iterator[int | None]:
    """Yield the free memory of each control group of this process and of its parents."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            base, most, used, idle = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            most, used, idle = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        inside = base / path.lstrip("/")
        # In a container the path can be that of the host, while the mount is the container's own group.
        groups = [folder for folder in (inside, *inside.parents) if folder.is_relative_to(base)]
        for folder in groups or [base]:
            yield _of_group(folder, most, used, idle)


def _of_group(folder: Path, most: str, used: str, idle: str) -> int | None:
    limit, usage = _number(folder / most), _number(folder / used)
    if limit is None or usage is None or limit >= _NO_LIMIT:
        return None
    return limit - usage + (_field(folder / "memory.stat", idle) or 0)  # the kernel drops cached files


def _of_process(root: Path) -> Iterator[int]:
    """Yield the free memory under the limits of this process."""
    with contextlib.suppress(ImportError, OSError):
        import resource

        for kind, label in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
            limit = resource.getrlimit(kind)[0]
            used = _field(root / "proc/self/status", label)
            if limit != resource.RLIM_INFINITY and used is not None:
                yield limit - used * 1024


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").splitlines()
    return []


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)[:1]).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _field(path: Path, label: str) -> int | None:
    """Return the number behind a label in a file of the kernel."""
    found = (line.split() for line in _lines(path))
    return next((int(words[1]) for words in found if len(words) > 1 and words[0] == label and words[1].isdigit()), None)
