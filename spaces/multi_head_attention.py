"""Attention over all heads of a layer, whose queries, keys and values are as wide as the layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aznas_onnx.graph.building.builder import GraphBuilder

__all__ = ["Heads"]

_BY_HEAD = (0, 2, 1, 3)
_HIDDEN_SCORE = -1e4  # what GPT-2 writes where a token must not look


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The heads of a layer: each has an equal part of the last axis of (batch, tokens, width)."""

    count: int
    width: int
    tokens: int

    @property
    def part(self) -> int:
        """Width of one head."""
        return self.width // self.count

    @property
    def attention_macs(self) -> int:
        """Multiply-adds of :meth:`attend`."""
        return 2 * self.tokens**2 * self.width

    def divide(self, net: GraphBuilder, x: str, name: str) -> str:
        """Bring (batch, tokens, width) to (batch, heads, tokens, part)."""
        parts = net.reshape(x, f"{name}.parts", (0, self.tokens, self.count, self.part))
        return net.transpose(parts, name, _BY_HEAD)

    def join(self, net: GraphBuilder, x: str, name: str) -> str:
        """Bring (batch, heads, tokens, part) to (batch, tokens, width)."""
        return net.reshape(net.transpose(x, f"{name}.parts", _BY_HEAD), name, (0, self.tokens, self.width))

    def attend(self, net: GraphBuilder, query: str, key: str, value: str, name: str, *, mask: str = "") -> str:
        """Write softmax(query x key / root of `part`) x value, all of them (batch, tokens, width).

        - `mask`: Booleans that tell for each query (axis 0) which keys (axis 1) it can see; all of them where empty.
        """
        query, value = (self.divide(net, x, f"{name}.{part}_heads") for x, part in ((query, "query"), (value, "value")))
        key = net.reshape(key, f"{name}.key_parts", (0, self.tokens, self.count, self.part))
        key = net.transpose(key, f"{name}.key_heads", (0, 2, 3, 1))
        scale = net.constant(f"{name}.scale", np.float32(self.part**-0.5))
        scores = net.node("Mul", net.node("MatMul", query, key, name=f"{name}.scores"), scale, name=f"{name}.scaled")
        if mask:
            hidden = net.constant(f"{name}.hidden_score", np.float32(_HIDDEN_SCORE))
            scores = net.node("Where", mask, scores, hidden, name=f"{name}.masked")
        weights = net.node("Softmax", scores, name=f"{name}.softmax", axis=-1)
        return self.join(net, net.node("MatMul", weights, value, name=f"{name}.mixed"), f"{name}.joined")
