"""The reason why a pattern was nearly recognised, but not quite."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NearMiss"]


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A pattern that a graph has except for one point, with the reason why it was not recognised.

    - `reason`: The point, as a sentence without its full stop.
    - `pattern`: What would have been made of it ("LayerNormalization").
    - `node`: Name of the node that a rewrite of the pattern starts from.
    """

    reason: str
    pattern: str = ""
    node: str = ""

    def __str__(self) -> str:
        return self.reason
