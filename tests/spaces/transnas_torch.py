"""TransNAS-Bench-101's classification networks in torch, written from the authors' description: to be run and counted.

They share no code with the spaces, not even that which reads a genotype. Parameters have the names of the ONNX weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["TransNas", "on_meta", "suite_zero_flops"]


class ConvBN(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class ReluConvBN(ConvBN):
    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__(before, after, kernel, stride)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.relu(x))


class FactorizedReduce(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.convs = nn.ModuleList(nn.Conv2d(before, after // 2, 1, 2, bias=False) for _ in range(2))
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.bn(torch.cat([self.convs[0](x), self.convs[1](shifted)], dim=1))


class Zeros(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        size = ((height + 1) // self.stride, (width + 1) // self.stride) if self.stride == 2 else (height, width)
        return torch.zeros(batch, self.channels, *size, device=x.device)


class Cell(nn.Module):
    def __init__(self, code: str, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for node, digits in enumerate(code.split("_"), 1):
            for source, digit in enumerate(digits):
                first = source == 0
                entering, step = (before, stride) if first else (after, 1)
                same = entering == after and step == 1
                self.edges[f"{node}_{source}"] = {
                    "0": lambda: Zeros(after, step),  # noqa: B023 (called at once)
                    "1": lambda: nn.Identity() if same else FactorizedReduce(entering, after),  # noqa: B023
                    "2": lambda: ReluConvBN(entering, after, 1, step),  # noqa: B023
                    "3": lambda: ReluConvBN(entering, after, 3, step),  # noqa: B023
                }[digit]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            nodes.append(torch.stack([self.edges[f"{node}_{i}"](nodes[i]) for i in range(node)]).sum(0))
        return nodes[3]


class BasicBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv_a = ReluConvBN(before, after, 3, stride)
        self.conv_b = ReluConvBN(after, after, 3)
        # The authors call BatchNorm2d(after, affine, track_running_stats), so that True is the epsilon.
        self.downsample = ConvBN(before, after, 1, stride, eps=True) if stride > 1 or before != after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.downsample(x) + self.conv_b(self.conv_a(x))


class TransNas(nn.Module):
    """From the official text, such as 64-41414-1_02_333 and 64-431241-basic."""

    def __init__(self, text: str, num_classes: int) -> None:
        super().__init__()
        width, modules, code = text.split("-")
        channels = int(width)
        self.stem = nn.Sequential(ConvBN(3, channels // 2, 3, 2), ReluConvBN(channels // 2, channels, 3, 2))
        self.depth = len(modules)
        for index, digit in enumerate(modules):
            before, channels = channels, channels * (2 if digit in "24" else 1)
            shapes = ((before, channels, 2 if digit in "34" else 1), (channels, channels, 1))
            blocks = [BasicBlock(*shape) if code == "basic" else Cell(code, *shape) for shape in shapes]
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for index in range(self.depth):
            x = self.get_submodule(f"layer{index}")(x)
        return self.classifier(self.pool(x).flatten(1))


def on_meta(text: str, num_classes: int) -> TransNas:
    """Return a network without data, to be counted; its normalisations return their input, which saves much time."""
    with torch.device("meta"):
        network = TransNas(text, num_classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    return network


def suite_zero_flops(network: TransNas, resolution: int) -> int:
    """Return the FLOPs of NAS-Bench-Suite-Zero: multiply-adds, and what normalisation, ReLU and pooling take."""
    total = 0

    def hook(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()
        elif isinstance(module, nn.BatchNorm2d):
            total += 2 * output.numel()
        elif isinstance(module, nn.ReLU):
            total += output.numel()
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            total += output.numel() * (inputs[0].shape[-1] + 1) ** 2

    handles = [module.register_forward_hook(hook) for module in network.modules()]
    network(torch.empty(1, 3, resolution, resolution, device="meta"))
    for handle in handles:
        handle.remove()
    return total
