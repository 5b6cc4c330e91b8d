"""Embeddings and output of a language model that spends fewer numbers on rarer words.

Words are numbered from the most frequent one, and divided into clusters. Each cluster has a table of embeddings, which
is also the weight of its logits. With a divisor of 2 or more the tables get narrower from cluster to cluster, and each
has a projection to the width of the network; with 1 they are equally wide and share one, if they need it. The first
cluster's output has a projection of its own. The logits of the further clusters stand beside those of the first one's
words (Grave et al., ICML 2017; Baevski and Auli, ICLR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from aznas_onnx.graph.building.builder import GraphBuilder

__all__ = ["AdaptiveVocabulary"]

_CUTOFFS = (19_997, 39_997, 199_997)  # first words of the second to the fourth cluster
_INPUT, _OUTPUT = "transformer.wte", "lm_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveVocabulary:
    """The words of a network.

    - `words`: How many there are.
    - `model_width`: Width of the network.
    - `width`, `divisor`: Width of the first cluster's embeddings, and what it is divided by for each further cluster.
    """

    words: int
    model_width: int
    width: int
    divisor: int

    @property
    def params(self) -> int:
        """Parameters of embeddings and output, each table and projection once."""
        own_output = self.widths[0] if self._is_projected else 0
        clusters = len(self.widths) - 1
        return (
            self._table_elements
            + self.words
            + clusters * (self.width + 1)
            + self.model_width * (sum(self._projections) + own_output)
        )

    def macs(self, tokens: int, predictions: int) -> int:
        """Return the multiply-adds for the embeddings of so many words and the probabilities of so many."""
        further = self._projections[1:] if self.divisor > 1 else self._projections[: len(self.widths) - 1]
        outputs = (self.widths[0], *further) if self._is_projected else ()
        logits = self._table_elements + (len(self.widths) - 1) * self.width
        embeddings = tokens * self.model_width * sum(self._projections)
        return embeddings + predictions * (self.model_width * sum(outputs) + logits)

    @property
    def bounds(self) -> tuple[int, ...]:
        """First word of each cluster, and the number of words."""
        return (0, *(cutoff for cutoff in _CUTOFFS if cutoff < self.words), self.words)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each cluster's embeddings."""
        return tuple(self.width // self.divisor**cluster for cluster in range(len(self.bounds) - 1))

    @property
    def _is_projected(self) -> bool:
        return self.divisor > 1 or self.width != self.model_width

    @property
    def _projections(self) -> tuple[int, ...]:
        """Width of the embeddings of each projection: one a cluster, one for all, or none."""
        if not self._is_projected:
            return ()
        return self.widths if self.divisor > 1 else (self.width,)

    @property
    def _rows(self) -> tuple[int, ...]:
        return tuple(end - start for start, end in pairwise(self.bounds))

    @property
    def _table_elements(self) -> int:
        return sum(rows * width for rows, width in zip(self._rows, self.widths, strict=True))

    def embed(self, net: GraphBuilder, ids: str) -> str:
        """Write the embeddings of (batch, tokens): (batch, tokens, model_width), times the root of that width.

        Every cluster looks up every token, clipped to its own words, and the cluster that has the token is selected.
        """
        for cluster, width in enumerate(self._projections):
            net.weight(f"{_INPUT}.emb_projs.{cluster}", (width, self.model_width))
        *others, x = [self._look_up(net, ids, cluster) for cluster in range(len(self.widths))]
        for cluster, found in reversed(list(enumerate(others))):
            name = f"{_INPUT}.in_{cluster}"
            is_in = net.node("Less", ids, net.constant(f"{name}.end", self.bounds[cluster + 1]), name=name)
            is_in = net.node("Unsqueeze", is_in, net.constant(f"{name}.axis", [2]), name=f"{name}.by_token")
            x = net.node("Where", is_in, found, x, name=f"{_INPUT}.from_{cluster}")
        if self.divisor == 1 and self._is_projected:
            x = net.node("MatMul", x, f"{_INPUT}.emb_projs.0", name=f"{_INPUT}.projected")
        return net.node("Mul", x, net.constant(f"{_INPUT}.scale", np.float32(self.model_width**0.5)), name=_INPUT)

    def _look_up(self, net: GraphBuilder, ids: str, cluster: int) -> str:
        name, rows = f"{_INPUT}.emb_layers.{cluster}", self._rows[cluster]
        table = net.weight(f"{name}.weight", (rows, self.widths[cluster]))
        if len(self.widths) > 1:
            start, last = (
                net.constant(f"{name}.{k}", v) for k, v in (("start", self.bounds[cluster]), ("last", rows - 1))
            )
            ids = net.node("Sub", ids, start, name=f"{name}.from_start")
            ids = net.node("Min", ids, last, name=f"{name}.to_last")
            ids = net.node("Max", ids, net.constant(f"{name}.first", 0), name=f"{name}.ids")
        x = net.node("Gather", table, ids, name=name, axis=0)
        return (
            net.node("MatMul", x, f"{_INPUT}.emb_projs.{cluster}", name=f"{name}.projected") if self.divisor > 1 else x
        )

    def log_probabilities(self, net: GraphBuilder, x: str) -> str:
        """Write the log-probabilities of all words from features: (rows, model_width) to (rows, words)."""
        first = x
        if self._is_projected:
            own = net.weight(f"{_OUTPUT}.out_projs.0", (self.model_width, self.widths[0]))
            first = net.node("MatMul", x, own, name=f"{_OUTPUT}.first")
        logits = self._logits(net, first, 0)
        if len(self.widths) == 1:
            return net.node("LogSoftmax", logits, name=_OUTPUT, axis=-1)
        further = len(self.widths) - 1
        weight = net.weight(f"{_OUTPUT}.cluster_weight", (further, self.width))
        bias = net.weight(f"{_OUTPUT}.cluster_bias", (further,))
        clusters = net.node("Gemm", first, weight, bias, name=f"{_OUTPUT}.cluster_logits", transB=1)
        logits = net.node("Concat", logits, clusters, name=f"{_OUTPUT}.head_logits", axis=1)
        head = net.node("LogSoftmax", logits, name=f"{_OUTPUT}.head", axis=-1)
        parts = [net.slice(head, f"{_OUTPUT}.words_0", 0, self._rows[0], axis=1)]
        shared = self._tail(net, x, 0) if self.divisor == 1 else ""
        for cluster in range(1, len(self.widths)):
            start = self._rows[0] + cluster - 1
            of_cluster = net.slice(head, f"{_OUTPUT}.cluster_{cluster}", start, start + 1, axis=1)
            logits = self._logits(net, shared or self._tail(net, x, cluster), cluster)
            inside = net.node("LogSoftmax", logits, name=f"{_OUTPUT}.inside_{cluster}", axis=-1)
            parts.append(net.add(inside, of_cluster, f"{_OUTPUT}.words_{cluster}"))
        return net.node("Concat", *parts, name=_OUTPUT, axis=1)

    def _tail(self, net: GraphBuilder, x: str, cluster: int) -> str:
        """Write the features that the logits of a further cluster are made of."""
        if not self._is_projected:
            return x
        return net.node("Gemm", x, f"{_INPUT}.emb_projs.{cluster}", name=f"{_OUTPUT}.tail_{cluster}", transB=1)

    def _logits(self, net: GraphBuilder, x: str, cluster: int) -> str:
        name = f"{_OUTPUT}.logits_{cluster}"
        bias = net.weight(f"{_OUTPUT}.out_layers_biases.{cluster}", (self._rows[cluster],))
        return net.node("Gemm", x, f"{_INPUT}.emb_layers.{cluster}.weight", bias, name=name, transB=1)
