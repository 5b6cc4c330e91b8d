"""What spaces of networks on token ids share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from typing import ClassVar, TypeVar

import onnx

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import Space

__all__ = ["TokenSpace", "first_rows"]

_FEWEST_TOKENS = 8  # transforms of fewer are small matrices that could as well be weights

G = TypeVar("G", bound=Hashable)


class TokenSpace(Space[G]):
    """A space of networks whose input is token ids: int64, (batch, tokens).

    The option `resolution` is the number of tokens.
    """

    default_resolution = 128

    trained_tokens: ClassVar[int]
    """Tokens of the authors' networks, which have a position for each."""

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if self.resolution < _FEWEST_TOKENS:
            raise SettingsError(
                f"space {self.name!r}: resolution, the number of tokens, is {self.resolution}; "
                f"at least {_FEWEST_TOKENS} are needed"
            )

    @property
    def positions(self) -> int:
        """Rows of the table of positions, all of which are parameters: as in the authors' networks, or more if read."""
        return max(self.trained_tokens, self.resolution)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.resolution,)

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Number of token ids."""

    def build(self, genotype: G) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: G) -> Graph:
        return self._draw(genotype).graph()

    @abstractmethod
    def _draw(self, genotype: G) -> BuiltNetwork:
        """Build the network of a genotype."""


def first_rows(net: GraphBuilder, name: str, shape: tuple[int, int], rows: int) -> str:
    """Write a table of weights of which the network reads the first rows: (rows, width)."""
    table = net.weight(f"{name}.weight", shape)
    return table if rows == shape[0] else net.slice(table, name, 0, rows, axis=0)
