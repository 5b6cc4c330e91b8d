"""FlexiBERT's text encoders (Tuli et al., JAIR 2023), in the notation of NAS-Bench-BERT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.base import GenotypeError, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.json_rows import number, read_row, write_row
from aznas_onnx.spaces.multi_head_attention import Heads
from aznas_onnx.spaces.token_mixing import TokenMixing
from aznas_onnx.spaces.token_spaces import TokenSpace, first_rows

__all__ = ["BertEncoder", "BertLayer", "BertSpace"]

_NAMED, _TRAINED = "named", "trained"
_EPSILON = 1e-12  # of LayerNorm
_EMBEDDING = 128
_TOKEN_TYPES = 2
_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "hidden_size": (128, 256),
    "encoder_layers": (2, 4),
    "mixing": tuple(TokenMixing),
    "num_operation_heads": (2, 4),
    "feed_forward_dimension": (512, 1024),
    "num_feed_forward": (1, 3),
}
_SIZES = ("num_operation_heads", "feed_forward_dimension", "num_feed_forward")  # of a layer
_LAYER_GENES = ("mixing", *_SIZES)
_KEYS = ("operation_type", "operation_parameter", *_SIZES)  # of a layer in the notation
_LAYER = (
    '{"operation_type":"SA","operation_parameter":"SDP","num_operation_heads":2,'
    '"feed_forward_dimension":512,"num_feed_forward":1}'
)
_EXAMPLE = f'{{"hidden_size":128,"encoder_layers":[{_LAYER},...]}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class BertLayer:
    """A layer of a genotype: how it mixes tokens, in how many heads, and its feed-forward layers but the last."""

    mixing: TokenMixing
    num_operation_heads: int
    feed_forward_dimension: int
    num_feed_forward: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BertEncoder:
    """A genotype: the width of all layers, and the layers."""

    hidden_size: int
    layers: tuple[BertLayer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A layer as it is built: a residual that mixes tokens and one of feed-forward layers, normalised after the sum."""

    mixing: TokenMixing
    heads: Heads
    between: tuple[int, ...]  # widths between the feed-forward layers

    @property
    def params(self) -> int:
        width = self.heads.width
        projection, norms = width**2 + width, 4 * width
        forward = sum((before + 1) * after for before, after in self._forward)
        return self.mixing.mixer.params(self.heads) + projection + forward + norms

    @property
    def macs(self) -> int:
        per_token = self.heads.width**2 + sum(before * after for before, after in self._forward)
        return self.mixing.mixer.macs(self.heads) + self.heads.tokens * per_token

    @property
    def constants(self) -> Mapping[str, npt.NDArray[Any]]:
        """Tensors besides weights, by names that all layers share."""
        return self.mixing.mixer.constants(self.heads)

    @property
    def _forward(self) -> tuple[tuple[int, int], ...]:
        """Input and output width of each feed-forward layer."""
        return tuple(pairwise((self.heads.width, *self.between, self.heads.width)))

    def write(self, net: GraphBuilder, x: str, name: str) -> str:
        width = self.heads.width
        y = self.mixing.mixer.write(net, x, f"{name}.attention.self", self.heads)
        y = net.linear(y, f"{name}.attention.output.dense", width, width)
        x = _sum(net, x, y, f"{name}.attention.output", width)
        net.declare_block(x)
        y = x
        *inside, (last, _) = self._forward
        for index, (before, after) in enumerate(inside):
            y = net.linear(y, f"{name}.intermediate.{index}", before, after)
            y = net.node("Gelu", y, name=f"{name}.intermediate.{index}.gelu")
        x = _sum(net, x, net.linear(y, f"{name}.output.dense", last, width), f"{name}.output", width)
        net.declare_block(x)
        return x


class BertSpace(TokenSpace[BertEncoder]):
    """Encoders of 2 or 4 layers, 128 or 256 wide, each of which mixes tokens by one of six operations.

    The notation is JSON: ``{"hidden_size":128,"encoder_layers":[{"operation_type":"SA","operation_parameter":"SDP",
    "num_operation_heads":2,"feed_forward_dimension":512,"num_feed_forward":1},...]}``. Operations are self-attention by
    dot products (SA, SDP) or weighted ones (SA, WMA), a linear transform (LT, DFT or DCT), and dynamic-span convolution
    with a kernel of 5 or 9 tokens (DSC). The networks take ids of tokens, `resolution` of them, and classify the first.

    :meth:`sample` samples everything uniformly. A change of :meth:`mutate` gives one gene another value: the width, the
    number of layers (new ones are sampled, the last are dropped), or the operation, heads, feed-forward width or
    number of feed-forward layers of one layer.

    Layers are the depth. Primary blocks are the normalised sums after every operation and all feed-forward layers.

    Parameters
    ----------
    resolution
        Number of tokens: 128 where None.
    num_classes
        2 where None.
    networks
        ``"named"`` for the operations that a genotype names. ``"trained"`` for the networks that NAS-Bench-BERT's
        scores were measured with: every operation is self-attention by dot products, and the first feed-forward layer
        is four times as wide as the network. The published training code compares the names of operations, which it
        reads from JSON, by identity, so that none of them applies; and it takes the first width from the defaults.
    """

    name = "bert"
    columns = ("hidden_size", "encoder_layers")
    default_num_classes = 2
    trained_tokens = 512

    def __init__(
        self, *, resolution: int | None = None, num_classes: int | None = None, networks: str = _NAMED
    ) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if networks not in (_NAMED, _TRAINED):
            raise SettingsError(f"space {self.name!r}: networks is {networks!r}; {_NAMED} and {_TRAINED} are accepted")
        self.networks = networks

    @property
    def vocabulary(self) -> int:
        return 30_522

    def sample(self, rng: np.random.Generator) -> BertEncoder:
        width, depth = choose(_CHOICES["hidden_size"], rng), choose(_CHOICES["encoder_layers"], rng)
        return BertEncoder(hidden_size=width, layers=tuple(_sample_layer(rng) for _ in range(depth)))

    def mutate(self, genotype: BertEncoder, rng: np.random.Generator, changes: int = 1) -> BertEncoder:
        self.validate(genotype)
        for _ in range(changes):
            gene = int(rng.integers(2 + len(_LAYER_GENES) * len(genotype.layers)))
            if gene == 0:
                genotype = replace(genotype, hidden_size=_other("hidden_size", genotype.hidden_size, rng))
            elif gene == 1:
                depth = _other("encoder_layers", len(genotype.layers), rng)
                new = (_sample_layer(rng) for _ in range(depth - len(genotype.layers)))
                genotype = replace(genotype, layers=(*genotype.layers[:depth], *new))
            else:
                index, place = divmod(gene - 2, len(_LAYER_GENES))
                layer, key = genotype.layers[index], _LAYER_GENES[place]
                layer = replace(layer, **{key: _other(key, getattr(layer, key), rng)})
                genotype = replace(genotype, layers=(*genotype.layers[:index], layer, *genotype.layers[index + 1 :]))
        return genotype

    def parse(self, text: str) -> BertEncoder:
        row = read_row(self.name, text, self.columns, _EXAMPLE)
        layers = row["encoder_layers"]
        if not isinstance(layers, list):
            raise GenotypeError(f"{self.name}: encoder_layers is {quote(str(layers))}; a list of layers is needed")
        genotype = BertEncoder(
            hidden_size=number(self.name, row, "hidden_size"),
            layers=tuple(_read_layer(self.name, layer) for layer in layers),
        )
        self.validate(genotype)
        return genotype

    def format(self, genotype: BertEncoder) -> str:
        self.validate(genotype)
        layers = [
            dict(zip(_KEYS, (*layer.mixing.value, *(getattr(layer, size) for size in _SIZES)), strict=True))
            for layer in genotype.layers
        ]
        return write_row({"hidden_size": genotype.hidden_size, "encoder_layers": layers})

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, BertEncoder):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of {self.name} is a BertEncoder, not {found}; parse() reads its notation")
        self._check("hidden_size", genotype.hidden_size, "is")
        self._check("encoder_layers", len(genotype.layers), "has a length of")
        for layer in genotype.layers:
            for gene in _LAYER_GENES:
                self._check(gene, getattr(layer, gene), "is")

    def _check(self, gene: str, value: object, verb: str) -> None:
        if value not in _CHOICES[gene] or isinstance(value, bool | float):
            accepted = ", ".join(map(str, _CHOICES[gene]))
            raise GenotypeError(f"{self.name}: {gene} {verb} {quote(str(value))}; accepted are {accepted}")

    def macs(self, genotype: BertEncoder) -> int:
        blocks = self._blocks(genotype)
        width = genotype.hidden_size
        widened = self.resolution * _EMBEDDING * width if width != _EMBEDDING else 0
        return widened + sum(block.macs for block in blocks) + width * self.num_classes

    def params(self, genotype: BertEncoder) -> int:
        blocks = self._blocks(genotype)
        width = genotype.hidden_size
        rows = self.vocabulary + self.positions + _TOKEN_TYPES
        widened = (_EMBEDDING + 1) * width if width != _EMBEDDING else 0
        embedding = (rows + 2) * _EMBEDDING + widened
        return embedding + sum(block.params for block in blocks) + (width + 1) * self.num_classes

    def layers(self, genotype: BertEncoder) -> int:
        self.validate(genotype)
        return len(genotype.layers)

    def canonical(self, genotype: BertEncoder) -> str:
        """Return the genotype; of trained networks, with what has no effect on them set to the first choice."""
        self.validate(genotype)
        if self.networks == _TRAINED:
            genotype = replace(genotype, layers=tuple(map(_as_trained, genotype.layers)))
        return self.format(genotype)

    def _blocks(self, genotype: BertEncoder) -> tuple[_Block, ...]:
        """Return the layers to build."""
        self.validate(genotype)
        return tuple(self._block(layer, genotype.hidden_size) for layer in genotype.layers)

    def _block(self, layer: BertLayer, width: int) -> _Block:
        between = (layer.feed_forward_dimension,) * layer.num_feed_forward
        if self.networks == _TRAINED:
            layer, between = _as_trained(layer), (4 * width, *between[1:])
        heads = Heads(count=layer.num_operation_heads, width=width, tokens=self.resolution)
        return _Block(mixing=layer.mixing, heads=heads, between=between)

    def _draw(self, genotype: BertEncoder) -> BuiltNetwork:
        blocks = self._blocks(genotype)
        width = genotype.hidden_size
        net = GraphBuilder(self.name, opset=20)  # the first with Gelu
        net.declare_transformer()
        constants = {name: value for block in blocks for name, value in block.constants.items()}
        for name, value in constants.items():
            net.constant(name, value)
        x = self._embed(net, width)
        for index, block in enumerate(blocks):
            x = block.write(net, x, f"encoder.layer.{index}")
        x = net.node("Gather", x, net.constant("first", 0), name="first_token", axis=1)
        output = net.gemm(x, "classifier", width, self.num_classes)
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=self.num_classes, metadata=metadata)

    def _embed(self, net: GraphBuilder, width: int) -> str:
        """Write the normalised sum of words, types (all tokens have the first) and positions, as wide as the layers."""
        name = "embeddings"
        ids, table = net.token_input(self.resolution), (self.vocabulary, _EMBEDDING)
        words = net.weight(f"{name}.word_embeddings.weight", table)
        x = net.node("Gather", words, ids, name=f"{name}.word_embeddings", axis=0)
        types = net.weight(f"{name}.token_type_embeddings.weight", (_TOKEN_TYPES, _EMBEDDING))
        first = net.constant(f"{name}.token_type_ids", np.zeros(self.resolution, dtype=np.int64))
        types = net.node("Gather", types, first, name=f"{name}.token_type_embeddings", axis=0)
        x = net.add(x, types, f"{name}.with_types")
        positions = (self.positions, _EMBEDDING)
        x = net.add(x, first_rows(net, f"{name}.position_embeddings", positions, self.resolution), name)
        x = net.layer_norm(x, f"{name}.LayerNorm", _EMBEDDING, epsilon=_EPSILON)
        return x if width == _EMBEDDING else net.linear(x, "embeddings_project", _EMBEDDING, width)


def _as_trained(layer: BertLayer) -> BertLayer:
    """Return the first of all layers that became the same one when they were trained."""
    used = layer.num_feed_forward > 1
    width = layer.feed_forward_dimension if used else _CHOICES["feed_forward_dimension"][0]
    return replace(layer, mixing=TokenMixing.DOT_PRODUCT, feed_forward_dimension=width)


def _sample_layer(rng: np.random.Generator) -> BertLayer:
    return BertLayer(**{gene: choose(_CHOICES[gene], rng) for gene in _LAYER_GENES})


def _other(gene: str, value: object, rng: np.random.Generator) -> Any:
    """Sample another value."""
    return choose([other for other in _CHOICES[gene] if other != value], rng)


def _read_layer(space: str, layer: object) -> BertLayer:
    if not isinstance(layer, dict) or set(layer) != set(_KEYS):
        raise GenotypeError(f"{space}: a layer is {quote(str(layer))}; one such as {_LAYER} is needed")
    try:
        mixing = TokenMixing((layer["operation_type"], layer["operation_parameter"]))
    except ValueError as error:
        accepted = ", ".join(f"{kind} {parameter}" for kind, parameter in (one.value for one in TokenMixing))
        found = f"{layer['operation_type']} {layer['operation_parameter']}"
        raise GenotypeError(f"{space}: an operation is {quote(found)}; accepted are {accepted}") from error
    return BertLayer(mixing=mixing, **{size: layer[size] for size in _SIZES})


def _sum(net: GraphBuilder, x: str, y: str, name: str, width: int) -> str:
    """Write the normalised sum."""
    return net.layer_norm(net.add(x, y, f"{name}.sum"), f"{name}.LayerNorm", width, epsilon=_EPSILON)
