"""The three published spaces as plain PyTorch modules, for timing the textbook implementation.

Written from the spaces' definitions and for no other use: each network's `blocks` are its primary blocks, modules whose
outputs are (batch, channels, height, width) or (batch, tokens, channels).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["AutoFormer", "MobileNetV2", "NasBench201"]


def conv_bn(
    before: int, after: int, kernel: int, stride: int = 1, *, groups: int = 1, eps: float = 1e-5
) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(after, eps=eps)]


# ---- NAS-Bench-201 ------------------------------------------------------------------------------------------------
class Zero(nn.Module):
    """No connection: a product with zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return x * 0.0


def operation(name: str, channels: int) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.Sequential(nn.ReLU(), *conv_bn(channels, channels, int(name[-1])))


class Cell(nn.Module):
    """Node i is the sum over j < i of an operation on node j."""

    def __init__(self, genotype: str, channels: int) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            nn.ModuleList(operation(edge.partition("~")[0], channels) for edge in node.strip("|").split("|"))
            for node in genotype.split("+")
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        values = [x]
        for edges in self.nodes:
            values.append(sum(edge(value) for edge, value in zip(edges, values, strict=True)))
        return values[-1]


class Reduction(nn.Module):
    """The residual block between stages."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.ReLU(), *conv_bn(before, after, 3, 2), nn.ReLU(), *conv_bn(after, after, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.main(x) + self.shortcut(x)


class NasBench201(nn.Module):
    """NAS-Bench-201 for 32x32 images."""

    def __init__(self, genotype: str, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*conv_bn(3, 16, 3))]
        for stage, channels in enumerate((16, 32, 64)):
            layers += [Reduction(channels // 2, channels)] if stage else []
            layers += [Cell(genotype, channels) for _ in range(5)]
        self.blocks = nn.ModuleList(layers)
        self.tail = nn.Sequential(
            nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        for block in self.blocks:
            x = block(x)
        return self.tail(x)


# ---- MobileNetV2 (ZenNAS) -----------------------------------------------------------------------------------------
class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, and a shortcut."""

    def __init__(self, before: int, hidden: int, after: int, kernel: int, stride: int, *, projects: bool) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *conv_bn(before, hidden, 1, eps=1e-3),
            nn.ReLU(),
            *conv_bn(hidden, hidden, kernel, stride, groups=hidden, eps=1e-3),
            nn.ReLU(),
            *conv_bn(hidden, after, 1, eps=1e-3),
        )
        shortcut = [nn.Conv2d(before, after, 1, stride), nn.BatchNorm2d(after, eps=1e-3)] if projects else []
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return torch.relu(self.main(x) + self.shortcut(x))


class MobileNetV2(nn.Module):
    """A genotype of ZenNAS's space."""

    def __init__(self, genotype: str, num_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kind, options, sizes in re.findall(r"Super(Conv|ResIDW)(\w+)\(([\d,]+)\)", genotype):
            numbers = [int(size) for size in sizes.split(",")]
            kernel = int(re.search(r"K(\d)", options)[1])
            if kind == "Conv":
                before, after, stride, _ = numbers
                layers.append(nn.Sequential(*conv_bn(before, after, kernel, stride, eps=1e-3), nn.ReLU()))
                continue
            before, after, stride, bottleneck, repeats = numbers
            expansion = int(re.search(r"E(\d)", options)[1])
            for pair in range(repeats):
                first = pair == 0 or stride > 1 or before != bottleneck
                layers.append(
                    InvertedResidual(before, bottleneck * expansion, bottleneck, kernel, stride, projects=first)
                )
                layers.append(
                    InvertedResidual(bottleneck, after * expansion, after, kernel, 1, projects=bottleneck != after)
                )
                before, stride = after, 1
        self.blocks = nn.ModuleList(layers)
        self.tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        for block in self.blocks:
            x = block(x)
        return self.tail(x)


# ---- AutoFormer ---------------------------------------------------------------------------------------------------
class RelativePosition(nn.Module):
    """Embeddings of every pair of tokens, the class token at distance 0 from all: (tokens, tokens, 64)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.vertical = nn.Parameter(torch.empty(30, 64))
        self.horizontal = nn.Parameter(torch.empty(30, 64))
        place = torch.arange(side * side)
        for name, axis in (("v", place // side), ("h", place % side)):
            index = torch.zeros(side * side + 1, side * side + 1, dtype=torch.long)
            index[1:, 1:] = (axis[None, :] - axis[:, None]).clamp(-14, 14) + 15
            self.register_buffer(f"index_{name}", index)

    def forward(self) -> Tensor:
        """Run it."""
        return self.vertical[self.index_v] + self.horizontal[self.index_h]


class Attention(nn.Module):
    """Attention with relative positions on keys and values."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * 64 * heads)
        self.proj = nn.Linear(64 * heads, width)
        self.keys, self.values = RelativePosition(side), RelativePosition(side)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, self.heads, 64).permute(2, 0, 3, 1, 4)
        by_token = q.permute(2, 0, 1, 3).reshape(tokens, batch * self.heads, 64) @ self.keys().transpose(1, 2)
        scores = q @ k.transpose(-2, -1) + by_token.transpose(0, 1).reshape(batch, self.heads, tokens, tokens)
        weights = (scores * 64**-0.5).softmax(-1)
        by_token = weights.permute(2, 0, 1, 3).reshape(tokens, batch * self.heads, tokens) @ self.values()
        mixed = weights @ v + by_token.transpose(0, 1).reshape(batch, self.heads, tokens, 64)
        return x + self.proj(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class Mlp(nn.Module):
    """Two linear layers for each token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return x + self.layers(x)


class AutoFormer(nn.Module):
    """A vision transformer with free heads and ratio in each layer."""

    def __init__(
        self, width: int, heads: Sequence[int], ratios: Sequence[float], resolution: int = 224, num_classes: int = 1000
    ) -> None:
        super().__init__()
        side = resolution // 16
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, side * side + 1, width))
        layers: list[nn.Module] = []
        for count, ratio in zip(heads, ratios, strict=True):
            layers += [Attention(width, count, side), Mlp(width, int(ratio * width))]
        self.blocks = nn.ModuleList(layers)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 1:].mean(1))
