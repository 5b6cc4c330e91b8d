"""What vision transformers are built from: patches, class token, and pre-normalised encoder layers."""

from __future__ import annotations

from dataclasses import dataclass

from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.spaces.multi_head_attention import Heads

__all__ = ["EncoderLayer", "EPSILON", "embed_patches", "mean_of_patches", "project_patches", "with_class_token"]

EPSILON = 1e-6  # of LayerNorm, as in timm


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLayer:
    """A residual of multi-head attention, then one of an MLP with GELU; each normalises its input first.

    Queries, keys and values together are as wide as the tokens, so that the number of heads changes no count.
    """

    width: int
    heads: int
    hidden: int

    @property
    def params(self) -> int:
        attention = 4 * self.width**2 + 4 * self.width
        mlp = 2 * self.width * self.hidden + self.hidden + self.width
        return attention + mlp + 4 * self.width

    def macs(self, tokens: int) -> int:
        return tokens * (4 * self.width**2 + 2 * self.width * self.hidden) + 2 * tokens**2 * self.width

    def write(self, net: GraphBuilder, x: str, name: str, tokens: int) -> str:
        """Write the layer on (batch, tokens, width), and declare both sums as blocks."""
        x = net.add(x, self._attention(net, x, name, tokens), f"{name}.attn.residual")
        net.declare_block(x)
        x = net.add(x, self._mlp(net, x, name), f"{name}.mlp.residual")
        net.declare_block(x)
        return x

    def _attention(self, net: GraphBuilder, x: str, block: str, tokens: int) -> str:
        name = f"{block}.attn"
        y = net.layer_norm(x, f"{block}.norm1", self.width, epsilon=EPSILON)
        y = net.linear(y, f"{name}.qkv", self.width, 3 * self.width)
        query, key, value = net.split(y, f"{name}.parts", 3, self.width)
        mixed = Heads(count=self.heads, width=self.width, tokens=tokens).attend(net, query, key, value, name)
        return net.linear(mixed, f"{name}.proj", self.width, self.width)

    def _mlp(self, net: GraphBuilder, x: str, block: str) -> str:
        y = net.layer_norm(x, f"{block}.norm2", self.width, epsilon=EPSILON)
        y = net.node("Gelu", net.linear(y, f"{block}.mlp.fc1", self.width, self.hidden), name=f"{block}.mlp.gelu")
        return net.linear(y, f"{block}.mlp.fc2", self.hidden, self.width)


def project_patches(net: GraphBuilder, image: str, name: str, width: int, patch: int, stride: int) -> str:
    """Write a linear map of each patch as a convolution with bias: (batch, width, rows, columns)."""
    weight, bias = net.weight(f"{name}.weight", (width, 3, patch, patch)), net.weight(f"{name}.bias", (width,))
    sizes = {"kernel_shape": (patch, patch), "strides": (stride, stride)}
    return net.node("Conv", image, weight, bias, name=name, **sizes)


def with_class_token(net: GraphBuilder, x: str, width: int) -> str:
    """Write the class token before the patches: (batch, 1 + patches, width)."""
    batch = net.node("Shape", x, name="batch", start=0, end=1)
    shape = net.node("Concat", batch, net.constant("cls_token.tail", [1, width]), name="cls_token.shape", axis=0)
    token = net.node("Expand", net.weight("cls_token", (1, 1, width)), shape, name="cls_token.expand")
    return net.node("Concat", token, x, name="tokens", axis=1)


def embed_patches(net: GraphBuilder, image: str, width: int, tokens: int, patch: int) -> str:
    """Write patches, class token and absolute positions: (batch, tokens, width)."""
    x = project_patches(net, image, "patch_embed", width, patch, patch)
    x = net.reshape(x, "patch_embed.flatten", (0, width, tokens - 1))
    x = net.transpose(x, "patch_embed.tokens", (0, 2, 1))
    return net.add(with_class_token(net, x, width), net.weight("pos_embed", (1, tokens, width)), "embedding")


def mean_of_patches(net: GraphBuilder, x: str, tokens: int) -> str:
    """Write the mean of all tokens but the class token: (batch, width)."""
    axis, end = net.constant("pool.axis", [1]), net.constant("pool.end", [tokens])
    patches = net.node("Slice", x, axis, end, axis, name="pool.patches")  # from token 1 on axis 1
    return net.node("ReduceMean", patches, axis, name="pool", keepdims=0)
