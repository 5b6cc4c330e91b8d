"""The AutoFormer subnets of ViT-Bench-101 (Wei et al., AAAI 2024), which have no relative positions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from aznas_onnx.graph import Graph
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.layerwise_transformers import (
    PATCH,
    LayerwiseTransformers,
    TransformerChoices,
    VisionTransformer,
)
from aznas_onnx.spaces.vision_encoder import EPSILON, EncoderLayer, embed_patches, mean_of_patches

__all__ = ["PlainAutoFormer"]


class PlainAutoFormer(LayerwiseTransformers):
    """The AutoFormer subnets of ViT-Bench-101: depth, width, and each layer's heads and MLP ratio.

    The notation is JSON: ``{"hidden_dim":192,"depth":12,"mlp_ratio":[..],"num_heads":[..]}``. :meth:`sample` samples
    every choice uniformly, as the benchmark does, and :meth:`mutate` mutates as AutoFormer's spaces do. The choices are
    those of AutoFormer's tiny space. The networks differ from AutoFormer's: there are no relative positions, and
    queries, keys and values are as wide as the tokens whatever the number of heads. So heads change no count.

    Layers are the depth. Primary blocks are the sums after every attention and every MLP.
    """

    name = "vit"
    default_num_classes = 100
    columns = ("hidden_dim", "depth", "mlp_ratio", "num_heads")
    width_column = "hidden_dim"
    choices = TransformerChoices(depth=(12, 13, 14), embed_dim=(192, 216, 240), num_heads=(3, 4), mlp_ratio=(3.5, 4.0))

    def macs(self, genotype: VisionTransformer) -> int:
        self.validate(genotype)
        width = genotype.embed_dim
        layers = sum(layer.macs(self.tokens) for layer in _layers(genotype))
        return (self.tokens - 1) * 3 * PATCH**2 * width + layers + width * self.num_classes

    def params(self, genotype: VisionTransformer) -> int:
        self.validate(genotype)
        width = genotype.embed_dim
        params = (3 * PATCH**2 + 1) * width + (self.tokens + 1) * width  # patches; positions and class token
        params += sum(layer.params for layer in _layers(genotype))
        return params + 2 * width + (width + 1) * self.num_classes

    def build(self, genotype: VisionTransformer) -> onnx.ModelProto:
        return self._draw(genotype).model()

    def source(self, genotype: VisionTransformer) -> Graph:
        return self._draw(genotype).graph()

    def _draw(self, genotype: VisionTransformer) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name, opset=20)  # the first with Gelu
        width, tokens = genotype.embed_dim, self.tokens
        x = embed_patches(net, net.image_input(3, self.resolution), width, tokens, PATCH)
        for index, layer in enumerate(_layers(genotype)):
            x = layer.write(net, x, f"blocks.{index}", tokens)
        x = net.layer_norm(x, "norm", width, epsilon=EPSILON)
        output = net.gemm(mean_of_patches(net, x, tokens), "head", width, self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)


def _layers(genotype: VisionTransformer) -> Iterator[EncoderLayer]:
    for heads, hidden in zip(genotype.num_heads, genotype.hidden_widths, strict=True):
        yield EncoderLayer(width=genotype.embed_dim, heads=heads, hidden=hidden)
