"""Spectra of layer outputs: meco and near."""

from __future__ import annotations

import math

import torch

from aznas_onnx.initialise import Stream, generator
from aznas_onnx.operators import OPERATORS, Family
from aznas_onnx.operators.sets import ACTIVATIONS
from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import InapplicableError, SeededNetwork, StepRecord, wide

__all__ = ["measure_correlations", "measure_ranks"]

Tensor = torch.Tensor
_LAYERS = OPERATORS.family(
    Family.CONVOLUTION, Family.LINEAR, Family.NORMALIZATION, Family.LAYER_NORMALIZATION, Family.AXIS_NORMALIZATION
)
_POOLS = OPERATORS.family(Family.POOLING, Family.GLOBAL_POOLING)


def measure_correlations(instance: SeededNetwork) -> StatisticResult:
    """Measure meco: the sum over feature maps of the smallest eigenvalue of the correlation of their channels."""
    compiled = instance.network.at(1)
    found: list[Tensor] = []

    def watch(seen: StepRecord) -> None:
        node, output = seen.node, seen.output
        if (
            not (node in _LAYERS or node in ACTIVATIONS or node in _POOLS)
            or output.dim() != 4
            or output[0, 0].numel() < 2
        ):
            return
        if not bool(output[0].isfinite().all()):
            found.append(wide(torch.full((), math.nan, device=output.device)))
            return
        # A channel that is constant has no correlation with any.
        correlation = torch.corrcoef(wide(output[0].flatten(1))).nan_to_num(0.0, 0.0, 0.0)
        if correlation.dim() == 2:
            found.append(torch.linalg.eigvalsh(correlation)[0])

    instance.observe(compiled, watch)
    if not found:
        raise InapplicableError(
            "it needs feature maps with channels and two axes of positions, and the network has none"
        )
    return StatisticResult(values={"meco": torch.stack(found).sum().item()})


def measure_ranks(instance: SeededNetwork) -> StatisticResult:
    """Measure near: the sum over layers of the effective rank of what enters and what leaves their activations."""
    compiled = instance.network.at()
    ranks: list[Tensor] = []

    def watch(seen: StepRecord) -> None:
        node, output = seen.node, seen.output
        is_layer = node in _LAYERS and any(name in compiled.plan for name in node.inputs)
        if (is_layer or node in ACTIVATIONS) and output.dim() in (2, 3, 4):
            rows = _square(output, instance.seed, len(ranks))
            if not bool(rows.isfinite().all()):
                ranks.append(torch.full((), math.nan, device=rows.device))
                return
            spectrum = torch.linalg.svdvals(rows)
            shares = spectrum / spectrum.sum().clamp_min(torch.finfo(spectrum.dtype).tiny)
            ranks.append(torch.special.entr(shares).sum().exp())

    instance.observe(compiled, watch)
    if not ranks:
        raise InapplicableError("it needs layers with weights, and the network has none")
    return StatisticResult(values={"near": torch.stack(ranks).sum().item()})


def _square(output: Tensor, seed: int, index: int) -> Tensor:
    """Return as many of a layer's samples as it has channels: rows in a row, from a random place on."""
    axis = 1 if output.dim() == 4 else output.dim() - 1
    rows = output.movedim(axis, -1).reshape(-1, output.shape[axis])
    spare = len(rows) - rows.shape[1]
    if spare <= 0:
        return rows
    host = torch.device("cpu")
    start = int(torch.randint(spare + 1, (), generator=generator(seed, Stream.POSITION, index, host), device=host))
    return rows[start : start + rows.shape[1]]
