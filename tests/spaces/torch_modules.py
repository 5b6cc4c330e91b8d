"""The networks of the bundled spaces as torch modules on the meta device, written from the papers: to be counted.

They share no code with the spaces, not even that which reads a genotype: each takes the text of the notation.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

__all__ = [
    "AutoFormer",
    "MobileNetV2",
    "NasBench101",
    "NasBench201",
    "NatsBenchSize",
    "counted_operations",
    "parameters",
    "pruned_cell",
    "vertex_channels",
]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def counted_operations(network: nn.Module, resolution: int) -> tuple[int, int]:
    """Return multiply-adds of convolutions and linear layers, and the same as ZenNAS counts them.

    ZenNAS adds one operation for each output element of a BatchNorm, and divides what a projection shortcut costs by
    the square of its stride once more.
    """
    macs = paper = 0

    def hook_for(shortcut_stride: int) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def hook(module: nn.Module, _: tuple[torch.Tensor], output: torch.Tensor) -> None:
            nonlocal macs, paper
            own = output.numel()
            if isinstance(module, nn.Conv2d):
                own *= module.weight[0].numel()
                macs += own
            elif isinstance(module, nn.Linear):
                own *= module.in_features
                macs += own
            paper += own // shortcut_stride**2

        return hook

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            shortcut = network.get_submodule(name.rpartition(".")[0]) if ".shortcut." in f".{name}" else None
            stride = next((m.stride[0] for m in shortcut.modules() if isinstance(m, nn.Conv2d)), 1) if shortcut else 1
            handles.append(module.register_forward_hook(hook_for(stride)))
    network(torch.empty(1, 3, resolution, resolution, device="meta"))
    for handle in handles:
        handle.remove()
    return macs, paper


def conv_bn(
    before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


class InvertedResidual(nn.Module):
    def __init__(self, before: int, hidden: int, after: int, kernel: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv_bn(before, hidden, 1),
            nn.ReLU(),
            conv_bn(hidden, hidden, kernel, stride, groups=hidden),
            nn.ReLU(),
            conv_bn(hidden, after, 1),
        )
        self.shortcut = conv_bn(before, after, 1, stride, bias=True) if projects else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


class MobileNetV2(nn.Sequential):
    """From the notation of ZenNAS."""

    def __init__(self, text: str, num_classes: int) -> None:
        layers: list[nn.Module] = []
        for kind, sizes in re.findall(r"Super(\w+?)\(([\d,]+)\)", text):
            before, after, stride, *rest = map(int, sizes.split(","))
            if kind.startswith("ConvK"):
                kernel = int(kind[len("ConvK") : -len("BNRELU")])
                for _ in range(rest[0]):
                    layers += [conv_bn(before, after, kernel, stride), nn.ReLU()]
                    before, stride = after, 1
                continue
            expansion, kernel = map(int, re.findall(r"\d+", kind))
            bottleneck, pairs = rest
            for pair in range(pairs):
                first = pair == 0 or before != bottleneck
                layers.append(
                    InvertedResidual(before, rounded(bottleneck * expansion), bottleneck, kernel, stride, first)
                )
                second = bottleneck != after
                layers.append(InvertedResidual(bottleneck, rounded(after * expansion), after, kernel, 1, second))
                before, stride = after, 1
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, num_classes))


def rounded(width: int) -> int:
    return max(8, 8 * round(width / 8))


class Cell(nn.Module):
    """NAS-Bench-201's cell: the operations of each node, by the node that they come from."""

    def __init__(self, text: str, before: int, channels: int) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                operation(name, before if source == "0" else channels, channels)
                for name, source in re.findall(r"\|?(\w+)~(\d)", node)
            )
            for node in text.split("+")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        known = [x]
        for node in self.nodes:
            assert isinstance(node, nn.ModuleList)
            terms = [edge(source) for edge, source in zip(node, known, strict=True)]
            known.append(torch.stack(terms).sum(0))
        return known[-1]


def operation(name: str, before: int, channels: int) -> nn.Module:
    if name.startswith("nor_conv"):
        return nn.Sequential(nn.ReLU(), conv_bn(before, channels, int(name[-1])))
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    assert name in ("none", "skip_connect")
    return nn.Identity() if before == channels else conv_bn(before, channels, 1)  # `none` counts like a skip


class Reduction(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.ReLU(), conv_bn(before, after, 3, 2), nn.ReLU(), conv_bn(after, after, 3))
        self.beside = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x) + self.beside(x)


class NasBench201(nn.Sequential):
    """From the benchmark's notation."""

    def __init__(self, text: str, num_classes: int) -> None:
        cells = [[Cell(text, channels, channels) for _ in range(5)] for channels in (16, 32, 64)]
        body = [*cells[0], Reduction(16, 32), *cells[1], Reduction(32, 64), *cells[2]]
        head = [nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
        super().__init__(conv_bn(3, 16, 3), *body, *head)


class NatsBenchSize(nn.Sequential):
    """From the widths of its layers."""

    def __init__(self, text: str, num_classes: int) -> None:
        cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
        a, b, c, d, e = map(int, text.split(":"))
        body = [Cell(cell, a, a), Reduction(a, b), Cell(cell, b, c), Reduction(c, d), Cell(cell, d, e)]
        head = [nn.BatchNorm2d(e), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(e, num_classes)]
        super().__init__(conv_bn(3, a, 3), *body, *head)


def pruned_cell(text: str) -> tuple[npt.NDArray[Any], list[int]]:
    """Return the adjacency matrix and the operations of a NAS-Bench-101 cell, without what no path meets."""
    numbers = np.array(ast.literal_eval(text))
    vertices = int(np.sqrt(len(numbers)))
    matrix, operations = numbers[: vertices**2].reshape(vertices, vertices), numbers[vertices**2 :]
    paths = np.linalg.matrix_power(matrix + np.eye(vertices, dtype=int), vertices) > 0
    kept = np.flatnonzero(paths[0] & paths[:, -1])
    return matrix[np.ix_(kept, kept)], operations[kept].tolist()


def vertex_channels(matrix: npt.NDArray[Any], channels: int) -> list[int]:
    """Return the channels of the vertices of a pruned cell; those of its input do not count."""
    vertices = len(matrix)
    found = [0] * (vertices - 1) + [channels]
    parts = np.array_split(np.arange(channels), max(1, matrix[1:, -1].sum()))  # the first are the larger ones
    for vertex, part in zip((np.flatnonzero(matrix[1:, -1]) + 1).tolist(), parts, strict=False):
        found[vertex] = len(part)
    for vertex in reversed(range(1, vertices - 1)):
        widest = max(found[target] for target in np.flatnonzero(matrix[vertex]).tolist())
        found[vertex] = found[vertex] or widest
    return found


class WiredCell(nn.Module):
    """NAS-Bench-101's cell."""

    def __init__(self, text: str, before: int, channels: int) -> None:
        super().__init__()
        self.matrix, operations = pruned_cell(text)
        self.widths = vertex_channels(self.matrix, channels)
        self.projections = nn.ModuleDict(
            {str(vertex): conv_bn_relu(before, self.widths[vertex], 1) for vertex in np.flatnonzero(self.matrix[0])}
        )
        layers = {1: lambda _: nn.Identity(), 2: lambda _: nn.MaxPool2d(3, 1, 1)}
        layers |= {3: lambda width: conv_bn_relu(width, width, 1), 4: lambda width: conv_bn_relu(width, width, 3)}
        self.vertices = nn.ModuleList(
            layers[operation](width) for operation, width in zip(operations[1:], self.widths[1:], strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [x]
        for vertex, layer in enumerate(self.vertices, 1):
            terms = [outputs[source] for source in np.flatnonzero(self.matrix[1:, vertex]) + 1]
            if terms and vertex == len(self.vertices):
                terms = [torch.cat(terms, 1)]
            if str(vertex) in self.projections:
                terms.append(self.projections[str(vertex)](x))
            outputs.append(layer(torch.stack([term[:, : self.widths[vertex]] for term in terms]).sum(0)))
        return outputs[-1]


def conv_bn_relu(before: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(before, after, kernel), nn.ReLU())


class NasBench101(nn.Sequential):
    """From the numbers of its matrix and operations."""

    def __init__(self, text: str, num_classes: int) -> None:
        layers: list[nn.Module] = [conv_bn_relu(3, 128, 3)]
        before = 128
        for channels in (128, 256, 512):
            if channels > 128:
                layers.append(nn.MaxPool2d(2))
            for _ in range(3):
                layers.append(WiredCell(text, before, channels))
                before = channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))


class AutoFormer(nn.Module):
    """From AutoFormer's JSON; its parameters only."""

    def __init__(self, text: str, resolution: int, num_classes: int) -> None:
        super().__init__()
        fields = json.loads(text)
        width, patches = fields["embed_dim"], (resolution // 16) ** 2
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, patches + 1, width))
        self.layers = nn.ModuleList()
        for heads, ratio in zip(fields["num_heads"], fields["mlp_ratio"], strict=True):
            inner, hidden = 64 * heads, int(width * ratio)
            tables = [nn.Embedding(2 * 14 + 2, 64) for _ in ("key", "value") for _ in ("vertical", "horizontal")]
            attention = [nn.LayerNorm(width), nn.Linear(width, 3 * inner), nn.Linear(inner, width), *tables]
            mlp = [nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)]
            self.layers.append(nn.ModuleList([*attention, *mlp]))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
