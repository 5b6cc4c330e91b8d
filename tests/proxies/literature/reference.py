"""A small network as ONNX and as a torch module, and textbook implementations of the proxies on the module.

The implementations follow the papers' definitions literally: loops over samples, layers and batches, nothing shared.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from tests.graph.builders import network, weights

Tensor = torch.Tensor
BODY = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w0)
    b = BatchNormalization (a, s0, z0, m0, v0)
    c = Relu (b)
    d = Conv <pads = [1, 1, 1, 1]> (c, w1)
    e = BatchNormalization (d, s1, z1, m1, v1)
    f = Add (e, c)
    g = Relu (f)
    h = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (g, w2)
    i = BatchNormalization (h, s2, z2, m2, v2)
    j = Relu (i)
    k = GlobalAveragePool (j)
    l = Flatten (k)
    y = Gemm (l, w3, b3)
"""
WIDTHS = (4, 4, 6)
CLASSES = 5


def constants() -> dict[str, np.ndarray]:
    found = {"w0": weights(4, 3, 3, 3), "w1": weights(4, 4, 3, 3), "w2": weights(6, 4, 3, 3)}
    found |= {"w3": weights(6, CLASSES), "b3": weights(CLASSES)}
    for index, width in enumerate(WIDTHS):
        found[f"s{index}"], found[f"v{index}"] = np.ones(width, np.float32), np.ones(width, np.float32)
        found[f"z{index}"], found[f"m{index}"] = np.zeros(width, np.float32), np.zeros(width, np.float32)
    return found


def model() -> onnx.ModelProto:
    return network(BODY, {"x": ("n", 3, 8, 8)}, constants())


class Reference(nn.Module):
    """The same network; switch, normalisation and layer are modules of their own, as published code expects."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.convs: Any = nn.ModuleList(
            [
                nn.Conv2d(3, 4, 3, padding=1, bias=False),
                nn.Conv2d(4, 4, 3, padding=1, bias=False),
                nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
            ]
        )
        self.norms: Any = nn.ModuleList([nn.BatchNorm2d(width) for width in WIDTHS])
        self.switches: Any = nn.ModuleList([nn.ReLU() for _ in WIDTHS])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(6, CLASSES)
        with torch.no_grad():
            for index, conv in enumerate(self.layers[:-1]):
                conv.weight.copy_(values[f"w{index}"])
            self.classifier.weight.copy_(values["w3"].t())
            self.classifier.bias.copy_(values["b3"])

    def features(self, x: Tensor) -> Tensor:
        c = self.switches[0](self.norms[0](self.convs[0](x)))
        g = self.switches[1](self.norms[1](self.convs[1](c)) + c)
        return self.switches[2](self.norms[2](self.convs[2](g)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))

    @property
    def layers(self) -> list[Any]:
        return [*self.convs, self.classifier]


def loss(module: Reference, x: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(module(x), labels)


def grad_norm(module: Reference, x: Tensor, labels: Tensor) -> float:
    loss(module, x, labels).backward()
    return math.sqrt(sum(float((parameter.grad**2).sum()) for parameter in module.parameters()))


def snip(module: Reference, x: Tensor, labels: Tensor) -> float:
    """With a mask on every weight, as published: the saliency is the gradient of the mask."""
    masks = [torch.ones_like(layer.weight, requires_grad=True) for layer in module.layers]
    names = [name for name, _ in module.named_parameters() if any(name == f"convs.{i}.weight" for i in range(3))]
    values = dict(module.named_parameters())
    masked = {name: values[name] * mask for name, mask in zip([*names, "classifier.weight"], masks, strict=True)}
    output = torch.func.functional_call(module, masked, (x,))
    nn.functional.cross_entropy(output, labels).backward()
    return sum(float(mask.grad.abs().sum()) for mask in masks)


def grasp(module: Reference, x: Tensor, labels: Tensor) -> float:
    weights = [layer.weight for layer in module.layers]
    first = torch.autograd.grad(loss(module, x, labels), weights)
    second = torch.autograd.grad(loss(module, x, labels), weights, create_graph=True)
    torch.stack([(one.detach() * two).sum() for one, two in zip(first, second, strict=True)]).sum().backward()
    return -sum(float((weight.detach() * weight.grad).sum()) for weight in weights)


def synflow(module: Reference) -> float:
    without = copy.deepcopy(module).double()
    without.norms = nn.ModuleList([nn.Identity() for _ in WIDTHS])
    with torch.no_grad():
        for parameter in without.parameters():
            parameter.abs_()
    without(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum().backward()
    return sum(float((layer.weight.detach() * layer.weight.grad).abs().sum()) for layer in without.layers)


def codes(module: Reference, x: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    hooks = [
        switch.register_forward_hook(lambda _, given, __: found.append((given[0] > 0).flatten(1)))
        for switch in module.switches
    ]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return found


def naswot(module: Reference, x: Tensor) -> float:
    kernel = np.zeros((len(x), len(x)))
    for layer in codes(module, x):
        for i in range(len(x)):
            for j in range(len(x)):
                kernel[i, j] += int((layer[i] == layer[j]).sum())
    return float(np.linalg.slogdet(kernel)[1])


def regions(module: Reference, x: Tensor) -> int:
    joined = torch.cat(codes(module, x), dim=1)
    return len({tuple(code.tolist()) for code in joined})


def swap(module: Reference, x: Tensor) -> int:
    joined = torch.cat(codes(module, x), dim=1)
    return len({tuple(pattern.tolist()) for pattern in joined.t()})


def tangent_rows(module: Reference, x: Tensor) -> Tensor:
    rows = []
    for index in range(len(x)):
        module.zero_grad()
        module(x)[index].sum().backward()
        rows.append(torch.cat([p.grad.flatten() for name, p in module.named_parameters() if "weight" in name]))
    return torch.stack(rows)


def tangent_condition(module: Reference, x: Tensor) -> float:
    jacobian = tangent_rows(module, x).double().numpy()
    values = np.linalg.eigvalsh(jacobian @ jacobian.T)
    return float(values[-1] / values[0])


def published_condition(module: Reference, x: Tensor) -> float:
    """As in the code of Table 1: all in single precision, and 100,000 for what is not a number."""
    rows = tangent_rows(module, x)
    values = torch.linalg.eigh(torch.einsum("nc,mc->nm", [rows, rows])).eigenvalues
    return float(np.nan_to_num((values[-1] / values[0]).item(), nan=100000.0))


def zen(module: Reference | SwitchedOff, x: Tensor, noise: Tensor) -> float:
    """With the running variances that torch keeps of every BatchNorm, starting from a new module."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    with torch.no_grad():
        plain = module.features(x)
        moved = module.features(x + 0.01 * noise)
        score = torch.log((plain - moved).abs().sum(dim=(1, 2, 3)).mean())
        return float(score + sum(torch.log(torch.sqrt(norm.running_var.mean())) for norm in norms))


SWITCHED_OFF = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w0)
    b = BatchNormalization (a, s0, z0, m0, v0)
    c = Conv <pads = [1, 1, 1, 1]> (b, w1)
    d = BatchNormalization (c, s1, z1, m1, v1)
    e = Mul (d, zero)
    f = Conv <pads = [1, 1, 1, 1]> (e, w2)
    g = BatchNormalization (f, s2, z2, m2, v2)
    h = Add (b, g)
    i = Relu (h)
    k = GlobalAveragePool (i)
    l = Flatten (k)
    y = Gemm (l, w3, b3)
"""


def switched_off_model() -> onnx.ModelProto:
    """Return a network with two dead edges: the result of the first is multiplied by zero, and the second gets it."""
    found = {f"w{index}": weights(4, 3 if index == 0 else 4, 3, 3) for index in range(3)}
    found |= {"w3": weights(4, CLASSES), "b3": weights(CLASSES), "zero": np.float32(0)}
    for index in range(3):
        found |= {f"{name}{index}": np.ones(4, np.float32) for name in "sv"}
        found |= {f"{name}{index}": np.zeros(4, np.float32) for name in "zm"}
    return network(SWITCHED_OFF, {"x": ("n", 3, 8, 8)}, found)


class SwitchedOff(nn.Module):
    """The same network, as NAS-Bench-201 writes an edge `none`."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        widths = (3, 4, 4)
        self.convs: Any = nn.ModuleList([nn.Conv2d(width, 4, 3, padding=1, bias=False) for width in widths])
        self.norms: Any = nn.ModuleList([nn.BatchNorm2d(4) for _ in widths])
        for index, conv in enumerate(self.convs):
            conv.weight.data = values[f"w{index}"].clone()

    def features(self, x: Tensor) -> Tensor:
        b = self.norms[0](self.convs[0](x))
        d = self.norms[1](self.convs[1](b))
        off: Tensor = self.norms[2](self.convs[2](d.mul(0.0)))
        return torch.relu(b + off)


def gradsign(module: Reference, x: Tensor, labels: Tensor) -> float:
    totals = [torch.zeros_like(layer.weight) for layer in module.layers]
    for index in range(len(x)):
        module.zero_grad()
        loss(module, x[index : index + 1], labels[index : index + 1]).backward()
        for total, layer in zip(totals, module.layers, strict=True):
            total += torch.sign(layer.weight.grad)
    return sum(float(total.abs().sum()) for total in totals)


def zico(module: Reference, batches: list[tuple[Tensor, Tensor]]) -> float:
    gradients = []
    for x, labels in batches:
        module.zero_grad()
        loss(module, x, labels).backward()
        gradients.append([layer.weight.grad.clone().numpy().ravel() for layer in module.layers])
    score = 0.0
    for layer in zip(*gradients, strict=True):
        spread = np.std(np.array(layer), axis=0)
        mean = np.mean(np.abs(np.array(layer)), axis=0)
        chosen = spread != 0
        score += math.log(np.sum(mean[chosen] / spread[chosen]))
    return score


def jacov(module: Reference, x: Tensor) -> float:
    x = x.clone().requires_grad_()
    module(x).sum().backward()
    correlation = np.corrcoef(x.grad.flatten(1).double().numpy())
    values = np.linalg.eigvalsh(correlation) + 1e-5
    return float(-np.sum(np.log(values) + 1.0 / values))


def outputs_of(module: Reference, x: Tensor, kinds: tuple[type[nn.Module], ...]) -> list[Tensor]:
    found: list[Tensor] = []
    hooks = [
        one.register_forward_hook(lambda _, __, output: found.append(output))
        for one in module.modules()
        if isinstance(one, kinds)
    ]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return found


def meco(module: Reference, x: Tensor) -> float:
    score = 0.0
    for output in outputs_of(module, x, (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)):
        correlation = np.corrcoef(output[0].flatten(1).double().numpy())
        score += float(np.linalg.eigvalsh(correlation)[0])
    return score


def near(module: Reference, x: Tensor, start: Callable[[int, int], int]) -> float:
    """Sum the effective ranks of square matrices of samples times channels, from place `start(number, places)` on.

    In order of the forward pass: what each layer, normalisation and switch hands on.
    """
    score = 0.0
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Linear)
    for number, output in enumerate(outputs_of(module, x, kinds)):
        channels = output.shape[1]
        if output.dim() == 4:  # every position of every sample is one
            rows = np.array([output[n, :, i, j].numpy() for n, i, j in np.ndindex(len(output), *output.shape[2:])])
        else:
            rows = output.numpy()
        spare = len(rows) - channels
        first = start(number, spare + 1) if spare > 0 else 0
        singular = np.linalg.svd(rows[first : first + channels].astype(np.float64), compute_uv=False)
        shares = singular / singular.sum()
        shares = shares[shares > 0]
        score += float(np.exp(-np.sum(shares * np.log(shares))))
    return score


def fisher_deciles(module: Reference, x: Tensor) -> list[float]:
    """Of the first element of each parameter, by finite loops: one derivative for each sample and class."""
    module = copy.deepcopy(module).double().eval()
    total = 0.0
    for sample in x.double():
        output = module(sample[None])[0]
        chance = output.detach().softmax(dim=0).numpy() * 0.95 + 0.05 / CLASSES
        rows = []
        for value in output:
            gradients = torch.autograd.grad(value, list(module.parameters()), retain_graph=True)
            rows.append([float(gradient.flatten()[0]) for gradient in gradients])
        jacobian = np.array(rows)
        total = total + jacobian.T @ (np.diag(chance) - np.outer(chance, chance)) @ jacobian / len(x)
    values = np.linalg.svd(total, compute_uv=False)
    return np.quantile(values, np.arange(0.1, 1.0, 0.1)).tolist()
