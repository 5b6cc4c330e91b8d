"""The network of a DARTS genotype as a torch module, written from the paper and its Figure 2; no code of the space.

Its parameters have the names of the built ONNX network, so that `load_state_dict` takes the weights of one.
"""

from __future__ import annotations

import itertools
import re

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["DartsNetwork"]


class ReluConvNorm(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(F.relu(x)))


class FactorizedReduce(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(before, after // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(before, after // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))


class DepthwisePair(nn.Module):
    def __init__(self, channels: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation=dilation, groups=channels, bias=False
        )
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(self.depthwise(F.relu(x))))


class Nothing(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0


def operation(name: str, channels: int, stride: int) -> nn.Module:
    kernel = int(name[-1]) if name[-1].isdigit() else 0
    if name.startswith("sep_conv"):
        return nn.Sequential(DepthwisePair(channels, kernel, stride, 1), DepthwisePair(channels, kernel, 1, 1))
    if name.startswith("dil_conv"):
        return nn.Sequential(DepthwisePair(channels, kernel, stride, 2))
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    assert name == "none"
    return Nothing(stride)


class Cell(nn.Module):
    def __init__(
        self, edges: list[tuple[str, int]], before: tuple[int, int], channels: int, halves: bool, halved_before: bool
    ) -> None:
        super().__init__()
        first = FactorizedReduce if halved_before else ReluConvNorm
        self.preprocess0 = first(before[0], channels)
        self.preprocess1 = ReluConvNorm(before[1], channels)
        self.sources = [source for _, source in edges]
        made = [operation(name, channels, 2 if halves and source < 2 else 1) for name, source in edges]
        self.edges = nn.ModuleDict(
            {str(node): nn.ModuleList(made[2 * node - 4 : 2 * node - 2]) for node in range(2, 6)}
        )

    def forward(self, older: torch.Tensor, newer: torch.Tensor) -> torch.Tensor:
        states = [self.preprocess0(older), self.preprocess1(newer)]
        sources = iter(self.sources)
        for pair in self.edges.values():
            assert isinstance(pair, nn.ModuleList)
            left, right = (edge(states[next(sources)]) for edge in pair)
            states.append(left + right)
        return torch.cat(states[2:], 1)


class DartsNetwork(nn.Module):
    """From the text of a genotype with all four nodes in its outputs."""

    def __init__(self, text: str, cells: int, channels: int, num_classes: int, *, imagenet: bool) -> None:
        super().__init__()
        pairs = [(name, int(source)) for name, source in re.findall(r"\('(\w+)', (\d)\)", text)]
        normal, reduce = pairs[:8], pairs[8:]
        stem = [3, channels // 2, channels, channels] if imagenet else [3, 3 * channels]
        self.stem = nn.ModuleList()
        for before, after in itertools.pairwise(stem):
            conv = nn.Conv2d(before, after, 3, 2 if imagenet else 1, 1, bias=False)
            self.stem.append(nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm2d(after)}))
        self.cells = nn.ModuleList()
        older = newer = stem[-1]
        halved_before = imagenet
        for index in range(cells):
            halves = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if halves else 1
            self.cells.append(Cell(reduce if halves else normal, (older, newer), channels, halves, halved_before))
            older, newer, halved_before = newer, 4 * channels, halves
        self.classifier = nn.Linear(newer, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        states = [image]
        for index, layer in enumerate(self.stem):
            x = F.relu(states[-1]) if index else states[-1]
            states.append(layer["bn"](layer["conv"](x)))  # type: ignore[index]
        older, newer = states[-2] if len(self.stem) > 1 else states[-1], states[-1]
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        return self.classifier(newer.mean((2, 3)))
