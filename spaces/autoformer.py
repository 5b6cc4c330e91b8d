"""The vision transformers of AutoFormer (Chen et al., ICCV 2021), in its three sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx

from aznas_onnx.caches import cached
from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.layerwise_transformers import (
    PATCH,
    LayerwiseTransformers,
    TransformerChoices,
    VisionTransformer,
)
from aznas_onnx.spaces.vision_encoder import embed_patches, mean_of_patches

__all__ = ["AutoFormer", "AutoFormerBase", "AutoFormerSmall", "AutoFormerTiny"]

_HEAD_WIDTH = 64
_CLIP = 14  # of relative distances
_TABLE_ROWS = 2 * _CLIP + 2  # row 0 is for all pairs with the class token


class AutoFormer(LayerwiseTransformers):
    """Vision transformers with free depth and width, and free heads and MLP ratio in each layer.

    The notation is JSON: ``{"depth":12,"embed_dim":192,"num_heads":[..],"mlp_ratio":[..]}``. :meth:`sample` samples
    depth, width, and each layer's heads and ratio uniformly, as AutoFormer and AZ-NAS do. A change of :meth:`mutate` is
    one mutation of AutoFormer's evolution with its default probabilities: the depth (new layers sampled, surplus ones
    dropped) and the width are sampled again with probability 0.4 each, the heads and the ratio of every layer with 0.2
    each. A value can repeat, so a mutation can return its parent.

    :meth:`macs` counts the graph, the products with the relative position tables included
    (:meth:`relative_position_macs`). Layers are the depth. Primary blocks are the sums after every attention and every
    MLP.
    """

    columns = ("depth", "embed_dim", "num_heads", "mlp_ratio")
    width_column = "embed_dim"

    def macs(self, genotype: VisionTransformer) -> int:
        self.validate(genotype)
        width, tokens = genotype.embed_dim, self.tokens
        macs = (tokens - 1) * 3 * PATCH**2 * width + width * self.num_classes
        for inner, hidden in _layer_widths(genotype):
            macs += 4 * tokens * width * inner + 2 * tokens**2 * inner + 2 * tokens * width * hidden
        return macs + self.relative_position_macs(genotype)

    def relative_position_macs(self, genotype: VisionTransformer) -> int:
        """Return the part of :meth:`macs` that multiplies queries and attention with the relative position tables."""
        self.validate(genotype)
        return sum(2 * self.tokens**2 * inner for inner, _ in _layer_widths(genotype))

    def params(self, genotype: VisionTransformer) -> int:
        self.validate(genotype)
        width = genotype.embed_dim
        params = (3 * PATCH**2 + 1) * width + (self.tokens + 1) * width  # patches; positions and class token
        for inner, hidden in _layer_widths(genotype):
            attention = 4 * width * inner + 3 * inner + width + 4 * _TABLE_ROWS * _HEAD_WIDTH
            params += attention + 2 * width * hidden + hidden + width + 4 * width
        return params + 2 * width + (width + 1) * self.num_classes

    def paper_flops(self, genotype: VisionTransformer) -> int:
        """Return the authors' count.

        It has one token too many, terms for LayerNorm and tables, and a classifier row for every token. Half
        operations of the formula are dropped; at 224x224 there are none.
        """
        self.validate(genotype)
        width, tokens = genotype.embed_dim, self.tokens
        patches, counted = tokens - 1, tokens + 1
        twice = 2 * width + 2 * patches * 3 * PATCH**2 * width + tokens * width
        for inner, hidden in _layer_widths(genotype):
            twice += 4 * counted * width + 8 * counted * inner * width + 4 * counted**2 * inner
            twice += (4 * _CLIP + 1) * counted**2 + counted * inner + 4 * counted * width * hidden
        return (twice + 2 * tokens * width * self.num_classes) // 2

    def build(self, genotype: VisionTransformer) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: VisionTransformer) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: VisionTransformer) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name, opset=20)  # the first with Gelu
        width, tokens = genotype.embed_dim, self.tokens
        x = embed_patches(net, net.image_input(3, self.resolution), width, tokens, PATCH)
        for axis, index in zip(("v", "h"), _relative_indices(self.resolution // PATCH), strict=True):
            net.constant(f"relative_index_{axis}", index)
        for layer, (inner, hidden) in enumerate(_layer_widths(genotype)):
            x = _attention(net, x, f"blocks.{layer}", width, inner, tokens)
            net.declare_block(x)
            x = _mlp(net, x, f"blocks.{layer}", width, hidden)
            net.declare_block(x)
        x = net.layer_norm(x, "norm", width)
        output = net.gemm(mean_of_patches(net, x, tokens), "head", width, self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)


class AutoFormerTiny(AutoFormer):
    """AutoFormer's tiny space, about 5 to 10 million parameters."""

    name = "autoformer-tiny"
    choices = TransformerChoices(depth=(12, 13, 14), embed_dim=(192, 216, 240), num_heads=(3, 4), mlp_ratio=(3.5, 4.0))


class AutoFormerSmall(AutoFormer):
    """AutoFormer's small space, about 14 to 32 million parameters."""

    name = "autoformer-small"
    choices = TransformerChoices(
        depth=(12, 13, 14), embed_dim=(320, 384, 448), num_heads=(5, 6, 7), mlp_ratio=(3.0, 3.5, 4.0)
    )


class AutoFormerBase(AutoFormer):
    """AutoFormer's base space, about 42 to 73 million parameters; 8 heads are accepted, but never sampled."""

    name = "autoformer-base"
    choices = TransformerChoices(
        depth=(14, 15, 16), embed_dim=(528, 576, 624), num_heads=(9, 10), mlp_ratio=(3.0, 3.5, 4.0), accepted_heads=(8,)
    )


def _layer_widths(genotype: VisionTransformer) -> Iterator[tuple[int, int]]:
    """Yield the width of queries, keys and values, and that of the MLP, of each layer."""
    for heads, hidden in zip(genotype.num_heads, genotype.hidden_widths, strict=True):
        yield heads * _HEAD_WIDTH, hidden


def _attention(net: GraphBuilder, x: str, block: str, width: int, inner: int, tokens: int) -> str:
    """Write an attention residual with relative positions on keys and values.

    The tables meet queries and attention token by token, so that the products are batched over tokens: (tokens, batch x
    heads, 64) with (tokens, 64, tokens), and (tokens, batch x heads, tokens) with (tokens, tokens, 64).
    """
    name, heads = f"{block}.attn", inner // _HEAD_WIDTH
    y = net.layer_norm(x, f"{block}.attn_layer_norm", width)
    parts = net.split(net.linear(y, f"{name}.qkv", width, 3 * inner), f"{name}.parts", 3, inner)
    query, key, value = (net.reshape(part, f"{part}.heads", (0, tokens, heads, _HEAD_WIDTH)) for part in parts)

    scores = net.node(
        "MatMul",
        net.transpose(query, f"{name}.query", (0, 2, 1, 3)),
        net.transpose(key, f"{name}.key", (0, 2, 3, 1)),
        name=f"{name}.scores",
    )
    query = net.transpose(query, f"{name}.query_by_token", (1, 0, 2, 3))
    query = net.reshape(query, f"{name}.query_by_token.flat", (tokens, -1, _HEAD_WIDTH))
    table = net.transpose(_relative_table(net, f"{name}.rel_pos_embed_k"), f"{name}.rel_pos_embed_k.t", (0, 2, 1))
    bias = net.node("MatMul", query, table, name=f"{name}.bias_by_token")
    scores = net.add(scores, _by_head(net, bias, f"{name}.bias", heads, tokens, tokens), f"{name}.scores_with_bias")

    scale = net.constant(f"{name}.scale", np.float32(_HEAD_WIDTH**-0.5))
    scores = net.node("Mul", scores, scale, name=f"{name}.scaled")
    weights = net.node("Softmax", scores, name=f"{name}.softmax", axis=-1)
    mixed = net.node("MatMul", weights, net.transpose(value, f"{name}.value", (0, 2, 1, 3)), name=f"{name}.mixed")
    weights = net.transpose(weights, f"{name}.softmax_by_token", (2, 0, 1, 3))
    weights = net.reshape(weights, f"{name}.softmax_by_token.flat", (tokens, -1, tokens))
    table = _relative_table(net, f"{name}.rel_pos_embed_v")
    bias = net.node("MatMul", weights, table, name=f"{name}.shift_by_token")
    mixed = net.add(mixed, _by_head(net, bias, f"{name}.shift", heads, tokens, _HEAD_WIDTH), f"{name}.mixed_with_shift")

    joined = net.reshape(net.transpose(mixed, f"{name}.joined.t", (0, 2, 1, 3)), f"{name}.joined", (0, tokens, inner))
    return net.add(x, net.linear(joined, f"{name}.proj", inner, width), f"{name}.residual")


def _by_head(net: GraphBuilder, x: str, name: str, heads: int, tokens: int, width: int) -> str:
    """Bring (tokens, batch x heads, width) to (batch, heads, tokens, width)."""
    return net.reshape(net.transpose(x, f"{name}.t", (1, 0, 2)), name, (-1, heads, tokens, width))


def _relative_table(net: GraphBuilder, name: str) -> str:
    """Write the embedding of every pair of tokens: (tokens, tokens, 64), the sum of a vertical and a horizontal one."""
    parts = []
    for axis in ("v", "h"):
        table = net.weight(f"{name}.embeddings_table_{axis}", (_TABLE_ROWS, _HEAD_WIDTH))
        parts.append(net.node("Gather", table, f"relative_index_{axis}", name=f"{name}.{axis}", axis=0))
    return net.add(parts[0], parts[1], name)


def _mlp(net: GraphBuilder, x: str, block: str, width: int, hidden: int) -> str:
    y = net.layer_norm(x, f"{block}.ffn_layer_norm", width)
    y = net.node("Gelu", net.linear(y, f"{block}.fc1", width, hidden), name=f"{block}.gelu")
    return net.add(x, net.linear(y, f"{block}.fc2", hidden, width), f"{block}.residual")


@cached(8, "one table a resolution, for all layers and candidates")
def _relative_indices(grid: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the table rows for each pair of tokens, (tokens, tokens): vertical and horizontal.

    Row 1 + clip + d is for the clipped distance d from query (axis 0) to key (axis 1); row 0 for pairs with the class
    token, which is the first.
    """
    position = np.arange(grid * grid, dtype=np.int32)
    indices = []
    for coordinate in (position // grid, position % grid):
        distance = np.clip(coordinate[None, :] - coordinate[:, None], -_CLIP, _CLIP)
        indices.append(np.pad(distance + _CLIP + 1, ((1, 0), (1, 0))))
    return indices[0], indices[1]
