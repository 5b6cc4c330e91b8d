"""Pointers of Git LFS: short texts that lie in place of large files until these are fetched."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["FETCH_IT", "is_pointer_file", "pointed_object"]

FETCH_IT = "fetch the file with `git lfs pull` (GitHub: `lfs: true` of actions/checkout)"
"""What a user can do about a pointer."""

_BEGINNING = b"version https://git-lfs.github.com/spec/"
_MOST_BYTES = 1024
_OBJECT = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)


def pointed_object(content: bytes) -> str | None:
    """Return the SHA-256 of the file that a pointer stands for, empty where it has none; None for all other content.

    Examples
    --------
    >>> pointed_object(b"version https://git-lfs.github.com/spec/v1\\noid sha256:" + b"a" * 64 + b"\\nsize 9\\n")[:4]
    'aaaa'
    >>> pointed_object(b"no pointer") is None
    True
    """
    if len(content) > _MOST_BYTES or not content.startswith(_BEGINNING):
        return None
    found = _OBJECT.search(content)
    return "" if found is None else found.group(1).decode("ascii")


def is_pointer_file(path: Path) -> bool:
    """Whether a file holds a pointer; raise OSError if it cannot be read."""
    return path.stat().st_size <= _MOST_BYTES and pointed_object(path.read_bytes()) is not None
