"""AZ-NAS as a straightforward PyTorch port of the paper: the baseline of our measurements.

One forward pass of the whole network with autograd on, then, block by block from the last, the vector-Jacobian
product by ``torch.autograd.grad``, with ``eigvalsh`` and ``svdvals`` of full matrices and ``.item()`` at each block.
It works on any ``nn.Module`` whose primary blocks are submodules with (batch, channels, height, width) or (batch,
tokens, channels) outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["expressivity_of", "initialise", "initialise_transformer", "jacobian_score", "resnet_blocks", "score"]


def initialise(model: nn.Module) -> None:
    """Kaiming normal (fan-in, ReLU gain) for convolutions and linear layers, and fresh normalisation."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def initialise_transformer(model: nn.Module) -> None:
    """Truncated normal of deviation 0.02 for all but normalisation, biases and convolutions, as AutoFormer has it."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            elif not isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(parameter, std=0.02)


def rows_of(tensor: Tensor) -> Tensor:
    """Samples times channels, of (batch, channels, height, width) or (batch, tokens, channels)."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(
        -1, tensor.shape[1 if tensor.dim() == 4 else 2]
    )


def resnet_blocks(model: nn.Module) -> list[nn.Module]:
    """Stem and residual blocks of a torchvision ResNet."""
    stages = [model.get_submodule(f"layer{index}") for index in range(1, 5)]
    return [model.get_submodule("relu"), *(block for stage in stages for block in stage.children())]


def features_of(model: nn.Module, blocks: Sequence[nn.Module], inputs: Tensor) -> list[Tensor]:
    """Run the model and return the blocks' outputs, each with its autograd history."""
    features: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _module, _inputs, output: features.append(output)) for block in blocks]
    model(inputs)
    for hook in hooks:
        hook.remove()
    return features


def expressivity_of(feature: Tensor) -> float:
    """Entropy of the spectrum of the feature covariance (Eq. 1-3)."""
    rows = rows_of(feature.detach())
    rows = rows - rows.mean(dim=0, keepdim=True)
    values = torch.linalg.eigvalsh(rows.t() @ rows / rows.shape[0])
    shares = values / values.sum()
    return (-shares * torch.log(shares + 1e-8)).sum().item()


def jacobian_score(f_in: Tensor, f_out: Tensor, g_out: Tensor) -> float:
    """Score of one block's Jacobian (Eq. 10-11)."""
    g_in = torch.autograd.grad(outputs=f_out, inputs=f_in, grad_outputs=g_out, retain_graph=False)[0]
    if g_in.shape == g_out.shape and torch.all(g_in == g_out):
        return -np.inf
    if g_in.dim() == 4 and g_in.shape[2] != g_out.shape[2]:
        g_in = nn.PixelUnshuffle(g_in.shape[2] // g_out.shape[2])(g_in)
    rows_in, rows_out = rows_of(g_in), rows_of(g_out)
    sigma = torch.linalg.svdvals(rows_in.t() @ rows_out / rows_out.shape[0]).max().item()
    return -sigma - 1 / (sigma + 1e-6) + 2


def score(
    model: nn.Module, blocks: Sequence[nn.Module], inputs: Tensor, signs: Sequence[Tensor] | None = None
) -> dict[str, float]:
    """Return expressivity, progressivity and trainability of a model in its present state.

    Parameters
    ----------
    signs
        Output gradients of the blocks, for a comparison with other implementations; drawn where they are not given.
    """
    model.train()
    features = features_of(model, blocks, inputs)
    entropies = np.array([expressivity_of(feature) for feature in features])
    scores = []
    for index in reversed(range(1, len(features))):
        f_in, f_out = features[index - 1], features[index]
        g_out = (torch.bernoulli(torch.full_like(f_out, 0.5)) - 0.5) * 2 if signs is None else signs[index]
        scores.append(jacobian_score(f_in, f_out, g_out))
    return {
        "expressivity": float(entropies.sum()),
        "progressivity": float(np.diff(entropies).min()),
        "trainability": float(np.mean(scores)),
    }
