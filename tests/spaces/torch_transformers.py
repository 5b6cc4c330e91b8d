"""The networks of ViT-Bench-101 as torch modules, written from its paper and PiT's: to be counted, and to be run.

They share no code with the spaces. Their parameters have the names that the spaces give them.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tests.spaces.torch_reference import Weights

__all__ = ["PiTModule", "PlainViTModule", "answer", "counts"]


class Products(TorchDispatchMode):
    """Counts the multiply-adds of products and convolutions by torch's own formulas."""

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function.overloadpacket in flop_registry:
            self.total += flop_registry[function.overloadpacket](*args, **(kwargs or {}), out_val=output) // 2
        return output


def counts(network: nn.Module, resolution: int) -> tuple[int, int]:
    """Return multiply-adds and parameters of a network on the meta device."""
    with Products() as products, torch.no_grad():
        network(torch.empty(1, 3, resolution, resolution, device="meta"))
    return products.total, sum(parameter.numel() for parameter in network.parameters())


def answer(network: nn.Module, image: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Run a network with the weights of an ONNX graph, where all linear layers but the head are products from left."""
    linear = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    turned = {name: value.T if name in linear and name != "head.weight" else value for name, value in weights.items()}
    network.load_state_dict(turned)
    output: torch.Tensor = network.eval()(image)
    return output


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        output: torch.Tensor = self.proj((weights @ v).transpose(1, 2).flatten(2))
        return output


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class PlainViTModule(nn.Module):
    """From the JSON of `vit`."""

    def __init__(self, text: str, resolution: int, num_classes: int) -> None:
        super().__init__()
        row = json.loads(text)
        width, tokens = row["hidden_dim"], (resolution // 16) ** 2 + 1
        self.patch_embed = nn.Conv2d(3, width, 16, 16)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        per_layer = zip(row["num_heads"], row["mlp_ratio"], strict=True)
        self.blocks = nn.Sequential(*(Layer(width, heads, int(width * ratio)) for heads, ratio in per_layer))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(image).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        output: torch.Tensor = self.head(self.norm(self.blocks(x))[:, 1:].mean(1))
        return output


class Stage(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Layer(width, heads, hidden) for _ in range(depth)))

    def forward(self, image: torch.Tensor, token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.blocks(torch.cat([token, image.flatten(2).mT], dim=1))
        return x[:, 1:].mT.reshape(image.shape), x[:, :1]


class Pool(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, 2, 1, groups=before)
        self.fc = nn.Linear(before, after)


class PiTModule(nn.Module):
    """From the JSON of `pit`."""

    def __init__(self, text: str, resolution: int, num_classes: int) -> None:
        super().__init__()
        row = json.loads(text)
        widths = [heads * row["base_dim"] for heads in row["num_heads"]]
        grid = (resolution - 16) // 8 + 1
        self.patch_embed = nn.ModuleDict({"conv": nn.Conv2d(3, widths[0], 16, 8)})
        self.pos_embed = nn.Parameter(torch.empty(1, widths[0], grid, grid))
        self.cls_token = nn.Parameter(torch.empty(1, 1, widths[0]))
        stages = zip(widths, row["num_heads"], row["depth"], strict=True)
        self.transformers = nn.ModuleList(
            Stage(width, heads, width * row["mlp_ratio"], depth) for width, heads, depth in stages
        )
        self.pools = nn.ModuleList(Pool(*pair) for pair in pairwise(widths))
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = self.patch_embed["conv"](image) + self.pos_embed
        token = self.cls_token.expand(len(image), -1, -1)
        for stage, pool in zip(self.transformers, [*self.pools, None], strict=True):
            image, token = stage(image, token)
            if isinstance(pool, Pool):
                image, token = pool.conv(image), pool.fc(token)
        output: torch.Tensor = self.head(self.norm(token)[:, 0])
        return output
