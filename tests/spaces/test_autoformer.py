from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aznas_onnx.spaces import GenotypeError, get
from aznas_onnx.spaces.autoformer import AutoFormerBase, AutoFormerTiny
from aznas_onnx.spaces.layerwise_transformers import VisionTransformer
from tests.spaces.torch_reference import Weights, largest_difference

TINY = '{"depth":12,"embed_dim":192,"num_heads":[3,4,3,3,3,3,3,3,3,3,3,4],"mlp_ratio":[4,3.5,4,4,4,4,4,4,4,4,4,3.5]}'


def test_counts_by_hand() -> None:
    space = AutoFormerTiny(resolution=32, num_classes=10)
    genotype = VisionTransformer(embed_dim=192, num_heads=(3,) * 12, mlp_ratio=(3.5,) * 12)
    tokens, width, inner, hidden = 5, 192, 192, 672
    layer = tokens * (3 * width * inner + inner * width + 2 * width * hidden) + 2 * tokens**2 * inner
    relative = 12 * 2 * tokens**2 * inner
    assert space.relative_position_macs(genotype) == relative
    assert space.macs(genotype) == 4 * 768 * width + 12 * layer + relative + width * 10
    attention = 4 * width * inner + 3 * inner + width
    tables = 4 * 30 * 64
    norms = 2 * 2 * width
    mlp = 2 * width * hidden + hidden + width
    embedding = 769 * width + (tokens + 1) * width
    head = 2 * width + width * 10 + 10
    assert space.params(genotype) == embedding + 12 * (attention + tables + norms + mlp) + head


def reference_rows(shared: Path) -> list[dict[str, object]]:
    lines = (shared / "reference" / "autoformer_reference_counts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_counts_are_those_of_the_reference(shared: Path) -> None:
    for row in reference_rows(shared):
        space = get(str(row["space"]))
        genotype = space.parse(json.dumps(row["genotype"]))
        assert json.loads(space.format(genotype)) == row["genotype"]
        assert space.params(genotype) == row["params"]
        assert space.paper_flops(genotype) == row["flops_paper"]


def test_macs_of_the_published_winners(shared: Path) -> None:
    winners = [row for row in reference_rows(shared) if str(row["name"]).startswith("published")]
    published_g = (1.3202, 1.3711, 4.8234, 5.0078, 11.1999, 11.2781)
    for row, expected_g in zip(winners, published_g, strict=True):
        space = get(str(row["space"]))
        genotype = space.parse(json.dumps(row["genotype"]))
        relative = space.relative_position_macs(genotype)  # type: ignore[attr-defined]
        assert relative == sum(2 * 197 * 197 * 64 * heads for heads in genotype.num_heads)
        assert round((space.macs(genotype) - relative) / 1e9, 4) == expected_g


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY[:-1], "is JSON with depth, embed_dim, num_heads, mlp_ratio"),
        (TINY.replace('"depth":12,', ""), "with exactly depth, embed_dim, num_heads, mlp_ratio"),
        (TINY.replace(":12", ":13"), "depth is 13, but num_heads has 12 entries"),
        (TINY.replace("192", "200"), "embed_dim holds 200; accepted are 192, 216, 240"),
        (TINY.replace("192", "192.0"), "embed_dim holds 192.0"),
        (TINY.replace("192", '"wide"'), "embed_dim is 'wide'; a number is needed"),
        (TINY.replace("[3,4", "[3,5"), "num_heads holds 5; accepted are 3, 4"),
        (TINY.replace("[4,3.5", "[4,3"), "mlp_ratio holds 3; accepted are 3.5, 4"),
        (TINY.replace("[4,3.5", "[4,NaN"), "mlp_ratio holds nan"),
        (TINY.replace("[4,3.5", "[4,true"), "a list of numbers is needed"),
        (TINY.replace("[4,3.5,", "["), "num_heads has 12 entries and mlp_ratio 10"),
        (TINY.replace("[4,3.5", "[4," + "9" * 5000), "is JSON with"),
        ("[" * 100_000, "is JSON with"),
        ('{"depth":1,"embed_dim":192,"num_heads":[3],"mlp_ratio":[4]}', "depth holds 1; accepted are 12, 13, 14"),
    ],
)
def test_bad_notation(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        AutoFormerTiny().parse(text)
    assert message in str(caught.value)


def test_whole_ratios_are_equal_however_written() -> None:
    space = AutoFormerTiny()
    assert space.parse(TINY) == space.parse(TINY.replace("4,4", "4.0,4"))
    assert space.format(space.parse(TINY.replace("4,4", "4.0,4"))) == TINY


def test_base_accepts_eight_heads_and_never_samples_them() -> None:
    space, rng = AutoFormerBase(), np.random.default_rng(0)
    space.validate(VisionTransformer(embed_dim=528, num_heads=(8,) * 14, mlp_ratio=(3.0,) * 14))
    drawn = {heads for _ in range(50) for heads in space.sample(rng).num_heads}
    assert drawn == {9, 10}


def test_a_mutation_samples_few_layers_again_and_sometimes_depth_and_width() -> None:
    space, rng = AutoFormerTiny(), np.random.default_rng(0)
    genotype = space.parse(TINY)
    children = [space.mutate(genotype, rng) for _ in range(1000)]
    assert {child.depth for child in children} == {12, 13, 14}
    assert 0.65 < np.mean([child.embed_dim == 192 for child in children]) < 0.8  # 1 - 0.4 * 2/3
    kept = [np.mean([a == b for a, b in zip(child.num_heads, genotype.num_heads, strict=False)]) for child in children]
    assert 0.87 < np.mean(kept) < 0.93  # 1 - 0.2 / 2


@pytest.mark.parametrize("resolution", [64, 256])  # distances beyond the clip occur from 256 on
def test_the_network_computes_what_autoformer_defines(resolution: int) -> None:
    space = AutoFormerTiny(resolution=resolution, num_classes=10)
    genotype = space.parse(TINY)

    def forward(image: torch.Tensor, weights: Weights) -> torch.Tensor:
        return reference(image, weights, genotype)

    assert largest_difference(space.build(genotype), forward) < 1e-3


def reference(image: torch.Tensor, weights: Weights, genotype: VisionTransformer) -> torch.Tensor:
    """AutoFormer's network, written from its description with torch: relative embeddings pair by pair."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def relative(name: str, grid: int) -> torch.Tensor:
        table = torch.empty(grid**2 + 1, grid**2 + 1, 64)
        vertical, horizontal = weights[f"{name}.embeddings_table_v"], weights[f"{name}.embeddings_table_h"]
        table[0, :] = table[:, 0] = vertical[0] + horizontal[0]
        for row in range(grid):
            for column in range(grid):
                to_row = torch.arange(grid).repeat_interleave(grid) - row
                to_column = torch.arange(grid).repeat(grid) - column
                bounded = (to_row.clamp(-14, 14) + 15, to_column.clamp(-14, 14) + 15)
                table[1 + row * grid + column, 1:] = vertical[bounded[0]] + horizontal[bounded[1]]
        return table

    x = F.conv2d(image, weights["patch_embed.weight"], weights["patch_embed.bias"], stride=16)
    grid = x.shape[-1]
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], dim=1) + weights["pos_embed"]
    for layer, heads in enumerate(genotype.num_heads):
        name = f"blocks.{layer}"
        qkv = linear(norm(x, f"{name}.attn_layer_norm"), f"{name}.attn.qkv")
        q, k, v = qkv.unflatten(-1, (3, heads, 64)).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT + torch.einsum("bhid,ijd->bhij", q, relative(f"{name}.attn.rel_pos_embed_k", grid))
        attention = (scores / 8).softmax(-1)
        mixed = attention @ v + torch.einsum(
            "bhij,ijd->bhid", attention, relative(f"{name}.attn.rel_pos_embed_v", grid)
        )
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"{name}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{name}.ffn_layer_norm"), f"{name}.fc1")), f"{name}.fc2")
    pooled = norm(x, "norm")[:, 1:].mean(1)
    return pooled @ weights["head.weight"].T + weights["head.bias"]
