"""Rewrites of a graph into canonical form."""

from __future__ import annotations

from collections.abc import Collection

from aznas_onnx.graph.facts import Facts
from aznas_onnx.graph.ir import Graph

__all__ = ["canonicalise", "decompose", "restore_normalisation"]


def decompose(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Replace fused and quantised nodes by standard ones, before shapes are known."""
    return graph, ()


def canonicalise(
    graph: Graph, facts: Facts, *, protected: Collection[str] = ()
) -> tuple[Graph, Facts, tuple[str, ...]]:
    """Bring patterns that exporters write in several ways into one form."""
    return graph, facts, ()


def restore_normalisation(
    graph: Graph, facts: Facts, *, protected: Collection[str] = ()
) -> tuple[Graph, Facts, tuple[str, ...]]:
    """Put batch normalisation back where the exporter folded it into a convolution."""
    return graph, facts, ()
