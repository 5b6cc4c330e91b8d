"""The decoder-only language models of LiteTransformerSearch (Javaheripi et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph.building.builder import GraphBuilder
from aznas_onnx.graph.building.built_network import BuiltNetwork
from aznas_onnx.spaces.adaptive_vocabulary import AdaptiveVocabulary
from aznas_onnx.spaces.base import GenotypeError, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.spaces.json_rows import number, numbers, read_row, write_row
from aznas_onnx.spaces.multi_head_attention import Heads
from aznas_onnx.spaces.token_spaces import TokenSpace, first_rows

__all__ = ["Decoder", "GptSpace"]

_LAST, _ALL = "last", "all"
_LAYERS = tuple(range(2, 17))
_WIDTHS = (64, 128, 256, 512)
_HEADS = (2, 4, 8)
_EMBEDDINGS = (128, 256, 512)
_DIVISORS = (1, 2, 4)
_HIDDEN = (512, 2048)
_LEAST_EXPANSION = 1.7  # of the feed-forward layer, of those that are sampled
_PROBABILITY = 0.3  # that a mutation samples a gene again
_MOST = 2**16  # of any number in a genotype
_MOST_LAYERS = 256
_EXAMPLE = '{"n_layer":2,"d_model":64,"n_head":[2,8],"d_inner":[1779,1520],"d_embed":128,"div_val":1}'

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A genotype: widths of the network and of its embeddings, heads and feed-forward width of each layer.

    - `d_embed`, `div_val`: Width of the embeddings of frequent words, and what it is divided by for each further
      cluster of words.
    """

    d_model: int
    d_embed: int
    div_val: int
    n_head: tuple[int, ...]
    d_inner: tuple[int, ...]

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return len(self.n_head)


class GptSpace(TokenSpace[Decoder]):
    """GPT-2 with free depth and width, free heads and feed-forward width in each layer, and adaptive embeddings.

    The notation is JSON: ``{"n_layer":2,"d_model":64,"n_head":[2,8],"d_inner":[1779,1520],"d_embed":128,"div_val":1}``.
    The networks take ids of tokens and give log-probabilities of the next one.

    :meth:`sample` samples everything uniformly within the limits of the authors' random networks: 2 to 16 layers,
    widths of 64 to 512, 2, 4 or 8 heads, feed-forward layers of 512 (at least 1.7 times the width) to 2,048,
    embeddings of 128 to 512 divided by 1, 2 or 4. Other sizes are accepted, such as those of OpenAI's GPT-2. A change
    of :meth:`mutate` samples each number again with probability 0.3, as the authors' search does.

    Layers are the depth. Primary blocks are the sums after every attention and every feed-forward layer.

    Parameters
    ----------
    resolution
        Number of tokens: 128 where None.
    num_classes
        Number of words of the vocabulary: 50,264 where None.
    predictions
        ``"last"`` for the probabilities after the last token, shaped (batch, words), as in the authors' own ONNX files;
        ``"all"`` for those after every token, to train on: (batch, tokens, words).
    """

    name = "gpt"
    columns = ("n_layer", "d_model", "n_head", "d_inner", "d_embed", "div_val")
    output_meaning = "log-probabilities of the next word"
    default_num_classes = 50_264  # GPT-2's, to a multiple of 8
    trained_tokens = 192

    def __init__(
        self, *, resolution: int | None = None, num_classes: int | None = None, predictions: str = _LAST
    ) -> None:
        super().__init__(resolution=resolution, num_classes=num_classes)
        if predictions not in (_LAST, _ALL):
            raise SettingsError(f"space 'gpt': predictions is {predictions!r}; {_LAST} and {_ALL} are accepted")
        self.predictions = predictions

    @property
    def vocabulary(self) -> int:
        return self.num_classes

    def sample(self, rng: np.random.Generator) -> Decoder:
        layers, width = choose(_LAYERS, rng), choose(_WIDTHS, rng)
        return Decoder(
            d_model=width,
            d_embed=choose(_EMBEDDINGS, rng),
            div_val=choose(_DIVISORS, rng),
            n_head=tuple(choose(_HEADS, rng) for _ in range(layers)),
            d_inner=tuple(_hidden(width, rng) for _ in range(layers)),
        )

    def mutate(self, genotype: Decoder, rng: np.random.Generator, changes: int = 1) -> Decoder:
        self.validate(genotype)
        for _ in range(changes):
            layers = _again(genotype.n_layer, choose(_LAYERS, rng), rng)
            width = _again(genotype.d_model, choose(_WIDTHS, rng), rng)
            missing = (None,) * (layers - genotype.n_layer)
            heads = (*genotype.n_head[:layers], *missing)
            hidden = (*(one if one >= _least_hidden(width) else None for one in genotype.d_inner[:layers]), *missing)
            genotype = Decoder(
                d_model=width,
                d_embed=_again(genotype.d_embed, choose(_EMBEDDINGS, rng), rng),
                div_val=_again(genotype.div_val, choose(_DIVISORS, rng), rng),
                n_head=tuple(_again(one, choose(_HEADS, rng), rng) for one in heads),
                d_inner=tuple(_again(one, _hidden(width, rng), rng) for one in hidden),
            )
        return genotype

    def parse(self, text: str) -> Decoder:
        row = read_row(self.name, text, self.columns, _EXAMPLE)
        genotype = Decoder(
            d_model=number(self.name, row, "d_model"),
            d_embed=number(self.name, row, "d_embed"),
            div_val=number(self.name, row, "div_val"),
            n_head=numbers(self.name, row, "n_head"),
            d_inner=numbers(self.name, row, "d_inner"),
        )
        if row["n_layer"] != genotype.n_layer:
            raise GenotypeError(
                f"{self.name}: n_layer is {quote(str(row['n_layer']))}, but n_head has {genotype.n_layer} entries"
            )
        self.validate(genotype)
        return genotype

    def format(self, genotype: Decoder) -> str:
        self.validate(genotype)
        return write_row({column: getattr(genotype, column) for column in self.columns})

    def validate(self, genotype: object) -> None:
        if not isinstance(genotype, Decoder):
            found = type(genotype).__name__
            raise GenotypeError(f"a genotype of {self.name} is a Decoder, not {found}; parse() reads its notation")
        if not 1 <= genotype.n_layer == len(genotype.d_inner) <= _MOST_LAYERS:
            raise GenotypeError(
                f"{self.name}: n_head has {genotype.n_layer} entries and d_inner {len(genotype.d_inner)}; "
                f"both have one a layer, of which there are 1 to {_MOST_LAYERS}"
            )
        for field in ("d_model", "d_embed", "div_val", "n_head", "d_inner"):
            self._check(field, getattr(genotype, field))
        for heads in genotype.n_head:
            if genotype.d_model % heads:
                raise GenotypeError(
                    f"{self.name}: n_head holds {heads}, which does not divide d_model, {genotype.d_model}"
                )
        if not self._words(genotype).widths[-1]:
            raise GenotypeError(
                f"{self.name}: d_embed is {genotype.d_embed} and div_val {genotype.div_val}, "
                "so that nothing is left for the last cluster of words"
            )

    def _check(self, field: str, values: object) -> None:
        for value in values if isinstance(values, tuple) else (values,):
            if type(value) is not int or not 1 <= value <= _MOST:
                raise GenotypeError(
                    f"{self.name}: {field} holds {quote(str(value))}; whole numbers from 1 to {_MOST:,} are accepted"
                )

    def macs(self, genotype: Decoder) -> int:
        self.validate(genotype)
        width, tokens = genotype.d_model, self.resolution
        attention = genotype.n_layer * (4 * tokens * width**2 + 2 * tokens**2 * width)
        words = self._words(genotype).macs(tokens, tokens if self.predictions == _ALL else 1)
        return attention + 2 * tokens * width * sum(genotype.d_inner) + words

    def params(self, genotype: Decoder) -> int:
        words = self._words(genotype).params
        return self.nonembedding_params(genotype) + words + self.positions * genotype.d_model

    def nonembedding_params(self, genotype: Decoder) -> int:
        """Return the part of :meth:`params` that is in the layers and the last normalisation."""
        self.validate(genotype)
        width = genotype.d_model
        attention = genotype.n_layer * (4 * width**2 + 4 * width)
        forward = sum(2 * width * hidden + hidden + width for hidden in genotype.d_inner)
        return attention + forward + (2 * genotype.n_layer + 1) * 2 * width

    def layers(self, genotype: Decoder) -> int:
        self.validate(genotype)
        return genotype.n_layer

    def _words(self, genotype: Decoder) -> AdaptiveVocabulary:
        return AdaptiveVocabulary(
            words=self.vocabulary,
            model_width=genotype.d_model,
            width=genotype.d_embed,
            divisor=genotype.div_val,
        )

    def _draw(self, genotype: Decoder) -> BuiltNetwork:
        self.validate(genotype)
        net = GraphBuilder(self.name, opset=20)  # the first with Gelu
        net.declare_transformer()
        width, tokens, words = genotype.d_model, self.resolution, self._words(genotype)
        x = words.embed(net, net.token_input(tokens))
        positions = first_rows(net, "transformer.wpe", (self.positions, width), tokens)
        x = net.add(x, positions, "transformer.embedding")
        mask = net.constant("transformer.earlier", np.tri(tokens, dtype=np.bool_))
        for layer, (heads, hidden) in enumerate(zip(genotype.n_head, genotype.d_inner, strict=True)):
            name = f"transformer.h.{layer}"
            x = _attention(net, x, name, Heads(count=heads, width=width, tokens=tokens), mask)
            net.declare_block(x)
            x = _feed_forward(net, x, name, width, hidden)
            net.declare_block(x)
        if self.predictions == _LAST:
            last = net.constant("transformer.last", tokens - 1)
            x = net.node("Gather", x, last, name="transformer.last_token", axis=1)
        x = net.layer_norm(x, "transformer.ln_f", width)
        sizes: tuple[int, ...] = (self.num_classes,)
        if self.predictions == _ALL:
            sizes = (tokens, *sizes)
            x = net.reshape(x, "transformer.rows", (-1, width))
        output = words.log_probabilities(net, x)
        if self.predictions == _ALL:
            output = net.reshape(output, "log_probabilities", (-1, *sizes))
        metadata = {"aznas.space": self.name, "aznas.genotype": self.format(genotype)}
        return net.finish(output, num_outputs=sizes, metadata=metadata)


def _least_hidden(width: int) -> int:
    return max(_HIDDEN[0], int(_LEAST_EXPANSION * width))


def _hidden(width: int, rng: np.random.Generator) -> int:
    """Sample the width of a feed-forward layer."""
    return int(rng.integers(_least_hidden(width), _HIDDEN[1] + 1))


def _again(value: T | None, other: T, rng: np.random.Generator) -> T:
    """Return `other` with some probability, and where there is no value yet."""
    return other if value is None or rng.random() < _PROBABILITY else value


def _attention(net: GraphBuilder, x: str, block: str, heads: Heads, mask: str) -> str:
    name, width = f"{block}.attn", heads.width
    y = net.linear(net.layer_norm(x, f"{block}.ln_1", width), f"{name}.c_attn", width, 3 * width)
    query, key, value = net.split(y, f"{name}.parts", 3, width)
    y = heads.attend(net, query, key, value, name, mask=mask)
    return net.add(x, net.linear(y, f"{name}.c_proj", width, width), f"{name}.residual")


def _feed_forward(net: GraphBuilder, x: str, block: str, width: int, hidden: int) -> str:
    name = f"{block}.mlp"
    y = net.linear(net.layer_norm(x, f"{block}.ln_2", width), f"{name}.c_fc", width, hidden)
    y = net.node("Gelu", y, name=f"{name}.act", approximate="tanh")
    return net.add(x, net.linear(y, f"{name}.c_proj", hidden, width), f"{name}.residual")
