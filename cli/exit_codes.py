"""Exit statuses, the same for every command."""

from __future__ import annotations

__all__ = ["BAD_INPUT", "DONE", "INTERRUPTED", "REJECTED", "SOME_FAILED"]

DONE = 0
REJECTED = 1  # by the gate: the one status that means no
BAD_INPUT = 2  # bad usage or bad input: a sentence on stderr
SOME_FAILED = 3  # some inputs of many failed; the rest are reported
INTERRUPTED = 130
