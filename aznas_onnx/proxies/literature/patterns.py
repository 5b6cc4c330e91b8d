"""Activation patterns of samples: naswot, swap, and the linear regions of te_nas."""

from __future__ import annotations

import numpy as np
import torch

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.operators.sets import SWITCHES
from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.seeded_network import CompiledNetwork, InapplicableError, SeededNetwork, StepRecord, wide

__all__ = ["measure_patterns"]

Tensor = torch.Tensor
_WORD = 24  # samples in one number: sums of powers of two that are exact in float32


def _is_switch(node: Node, compiled: CompiledNetwork) -> bool:
    """Whether a node is ReLU-like: its sign splits its inputs in two, as ReLU, ReLU6, leaky and exponential ones do."""
    if node in SWITCHES:
        return True
    if not node.is_op("Clip"):
        return False
    floor = compiled.model.infos.value(node.input(1)) if node.input(1) else node.attributes.get("min")
    return floor is not None and float(np.asarray(floor, dtype=np.float64).max()) == 0.0


class _Patterns:
    """Collects signs as a watch of a run."""

    def __init__(self, compiled: CompiledNetwork) -> None:
        self._compiled = compiled
        self._samples = compiled.model.infos.batch_size
        self.agreement = wide(torch.zeros(self._samples, self._samples, device=compiled.device))
        self.units = 0
        self.codes: list[Tensor] = []
        self._places = _places(self._samples, compiled.device)

    def __call__(self, seen: StepRecord) -> None:
        entering = seen.inputs[0] if seen.inputs else None
        if entering is None or not _is_switch(seen.node, self._compiled):
            return
        entering = self._compiled.samples_first(seen.node.inputs[0], entering)
        if entering.shape[:1] != (self._samples,):
            return
        active = (entering > 0).reshape(self._samples, -1).to(torch.float32)
        units = active.shape[1]
        # Two samples agree where both are active or neither is; sums of ones are exact in float32 up to 2**24.
        both = wide(torch.mm(active, active.t()))
        either = both.diagonal()[:, None] + both.diagonal()[None, :] - both
        readers = self._readers(seen.node)
        self.agreement += (both + (units - either)) * readers
        self.units += units * readers
        self.codes.append(torch.mm(self._places, active).to(torch.int32))

    def _readers(self, node: Node) -> int:
        """Return the number of layers that read a node's units; 1 where none does.

        Pre-activation networks have a ReLU per convolution, and published code counts each; where several read the same
        tensor, the canonical graph has one.
        """
        readers = self._compiled.model.graph.consumers.get(node.outputs[0], ())
        plan = self._compiled.plan
        return max(
            1, sum(any(name in plan and plan[name].role.is_weight for name in reader.inputs) for reader in readers)
        )


def measure_patterns(instance: SeededNetwork) -> StatisticResult:
    """Measure, in one forward pass, the log-determinant of agreements, the distinct codes and the distinct patterns."""
    compiled = instance.network.at()
    patterns = _Patterns(compiled)
    instance.observe(compiled, patterns)
    if not patterns.units:
        raise InapplicableError("it needs ReLU-like units, and the network has none")
    agreement = patterns.agreement.cpu()
    sign, logarithm = torch.linalg.slogdet(agreement)
    equal = (agreement == patterns.units).sum(dim=1)  # a sample's code equals its own, so this is at least 1
    return StatisticResult(
        values={
            "naswot": logarithm.item() if sign > 0 else float("-inf"),
            "regions": (1.0 / equal).sum().item(),
            "swap": float(_distinct(torch.cat(patterns.codes, dim=1))),
        }
    )


def _places(samples: int, device: torch.device) -> Tensor:
    """Return the (words, samples) matrix that makes each unit's pattern over the samples a few whole numbers."""
    sample = torch.arange(samples, device=device)
    places = torch.zeros(-(-samples // _WORD), samples, device=device)
    places[sample // _WORD, sample] = 2.0 ** (sample % _WORD)
    return places


def _distinct(codes: Tensor) -> int:
    """Return how many different columns there are, by numbering them one row after the other."""
    _, numbers = torch.unique(codes[0], return_inverse=True)
    for row in codes[1:]:
        kinds, others = torch.unique(row, return_inverse=True)
        _, numbers = torch.unique(numbers * len(kinds) + others, return_inverse=True)
    return int(numbers.max()) + 1
