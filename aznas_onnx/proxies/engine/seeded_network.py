"""A network under one seed, for proxies beyond the block-by-block pass.

Statistics share no state: weights are sampled for each statistic, as leaf tensors outside the program, so that changes
of weights or normalisation by one have no effect on others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch

from aznas_onnx.initialise import Stream, Weight, WeightSource, generator
from aznas_onnx.proxies.engine.compiled_network import (
    CompiledNetwork,
    InapplicableError,
    RandomNetwork,
    StepHook,
    StepRecord,
)

__all__ = [
    "CompiledNetwork",
    "InapplicableError",
    "RandomNetwork",
    "SeededNetwork",
    "StepHook",
    "StepRecord",
    "Weights",
    "gradients_of",
    "require_gradients",
    "wide",
]

T = TypeVar("T")
Tensor = torch.Tensor
Weights = Mapping[str, Tensor]


class SeededNetwork:
    """A network under one seed: everything random about it.

    Parameters
    ----------
    network
        The network.
    seed
        Together with a weight's place in the graph it determines the weight.
    """

    def __init__(self, network: RandomNetwork, seed: int) -> None:
        self.network = network
        self.seed = seed
        self._known: dict[object, Any] = {}

    def once(self, key: object, compute: Callable[[], T]) -> T:
        """Return the cached result of a computation: statistics share passes by it."""
        if key not in self._known:
            self._known[key] = compute()
        return cast("T", self._known[key])

    def feeds(
        self, compiled: CompiledNetwork, number: int = 0, *, ones: bool = False, noise: bool = False
    ) -> dict[str, Tensor]:
        """Sample batch `number` of inputs; AZ-NAS uses batch 0 at the settings' batch size.

        - `ones`, `noise`: Whether samples are ones or standard normal numbers, whatever the settings' feed.
        """
        return compiled.feeds.draw(self.seed, number, ones=ones, noise=noise)

    def weights(
        self,
        compiled: CompiledNetwork,
        distribution: Callable[[Weight], Weight] | None = None,
        *,
        without: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Sample all weights.

        Parameters
        ----------
        compiled
            The network, which has the weights and the precision.
        distribution
            Replaces the distribution of a weight; by default it is this project's initialisation.
        without
            Names of weights to leave out.
        """
        plan = {
            name: distribution(weight) if distribution else weight
            for name, weight in compiled.plan.items()
            if name not in without
        }
        source = WeightSource(plan, self.seed, compiled.device, compiled.dtype)
        return {name: source.draw(name) for name in plan}

    def observe(self, compiled: CompiledNetwork, watch: StepHook) -> None:
        """Run the network without gradients, and show each step to `watch`."""
        with torch.no_grad():
            compiled.run(self.feeds(compiled), self.weights(compiled), compiled.program.outputs, watch)

    def labels(self, classes: int, count: int, number: int = 0) -> Tensor:
        """Return a class for each sample of batch `number`: that of the user's file, else one sampled uniformly.

        Raises InapplicableError if the file has classes that the network does not have.
        """
        device, feed = self.network.device, self.network.feed
        given = feed.samples()
        if given is not None and given.labels is not None:
            if given.labels.max() >= classes:
                raise InapplicableError(
                    f"the labels of {feed.path} go to {given.labels.max()}, and the network has {classes} classes"
                )
            return torch.from_numpy(given.labels[given.choice(self.seed, count, number)]).to(device)
        source = generator(self.seed, Stream.LABEL, number, device)
        return torch.randint(classes, (count,), generator=source, device=device)

    def loss(self, compiled: CompiledNetwork, weights: Weights, number: int = 0) -> Tensor:
        """Return the mean cross-entropy of batch `number` with random labels."""
        logits = self.logits(compiled, weights, self.feeds(compiled, number))
        return torch.nn.functional.cross_entropy(logits, self.labels(logits.shape[1], len(logits), number))

    def logits(self, compiled: CompiledNetwork, weights: Weights, feeds: Mapping[str, Tensor]) -> Tensor:
        """Return the network's (batch, classes) output."""
        name = compiled.logits
        return compiled.run(feeds, weights, [name])[name].flatten(1)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision, on its device where that has it; Apple's GPUs do not, hence the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def require_gradients(compiled: CompiledNetwork, weights: Weights, which: Callable[[Weight], bool]) -> list[Tensor]:
    """Make leaves of some weights and return them; raise InapplicableError if there are none."""
    chosen = [weights[name].requires_grad_() for name, weight in compiled.plan.items() if which(weight)]
    if not chosen:
        raise InapplicableError("it needs a convolution or a linear layer, and the network has none")
    return chosen


def gradients_of(
    output: Tensor,
    tensors: Sequence[Tensor],
    grad_output: Tensor | None = None,
    *,
    keep_graph: bool = False,
    differentiable: bool = False,
) -> list[Tensor | None]:
    """Return the gradient of an output in each of some tensors; None where it does not depend on one.

    Raises InapplicableError if it depends on none.
    """
    if not output.requires_grad:
        raise InapplicableError("the output depends on no weight of the network")
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        output,
        tensors,
        grad_output,
        retain_graph=keep_graph or differentiable,
        create_graph=differentiable,
        allow_unused=True,
    )
    if all(gradient is None for gradient in found):
        raise InapplicableError("the output depends on no weight of the network")
    return list(found)
