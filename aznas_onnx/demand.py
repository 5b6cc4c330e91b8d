"""Estimate time and memory of a scoring pass from the graph alone.

Passes beyond the limits are refused by this estimate; docs/coverage.md compares it with measurements. It does not
include other load or a slow machine; for these the user sets ``--time-limit``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aznas_onnx.blocks import Block, Blocks
from aznas_onnx.costs import Costs, NodeCost
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Model
from aznas_onnx.graph.ir.graph import Graph, Node
from aznas_onnx.memory import check_memory
from aznas_onnx.operators.sets import PLAIN_CONVOLUTIONS, POOLS, RECURRENT

__all__ = ["Demand", "check_copies", "demand_of"]

MOST_STEPS = 100_000
"""Steps of a recurrent operator that are always accepted: each waits for the one before."""
USUAL_LIMIT_S = 3600.0

_PASSES = 3  # forward, and the two products of backward
_MACS_PER_S = 6e10
_GROUPED_MACS_PER_S = 6e9  # few products share what was loaded
_ELEMENTS_PER_S = 8e8
_WINDOW_ELEMENTS_PER_S = 1e9
_STEP_S = 5e-5
_FACTORISED_PER_S = 1e10  # n**3 of a symmetric matrix
_ACCELERATOR = 50.0
_FLOAT_BYTES = 4
_FIRST_BYTES = 10**8  # that libraries touch as they are used
_HELD = 2.3  # bytes at the peak, gradients included, for each byte of a block's activations
_GAPS = 1.3  # for each of them, where the memory of freed tensors is reused (scoring/allocator.py)
_WITH_GAPS = range(2**23, 2**27)  # bytes of the largest tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The time and memory of a scoring pass.

    - `seconds`: For all seeds.
    - `size_bytes`: Peak memory in addition to that of the process.
    - `slowest`, `largest`: The node that takes most time, and the block that takes most memory, for messages.
    - `steps`: Of the longest recurrent operator.
    """

    seconds: float
    size_bytes: int
    slowest: str
    largest: str
    steps: int

    def check(self, name: str, batch_size: int, limit_s: float | None, *, on_cpu: bool) -> None:
        """Raise SettingsError for a pass beyond the limit of time, or of the memory that there is."""
        remedy = "use a smaller --batch-size or --effort fast for all models that you compare"
        what = f"{name}: scoring it at batch size {batch_size}"
        most_s = USUAL_LIMIT_S if limit_s is None else limit_s
        if self.seconds > most_s:
            raise SettingsError(
                f"{what} takes an estimated {_duration(self.seconds)}, above the limit of {_duration(most_s)}, most of "
                f"it in {self.slowest}; {remedy}, or allow more with --time-limit SECONDS"
            )
        if limit_s is None and self.steps > MOST_STEPS:
            raise SettingsError(
                f"{what} runs {self.steps:,} steps one after the other, in {self.slowest}, and at most {MOST_STEPS:,} "
                "are usual; give a shorter sequence with --input, or allow it with --time-limit SECONDS"
            )
        if on_cpu:
            check_memory(self.size_bytes, what, f"most of it for {self.largest}; {remedy}")


def check_copies(graph: Graph, copies: int, what: str) -> None:
    """Raise SettingsError where memory does not suffice to read all weights of a graph `copies` times."""
    read = (constant for constant in graph.constants.values() if constant.origin is None)
    weights_bytes = sum(constant.elements * constant.dtype.itemsize for constant in read)
    if weights_bytes > _FIRST_BYTES:
        check_memory(copies * weights_bytes, what, "do it on a machine, or in a container, with more")


def demand_of(
    model: Model,
    found: Blocks,
    costs: Costs,
    *,
    batch_size: int,
    seeds: int = 1,
    gradients: bool = True,
    whole: bool = False,
    threads: int = 1,
    on_cpu: bool = True,
) -> Demand:
    """Estimate the time and memory of a pass.

    - `model`, `found`, `costs`: As read, at any batch size.
    - `gradients`: Whether it has a backward pass.
    - `whole`: Whether a proxy needs all activations of the network at once.
    - `threads`: Of the processor; not used on an accelerator.
    """
    estimate = _Estimate(model, costs, batch_size, gradients=gradients)
    speed = threads if on_cpu else _ACCELERATOR
    times = [(estimate.seconds(node), node) for node in model.graph.nodes]
    spectra = sum(estimate.spectral_seconds(block, before) for block, before in _pairs(found.blocks))
    passes = (_PASSES if gradients else 1) * (2 if whole else 1)
    longest = max(times, key=lambda found: found[0], default=None)
    sizes = [(estimate.block_bytes(block, before), f"block {block.name!r}") for block, before in _pairs(found.blocks)]
    if whole:
        sizes.append((estimate.bytes_of(model.graph.nodes, backward=gradients), "the network as a whole"))
    largest = max(sizes, key=lambda found: found[0])
    return Demand(
        seconds=seeds * (passes * sum(time for time, _ in times) / speed + spectra / (1 if on_cpu else speed)),
        size_bytes=largest[0] + estimate.weight_bytes() + _FIRST_BYTES,
        slowest="no node" if longest is None else f"node {longest[1].name!r} ({longest[1].operator})",
        largest=largest[1],
        steps=max(map(estimate.steps, model.graph.nodes), default=0),
    )


class _Estimate:
    def __init__(self, model: Model, costs: Costs, batch_size: int, *, gradients: bool) -> None:
        self._model = model
        self._costs: dict[str, NodeCost] = {cost.node: cost for cost in costs.nodes}
        self._nodes = {node.name: node for node in model.graph.nodes}
        self._batch_size = batch_size
        self._growth = batch_size / max(1, model.infos.batch_size)
        self._gradients = gradients

    def seconds(self, node: Node) -> float:
        """Return the time of a node's forward pass on one core."""
        cost = self._costs[node.name]
        elements = cost.activation_bytes / _FLOAT_BYTES * self._batch_size
        grouped = node in PLAIN_CONVOLUTIONS and node.attributes.get("group", 1) != 1
        window = elements * self._window(node) / _WINDOW_ELEMENTS_PER_S if node in POOLS or node.is_op("LRN") else 0.0
        products = cost.macs * self._batch_size / (_GROUPED_MACS_PER_S if grouped else _MACS_PER_S)
        return products + elements / _ELEMENTS_PER_S + window + self.steps(node) * _STEP_S

    @staticmethod
    def _window(node: Node) -> int:
        kernel: Any = node.attributes.get("kernel_shape") or (node.attributes.get("size", 1),)
        return math.prod(kernel)

    def steps(self, node: Node) -> int:
        """Return how many steps a node runs one after the other."""
        if node not in RECURRENT:
            return 0
        shape = self._model.infos[node.inputs[0]].shape or (0, 0)
        both = 2 if node.attributes.get("direction") == "bidirectional" else 1
        return both * shape[1 if node.attributes.get("layout", 0) else 0]

    def bytes_of(self, nodes: Iterable[Node], *, backward: bool) -> int:
        """Return the size of the tensors that nodes save for a backward pass; without one, the largest."""
        made = [self._costs[node.name].activation_bytes * self._batch_size for node in nodes]
        largest = max(made, default=0)
        held = _HELD * sum(made) if backward else largest
        return int((held + largest) * (_GAPS if largest in _WITH_GAPS else 1))

    def weight_bytes(self) -> int:
        """Return the size of the weights, which are sampled for the network as a whole."""
        infos = self._model.infos
        read = {name for node in self._nodes.values() for name in node.inputs if name in self._model.graph.constants}
        return sum(_FLOAT_BYTES * infos[name].elements for name in read)

    def block_bytes(self, block: Block, before: Block | None) -> int:
        """Return the size of a block's stage and of the matrices of its spectrum; the first has no gradient."""
        width, samples = self._sizes(block)
        matrix = min(width, samples) ** 2 * _FLOAT_BYTES
        backward = self._gradients and before is not None
        return self.bytes_of((self._nodes[name] for name in block.nodes), backward=backward) + 3 * matrix

    def spectral_seconds(self, block: Block, before: Block | None) -> float:
        """Return the time that a block's covariance, Jacobian and their eigenvalues take."""
        width, samples = self._sizes(block)
        narrow = min(width, samples)
        seconds = width * samples * narrow / _MACS_PER_S + narrow**3 / _FACTORISED_PER_S
        if before is not None and self._gradients:
            width_in, samples_in = self._sizes(before)
            seconds += width_in * width * max(samples, samples_in) / _MACS_PER_S
        return seconds

    def _sizes(self, block: Block) -> tuple[int, int]:
        """Return the channels of a block's feature map, and how many vectors of them the batch has."""
        info = self._model.infos[block.output]
        shape = info.shape or (1, 1)
        width = max(1, shape[block.channel_axis] if block.channel_axis < len(shape) else shape[-1])
        return width, max(1, int(info.elements * self._growth) // width)


def _pairs(blocks: tuple[Block, ...]) -> Iterable[tuple[Block, Block | None]]:
    return zip(blocks, (None, *blocks[:-1]), strict=True)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:,.0f} minutes"
    return f"{seconds / 3600:,.0f} hours"
