from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from aznas_onnx.costs import count
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import prepare
from aznas_onnx.scoring import score
from aznas_onnx.spaces import GenotypeError
from aznas_onnx.spaces.gpt import Decoder, GptSpace
from tests.spaces.torch_reference import Weights, largest_difference

TWO = '{"n_layer":2,"d_model":64,"n_head":[2,8],"d_inner":[1779,1520],"d_embed":128,"div_val":1}'

# From the published results: parameters without embeddings, and all of them.
COUNTS = [
    (
        '{"n_layer":5,"d_model":256,"n_head":[4,2,8,4,8],"d_inner":[936,1047,1713,2043,538],"d_embed":128,"div_val":2}',
        *(4_542_853, 8_900_799),
    ),
    (
        '{"n_layer":2,"d_model":128,"n_head":[4,4],"d_inner":[730,1220],"d_embed":512,"div_val":1}',
        *(634_782, 26_576_888),
    ),
    (
        '{"n_layer":2,"d_model":512,"n_head":[2,2],"d_inner":[1796,1996],"d_embed":128,"div_val":2}',
        *(5_994_192, 10_491_402),
    ),
]


def small(width: int, embedding: int, divisor: int) -> str:
    fields = {"n_layer": 2, "d_model": width, "n_head": [4, 2], "d_inner": [100, 60]}
    return json.dumps({**fields, "d_embed": embedding, "div_val": divisor}, separators=(",", ":"))


@pytest.mark.parametrize(("text", "without_embeddings", "params"), COUNTS)
def test_published_counts(text: str, without_embeddings: int, params: int) -> None:
    space = GptSpace()
    genotype = space.parse(text)
    assert space.nonembedding_params(genotype) == without_embeddings
    assert space.params(genotype) == params


def test_parameters_of_openai_s_gpt_2() -> None:
    space = GptSpace(num_classes=50_257, resolution=1024)
    fields = {"n_layer": 12, "d_model": 768, "n_head": [12] * 12, "d_inner": [3072] * 12, "d_embed": 768, "div_val": 1}
    genotype = space.parse(json.dumps(fields))
    biases_and_clusters = 50_257 + 2 * 769  # which OpenAI's output does not have
    assert space.params(genotype) - biases_and_clusters == 124_439_808


def test_multiply_adds_by_hand() -> None:
    genotype = GptSpace().parse(small(64, 32, 2))
    tokens, rows = 16, (19_997, 20_000, 10_267)
    layers = tokens * (2 * 4 * 64 * 64 + 2 * 64 * 160) + 2 * 2 * tokens * tokens * 64
    widths = (32, 16, 8)
    embeddings = tokens * 64 * sum(widths)
    output = 64 * sum(widths) + 2 * 32 + sum(row * width for row, width in zip(rows, widths, strict=True))
    assert GptSpace(resolution=16).macs(genotype) == layers + embeddings + output
    assert GptSpace(resolution=16, predictions="all").macs(genotype) == layers + embeddings + tokens * output


@pytest.mark.parametrize("predictions", ["last", "all"])
@pytest.mark.parametrize("words", [500, 20_500, 41_000])  # one, two and three clusters
@pytest.mark.parametrize(("width", "embedding", "divisor"), [(32, 32, 1), (32, 64, 1), (64, 32, 2), (32, 32, 4)])
def test_the_network_computes_what_its_definition_does(
    width: int, embedding: int, divisor: int, words: int, predictions: str
) -> None:
    space = GptSpace(resolution=12, num_classes=words, predictions=predictions)
    text = small(width, embedding, divisor)
    genotype = space.parse(text)
    ids = space.random_input(np.random.default_rng(0), 3)

    def forward(ids: torch.Tensor, weights: Weights) -> torch.Tensor:
        output = reference(ids, weights, text, words)
        return output if predictions == "all" else output[:, -1]

    model = space.build(genotype)
    assert largest_difference(model, forward, ids) < 1e-4
    costs = count(prepare(model))
    assert (space.macs(genotype), space.params(genotype)) == (costs.macs, costs.params)


def test_multiply_adds_are_those_that_torch_counts() -> None:
    space = GptSpace(resolution=12, num_classes=300, predictions="all")
    text = small(64, 128, 1)
    ids = torch.from_numpy(space.random_input(np.random.default_rng(0), 1))
    counted: list[int] = []

    def forward(ids: torch.Tensor, weights: Weights) -> torch.Tensor:
        with FlopCounterMode(display=False) as counter:
            output = reference(ids, weights, text, 300)
        counted.append(counter.get_total_flops() // 2)
        return output

    largest_difference(space.build(space.parse(text)), forward, ids.numpy())
    assert counted == [space.macs(space.parse(text))]


def test_probabilities_sum_to_one_and_no_token_sees_a_later_one() -> None:
    space = GptSpace(resolution=12, num_classes=41_000, predictions="all")
    genotype = space.parse(small(32, 64, 2))
    outputs: list[torch.Tensor] = []
    ids = space.random_input(np.random.default_rng(0), 2)
    ids[1, :7] = ids[0, :7]

    def forward(ids: torch.Tensor, weights: Weights) -> torch.Tensor:
        outputs.append(reference(ids, weights, small(32, 64, 2), 41_000))
        return outputs[-1]

    assert largest_difference(space.build(genotype), forward, ids) < 1e-4
    assert outputs[0].exp().sum(-1).allclose(torch.ones(2, 12), atol=1e-4)
    assert outputs[0][0, :7].allclose(outputs[0][1, :7], atol=1e-5)
    assert not outputs[0][0, 7:].allclose(outputs[0][1, 7:], atol=1e-3)


def test_other_predictions_are_refused() -> None:
    with pytest.raises(SettingsError, match="predictions is 'first'; last and all are accepted"):
        GptSpace(predictions="first")
    with pytest.raises(SettingsError, match="the number of tokens, is 4; at least 8 are needed"):
        GptSpace(resolution=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWO[:-1], "is JSON with n_layer, d_model, n_head, d_inner, d_embed, div_val, such as"),
        (TWO.replace('"n_layer":2,', ""), "with exactly n_layer, d_model"),
        (TWO.replace('"n_layer":2', '"n_layer":3'), "n_layer is '3', but n_head has 2 entries"),
        (TWO.replace(",1520", ""), "n_head has 2 entries and d_inner 1; both have one a layer"),
        (TWO.replace("[2,8]", "[]").replace("[1779,1520]", "[]").replace('"n_layer":2', '"n_layer":0'), "1 to 256"),
        (TWO.replace("64", "0"), "d_model holds '0'; whole numbers from 1 to 65,536 are accepted"),
        (TWO.replace("64", "64.5"), "d_model holds '64.5'"),
        (TWO.replace("[2,8]", "[2,7]"), "n_head holds 7, which does not divide d_model, 64"),
        (TWO.replace("[2,8]", "2"), "n_head is '2'; a list of numbers is needed"),
        (TWO.replace('"div_val":1', '"div_val":12'), "nothing is left for the last cluster of words"),
    ],
)
def test_notation_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        GptSpace().parse(text)
    assert message in str(caught.value)


def test_lists_can_be_the_text_of_a_cell() -> None:
    space = GptSpace()
    row = {key: str(value) for key, value in json.loads(TWO).items()}
    assert space.parse(json.dumps(row)) == space.parse(TWO)
    assert space.format(space.parse(TWO)) == TWO


def test_samples_and_mutations_are_within_the_limits_of_the_authors() -> None:
    space, rng = GptSpace(), np.random.default_rng(0)
    genotype = space.sample(rng)
    same = []
    for _ in range(300):
        child = space.mutate(genotype, rng)
        same.append(child.d_embed == genotype.d_embed)
        for one in (child, space.sample(rng)):
            assert one.n_layer in range(2, 17)
            assert one.d_model in (64, 128, 256, 512)
            assert set(one.n_head) <= {2, 4, 8}
            assert all(max(512, int(1.7 * one.d_model)) <= hidden <= 2048 for hidden in one.d_inner)
        genotype = child
    assert 0.7 < np.mean(same) < 0.9  # 1 - 0.3 * 2/3


def test_it_is_scored_without_warnings() -> None:
    space = GptSpace(resolution=16)
    found = score(space.build(space.parse(TWO)), effort="fast", device="cpu")
    assert found.warnings == ()
    for name in ("expressivity", "trainability", "macs"):
        assert found.proxies[name].mean is not None


def test_every_count_of_the_published_results(shared: Path) -> None:
    space = GptSpace()
    with (shared / "truth" / "lts_random_GPT2_wt103.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 100
    for row in rows:
        genotype = space.parse(json.dumps({column: row[column] for column in space.columns}))
        assert isinstance(genotype, Decoder)
        assert space.parse(space.format(genotype)) == genotype
        assert space.nonembedding_params(genotype) == float(row["params_nonembedding"])
        assert space.params(genotype) == float(row["params_total"])
        assert int(row["tgt_len"]) == space.positions
        assert int(row["n_token"]) == space.vocabulary


def reference(ids: torch.Tensor, weights: Weights, text: str, words: int) -> torch.Tensor:
    """Return the log-probabilities after every token, written with torch from the parts' definitions."""
    fields = json.loads(text)
    width, shares = fields["d_model"], fields["div_val"] == 1
    bounds = [0, *(bound for bound in (19_997, 39_997) if bound < words), words]
    clusters = list(pairwise(bounds))

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def table(cluster: int) -> torch.Tensor:
        return weights[f"transformer.wte.emb_layers.{cluster}.weight"]

    def projection(cluster: int) -> torch.Tensor | None:
        return weights.get(f"transformer.wte.emb_projs.{0 if shares else cluster}")

    def embedded(word: int) -> torch.Tensor:
        cluster = next(index for index, (_, end) in enumerate(clusters) if word < end)
        found, to_width = table(cluster)[word - bounds[cluster]], projection(cluster)
        return math.sqrt(width) * (found if to_width is None else found @ to_width)

    if shares and len(clusters) == 1:  # in one product, so that torch counts it
        looked_up, to_width = table(0)[ids], projection(0)
        x = math.sqrt(width) * (looked_up if to_width is None else looked_up @ to_width)
    else:
        x = torch.stack([torch.stack([embedded(int(word)) for word in sample]) for sample in ids])
    x = x + weights["transformer.wpe.weight"][: ids.shape[1]]
    for index, heads in enumerate(fields["n_head"]):
        name = f"transformer.h.{index}"
        parts = linear(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn").unflatten(-1, (3, heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.mT / math.sqrt(width // heads)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ value
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"{name}.attn.c_proj")
        hidden = F.gelu(linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"), approximate="tanh")
        x = x + linear(hidden, f"{name}.mlp.c_proj")
    x = norm(x, "transformer.ln_f")

    def logits(x: torch.Tensor, cluster: int, to_embedding: torch.Tensor | None) -> torch.Tensor:
        features = x if to_embedding is None else x @ to_embedding
        if cluster:
            return features @ table(cluster).T + weights[f"lm_head.out_layers_biases.{cluster}"]
        scores = features @ table(0).T + weights["lm_head.out_layers_biases.0"]
        if len(clusters) == 1:
            return scores
        of_clusters = features @ weights["lm_head.cluster_weight"].T + weights["lm_head.cluster_bias"]
        return torch.cat([scores, of_clusters], dim=-1)

    head = logits(x, 0, weights.get("lm_head.out_projs.0")).log_softmax(-1)
    first = clusters[0][1]
    found = [head[..., :first]]
    for cluster in range(1, len(clusters)):
        to_width = projection(cluster)
        inside = logits(x, cluster, None if to_width is None else to_width.T).log_softmax(-1)
        found.append(inside + head[..., first + cluster - 1, None])
    return torch.cat(found, dim=-1)
