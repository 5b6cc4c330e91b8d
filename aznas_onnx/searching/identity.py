"""What makes two genotypes one candidate: their text, or the network that they describe."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from aznas_onnx.spaces import Space, as_user_error

__all__ = ["CandidateIdentifier", "Identity"]

G = TypeVar("G", bound=Hashable)


class Identity(str, enum.Enum):
    """What is scored once."""

    GENOTYPE = "genotype"  # the text; also of all studies from before there was a choice
    NETWORK = "network"  # what `Space.canonical` returns

    @classmethod
    def of(cls, space: Space[Any]) -> Identity:
        """Return that of a new study: the network, where the space can tell."""
        return cls.GENOTYPE if type(space).canonical is Space.canonical else cls.NETWORK


class CandidateIdentifier(Generic[G]):
    """Returns a text that two genotypes share if and only if they are one candidate.

    - `space`: The space of the genotypes.
    - `identity`: What counts.
    """

    def __init__(self, space: Space[G], identity: Identity) -> None:
        self._space = space
        self.identity = identity

    def of(self, genotype: G, text: str) -> str:
        """Identify a genotype; `text` is its notation."""
        if self.identity is Identity.GENOTYPE:
            return text
        with as_user_error(self._space, "give a canonical text"):
            canonical = self._space.canonical(genotype)
        return text if canonical is None else canonical

    def of_text(self, text: str) -> str:
        """Identify a genotype by its notation."""
        return text if self.identity is Identity.GENOTYPE else self.of(self._space.parse(text), text)
