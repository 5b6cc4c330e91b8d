"""Networks for the trials of the gate: real architectures and damaged variants.

Each family takes a :class:`Damage`. The intact network is what is shipped; the damaged ones are what a gate must stop.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["FAMILIES", "FULL", "SMALL", "Damage", "make", "perturb", "resnet"]


class Damage(str, enum.Enum):
    """What is wrong with a network."""

    NONE = "none"
    NO_SKIPS = "no-skips"  # every residual connection whose shapes agree, and every projection, is removed
    HALF_WIDTH = "half-width"
    HALF_DEPTH = "half-depth"
    DEAD_BRANCH = "dead-branch"  # one residual branch ends in a ReLU that is always zero
    DEAD_BLOCK = "dead-block"  # one whole block puts out zeros


class Dead(nn.Module):
    """A ReLU that nothing passes: every value that enters it is zero or negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(-torch.relu(x))


class Residual(nn.Module):
    """A branch around which there may be a skip."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None, after: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.after = branch, shortcut, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.branch(x)
        return self.after(y if self.shortcut is None else y + self.shortcut(x))


def conv_bn(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after)]


def shortcut_of(before: int, after: int, stride: int, damage: Damage) -> nn.Module | None:
    if damage is Damage.NO_SKIPS:
        return None
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(*conv_bn(before, after, 1, stride))


def halved(sizes: tuple[int, ...], wanted: bool) -> tuple[int, ...]:
    return tuple(max(size // 2, 1) if wanted else size for size in sizes)


def head(channels: int, classes: int = 100) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def resnet(damage: Damage, widths: tuple[int, ...], depths: tuple[int, ...], *, expand: int = 1) -> nn.Module:
    """ResNet of basic blocks (expand 1) or bottlenecks (expand 4), with the stem for ImageNet."""
    widths = halved(widths, damage is Damage.HALF_WIDTH)
    depths = halved(depths, damage is Damage.HALF_DEPTH)
    before = widths[0]
    layers: list[nn.Module] = [*conv_bn(3, before, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for index in range(depth):
            stride, after = 2 if stage and not index else 1, width * expand
            is_dead = stage == 2 and index == depth - 1
            if expand == 1:
                branch = [*conv_bn(before, width, 3, stride), nn.ReLU(), *conv_bn(width, after, 3)]
            else:
                branch = [*conv_bn(before, width, 1), nn.ReLU(), *conv_bn(width, width, 3, stride), nn.ReLU()]
                branch += conv_bn(width, after, 1)
            if is_dead and damage is Damage.DEAD_BRANCH:
                branch.append(Dead())
            last = Dead() if is_dead and damage is Damage.DEAD_BLOCK else nn.ReLU()
            layers.append(Residual(nn.Sequential(*branch), shortcut_of(before, after, stride, damage), last))
            before = after
    return nn.Sequential(*layers, *head(before))


# Expansion, width, depth and stride of each stage, as in the paper.
_MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(damage: Damage, stages: int = 7) -> nn.Module:
    """MobileNetV2, or its first stages."""
    table = _MOBILENET[:stages]
    before = 16 if damage is Damage.HALF_WIDTH else 32
    layers: list[nn.Module] = [*conv_bn(3, before, 3, 2), nn.ReLU6()]
    for row, (expand, after, depth, first) in enumerate(table):
        (after,) = halved((after,), damage is Damage.HALF_WIDTH)
        (depth,) = halved((depth,), damage is Damage.HALF_DEPTH)
        for index in range(depth):
            stride, inner = first if index == 0 else 1, before * expand
            is_dead = row == 3 and index == depth - 1
            branch = [*conv_bn(before, inner, 1), nn.ReLU6()] if expand > 1 else []
            branch += [*conv_bn(inner, inner, 3, stride, inner), nn.ReLU6(), *conv_bn(inner, after, 1)]
            if is_dead and damage is Damage.DEAD_BRANCH:
                branch.append(Dead())
            skip = nn.Identity() if stride == 1 and before == after and damage is not Damage.NO_SKIPS else None
            last = Dead() if is_dead and damage is Damage.DEAD_BLOCK else nn.Identity()
            layers.append(Residual(nn.Sequential(*branch), skip, last))
            before = after
    wide = 640 if damage is Damage.HALF_WIDTH else 1280
    return nn.Sequential(*layers, *conv_bn(before, wide, 1), nn.ReLU6(), *head(wide))


class Cell(nn.Module):
    """A NAS-Bench-201 cell: 3x3 convolutions into node 3 from nodes 0 and 2, a skip from 0, 1x1 and 3x3 between."""

    def __init__(self, width: int, damage: Damage, dead: Damage | None) -> None:
        super().__init__()

        def op(kernel: int) -> nn.Module:
            return nn.Sequential(nn.ReLU(), *conv_bn(width, width, kernel))

        self.a, self.b, self.c, self.d, self.e = op(3), op(3), op(3), op(1), op(3)
        self.skips = damage is not Damage.NO_SKIPS
        self.branch = Dead() if dead is Damage.DEAD_BRANCH else nn.Identity()
        self.after = Dead() if dead is Damage.DEAD_BLOCK else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.a(x)
        second = self.b(x) + self.c(first)
        last = self.branch(self.d(first) + self.e(second))
        return self.after(x + last if self.skips else last)


def nb201(damage: Damage, width: int = 16, cells: int = 5) -> nn.Module:
    """NAS-Bench-201's network of three stages of cells, with a good cell."""
    widths = halved((width, 2 * width, 4 * width), damage is Damage.HALF_WIDTH)
    (cells,) = halved((cells,), damage is Damage.HALF_DEPTH)
    before = widths[0]
    layers: list[nn.Module] = conv_bn(3, before, 3)
    for stage, width in enumerate(widths):
        if stage:
            branch = [nn.ReLU(), *conv_bn(before, width, 3, 2), nn.ReLU(), *conv_bn(width, width, 3)]
            pooled = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, width, 1, bias=False))
            skip = None if damage is Damage.NO_SKIPS else pooled
            layers.append(Residual(nn.Sequential(*branch), skip, nn.Identity()))
        for index in range(cells):
            is_dead = stage == 1 and index == cells - 1
            layers += [Cell(width, damage, damage if is_dead else None)]
        before = width
    return nn.Sequential(*layers, nn.BatchNorm2d(before), nn.ReLU(), *head(before, 10))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class VisionTransformer(nn.Module):
    """A pre-norm ViT with a class token."""

    def __init__(self, damage: Damage, *, size: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        (width,) = halved((width,), damage is Damage.HALF_WIDTH)
        (depth,) = halved((depth,), damage is Damage.HALF_DEPTH)
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2 + 1, width))
        blocks: list[nn.Module] = []
        for index in range(depth):
            skip = None if damage is Damage.NO_SKIPS else nn.Identity()
            is_dead = index == depth // 2
            dead = [Dead()] if is_dead and damage is Damage.DEAD_BRANCH else []
            after = Dead() if is_dead and damage is Damage.DEAD_BLOCK else nn.Identity()
            attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
            mlp = [nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)]
            blocks.append(Residual(attention, skip, nn.Identity()))
            blocks.append(Residual(nn.Sequential(*mlp, *dead), skip, after))
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(width))
        self.head = nn.Linear(width, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.place
        return self.head(self.blocks(x)[:, 0])


Family = tuple[int, Callable[[Damage], nn.Module]]

# Each with the size of its images.
SMALL: dict[str, Family] = {
    "residual": (32, lambda damage: resnet(damage, (16, 32, 64), (2, 2, 2))),
    "bottleneck": (32, lambda damage: resnet(damage, (16, 32, 64), (2, 4, 2), expand=4)),
    "inverted": (32, lambda damage: mobilenet_v2(damage, stages=5)),
    "cells": (16, lambda damage: nb201(damage, width=8, cells=3)),
    "transformer": (32, lambda damage: VisionTransformer(damage, size=32, patch=4, width=64, depth=6, heads=2)),
}
FULL: dict[str, Family] = {
    "resnet18": (64, lambda damage: resnet(damage, (64, 128, 256, 512), (2, 2, 2, 2))),
    "resnet50": (64, lambda damage: resnet(damage, (64, 128, 256, 512), (3, 4, 6, 3), expand=4)),
    "mobilenet_v2": (96, mobilenet_v2),
    "nb201": (32, nb201),
    "vit": (64, lambda damage: VisionTransformer(damage, size=64, patch=8, width=192, depth=12, heads=3)),
}
FAMILIES = {**SMALL, **FULL}


def perturb(network: nn.Module, seed: int) -> None:
    """Make weights and statistics as distinct as those of a trained network.

    Exporters and optimisers merge what is equal in a fresh one, and the file is then another network.
    """
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        tensors: list[Any] = [*network.parameters(), *network.buffers()]
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.randn(tensor.shape, generator=source))
                tensor.add_(0.01 * torch.rand(tensor.shape, generator=source))


def make(family: str, damage: Damage, *, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """Return a network and a sample of its input."""
    torch.manual_seed(seed)
    size, build = FAMILIES[family]
    network = build(damage).eval()
    perturb(network, seed + 1)
    return network, torch.randn(1, 3, size, size)
