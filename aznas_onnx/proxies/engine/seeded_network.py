"""A whole network under a seed, for proxies beyond the block-by-block pass.

Statistics share no state: weights are sampled for each statistic, as leaf tensors outside the program, so that changes
of weights or normalisation by one have no effect on others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar, cast

import torch

from aznas_onnx.convert import Program, Step, compile_program
from aznas_onnx.convert.program import run_step
from aznas_onnx.errors import AznasError, ModelError, first_line
from aznas_onnx.graph import Limits, Model
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.initialise import Stream, WeightSource, generator, prepare_for_batch
from aznas_onnx.initialise.plan import Weight
from aznas_onnx.proxies.engine.blockpass import is_out_of_memory
from aznas_onnx.proxies.engine.evidence import StatisticResult
from aznas_onnx.proxies.engine.feeds import FeedSource
from aznas_onnx.proxies.engine.statistic import NetworkStatistic
from aznas_onnx.timing import Clock
from aznas_onnx.user_modules import place, summary

__all__ = [
    "Compiled",
    "InapplicableError",
    "SeededNetwork",
    "RandomNetwork",
    "StepRecord",
    "StepHook",
    "gradients_of",
    "measure",
    "require_gradients",
    "wide",
]

T = TypeVar("T")
Tensor = torch.Tensor
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepRecord:
    """A step that has just run.

    Attributes
    ----------
    node
        The node of the step.
    run
        Computes the output, also from other inputs.
    inputs, output
        Its inputs, and its first output.
    """

    node: Node
    run: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Tensor | None, ...]
    output: Tensor


StepHook = Callable[[StepRecord], "Tensor | None"]
"""Called after each step; what it returns, if anything, takes the place of the step's first output."""


class InapplicableError(AznasError):
    """A statistic is not defined for a network; the message has the reason, in words for the user."""


class RandomNetwork:
    """A model whose network statistics are measured, under any number of seeds.

    Parameters
    ----------
    model
        At any batch size.
    is_transformer
        Whether the initialisation of transformers applies.
    batch_size, device
        Batch size and device, unless a statistic requests another batch size.
    limits
        Limits on the model.
    """

    def __init__(
        self,
        model: Model,
        *,
        is_transformer: bool,
        batch_size: int,
        device: torch.device,
        limits: Limits | None = None,
    ) -> None:
        self.is_transformer = is_transformer
        self.batch_size = batch_size
        self.device = device
        self._model = model
        self._limits = limits
        self._sized: dict[int, tuple[Model, Mapping[str, Weight]]] = {}
        self._compiled: dict[tuple[int, torch.dtype, bool], Compiled] = {}

    def at(
        self, batch_size: int | None = None, *, dtype: torch.dtype = torch.float32, use_batch_statistics: bool = True
    ) -> Compiled:
        """Return the network compiled for a batch size; compiled networks are cached.

        Parameters
        ----------
        batch_size
            Default: that of the settings.
        dtype
            Of all floating-point tensors.
        use_batch_statistics
            Whether BatchNormalization normalises. Otherwise it has mean 0 and variance 1, as in evaluation mode before
            training: the identity up to epsilon.

        Raises
        ------
        InapplicableError
            If the file works at another batch size only, or the device has no such precision.
        """
        size = self.batch_size if batch_size is None else batch_size
        key = (size, dtype, use_batch_statistics)
        if key not in self._compiled:
            if dtype is torch.float64 and self.device.type == "mps":
                raise InapplicableError("it needs double precision, which Apple's GPUs do not have; use the CPU")
            sized, plan = self._sized_model(size)
            program = compile_program(
                sized.graph,
                sized.infos,
                {name: torch.empty(weight.shape, device="meta") for name, weight in plan.items()},
                device=self.device,
                dtype=dtype,
                training=use_batch_statistics,
            )
            self._compiled[key] = Compiled(model=sized, program=program, plan=plan, device=self.device, dtype=dtype)
        return self._compiled[key]

    def _sized_model(self, size: int) -> tuple[Model, Mapping[str, Weight]]:
        if size not in self._sized:
            own = self._model.inputs.declared_batch
            if self._model.fixed_batch and size != own:
                raise InapplicableError(f"it needs a batch of {size}, and the file works at batch size {own} only")
            self._sized[size] = prepare_for_batch(self._model, size, self._limits, is_transformer=self.is_transformer)
        return self._sized[size]


@dataclass(frozen=True, kw_only=True, eq=False)
class Compiled:
    """A network at one batch size and precision.

    Attributes
    ----------
    model
        Graph and infos at that batch size.
    program
        The same as torch calls; the constants of `plan` are arguments.
    plan
        Distributions of its weights.
    device, dtype
        Device and precision.
    """

    model: Model
    program: Program
    plan: Mapping[str, Weight]
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def logits(self) -> str:
        """The first output of shape (batch, classes), before any softmax that ends the network.

        Raises InapplicableError if there is none.
        """
        infos = self.model.infos
        for name in self.model.graph.outputs:
            shape = infos[name].shape
            is_wide = shape is not None and len(shape) >= 2 and sum(size > 1 for size in shape[1:]) == 1
            if is_wide and shape is not None and shape[0] == infos.batch_size and infos[name].dtype.kind == "f":
                producer = self.model.graph.producers.get(name)
                return (
                    producer.inputs[0]
                    if producer is not None and producer.is_op("Softmax", "LogSoftmax", "Sigmoid")
                    else name
                )
        raise InapplicableError("it needs an output of shape (batch, classes), and the network has none")

    def batch_axis(self, name: str) -> int:
        """Return the axis of a tensor that samples are counted along."""
        return self.model.layout.batch_axes.get(name, 0)

    def samples_first(self, name: str, tensor: Tensor) -> Tensor:
        """Return the view of a tensor of the graph with the batch in front: in time-major networks it stands behind."""
        axis = self.batch_axis(name)
        return tensor.movedim(axis, 0) if 0 < axis < tensor.dim() else tensor

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """The node of each step, by name."""
        return {node.name: node for node in self.model.graph.nodes}

    def run(
        self,
        feeds: Mapping[str, Tensor],
        weights: Weights,
        keep: Collection[str],
        watch: StepHook | None = None,
    ) -> dict[str, Tensor]:
        """Run the steps that some tensors need, and return those tensors.

        Gradients are recorded for weights or feeds that require them, in torch's current mode. Other tensors are freed
        after their last use, unless autograd references them.

        Parameters
        ----------
        feeds, weights
            By name; they must be of this precision and on this device.
        keep
            Names of the wanted tensors.
        watch
            Called with each step; can change its first output.
        """
        environment: dict[str, Tensor] = {**self.program.constants, **weights, **feeds}
        wanted = set(keep)
        steps = self._steps_for(tuple(keep))
        for step, dropped in steps:
            run_step(step, environment)
            if watch is not None and step.outputs[0]:
                inputs = tuple(environment[name] if name else None for name in step.inputs)
                output = environment[step.outputs[0]]
                other = watch(StepRecord(node=self.nodes[step.node], run=step.run, inputs=inputs, output=output))
                if other is not None:
                    environment[step.outputs[0]] = other
            for name in dropped:
                if name not in wanted:
                    environment.pop(name, None)
        return {name: environment[name] for name in keep}

    def _steps_for(self, keep: tuple[str, ...]) -> list[tuple[Step, tuple[str, ...]]]:
        """Return the steps that some tensors depend on, each with the tensors that are unread after it."""
        needed, chosen, later = set(keep), [], set(keep)
        for step in reversed(self.program.steps):
            if needed.isdisjoint(name for name in step.outputs if name):
                continue
            names = dict.fromkeys(name for name in (*step.inputs, *step.outputs) if name)
            chosen.append((step, tuple(name for name in names if name not in later)))
            later.update(names)
            needed.update(step.inputs)
        chosen.reverse()
        return chosen


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

    def feeds(self, compiled: Compiled, number: int = 0, *, ones: bool = False) -> dict[str, Tensor]:
        """Sample batch `number` of inputs; AZ-NAS uses batch 0 at the settings' batch size."""
        drawn = FeedSource(compiled.model, compiled.device).draw(self.seed, number, ones=ones)
        return {name: _as(tensor, compiled.dtype) for name, tensor in drawn.items()}

    def weights(
        self, compiled: Compiled, law: Callable[[Weight], Weight] | None = None, *, without: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Sample all weights.

        Parameters
        ----------
        compiled
            The network, which has the weights and the precision.
        law
            Replaces the distribution of a weight; by default it is this project's initialisation.
        without
            Names of weights to leave out.
        """
        plan = {name: law(weight) if law else weight for name, weight in compiled.plan.items() if name not in without}
        source = WeightSource(plan, self.seed, compiled.device)
        return {name: _as(source.draw(name), compiled.dtype) for name in plan}

    def labels(self, classes: int, count: int, number: int = 0) -> Tensor:
        """Sample a class for each sample of batch `number`, uniformly."""
        device = self.network.device
        source = generator(self.seed, Stream.LABEL, number, device)
        return torch.randint(classes, (count,), generator=source, device=device)

    def loss(self, compiled: Compiled, weights: Weights, number: int = 0) -> Tensor:
        """Return the mean cross-entropy of batch `number` with random labels."""
        logits = self.logits(compiled, weights, self.feeds(compiled, number))
        return torch.nn.functional.cross_entropy(logits, self.labels(logits.shape[1], len(logits), number))

    def logits(self, compiled: Compiled, weights: Weights, feeds: Mapping[str, Tensor]) -> Tensor:
        """Return the network's (batch, classes) output."""
        name = compiled.logits
        return compiled.run(feeds, weights, [name])[name].flatten(1)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision, on its device where that has it; Apple's GPUs do not, hence the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def require_gradients(compiled: Compiled, weights: Weights, which: Callable[[Weight], bool]) -> list[Tensor]:
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


def measure(
    network: RandomNetwork,
    seed: int,
    measurements: Iterable[NetworkStatistic],
    clock: Clock,
    owners: Mapping[str, str] = MappingProxyType({}),
) -> Mapping[str, StatisticResult]:
    """Measure statistics of a network under a seed, each with its own copy of the weights.

    A statistic that is not defined for the network, or that torch cannot compute (an operator without a second
    derivative), has a reason and is no error; so has one that fails on this network's numbers, which then rank it
    lowest.

    Parameters
    ----------
    network, seed
        The network and the seed.
    measurements
        The statistics.
    clock
        Measures the time of each.
    owners
        By statistic: the user proxy that needs it. An exception in it costs that proxy its value.
    """
    instance = SeededNetwork(network, seed)
    results = {}
    for measurement in measurements:
        with clock.phase(measurement.name):
            results[measurement.name] = _measure(measurement, instance, owners.get(measurement.name))
    return MappingProxyType(results)


def _measure(measurement: NetworkStatistic, instance: SeededNetwork, owner: str | None) -> StatisticResult:
    try:
        return measurement.measure(instance)
    except (InapplicableError, ModelError) as error:
        return StatisticResult(reason=str(error))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        is_numerical = isinstance(error, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
        if owner is not None and not is_numerical and not _is_unsupported(error):
            return StatisticResult(reason=f"proxy {owner!r} fails: {summary(error)} ({place(error)})", is_lost=True)
        if not isinstance(error, RuntimeError):
            raise
        reason = f"torch cannot compute it here: {first_line(error)}"
        return StatisticResult(reason=reason, is_lost=not _is_unsupported(error))


def _is_unsupported(error: Exception) -> bool:
    """Whether torch lacks the computation for any numbers; a spectrum that does not converge depends on the numbers."""
    return isinstance(error, NotImplementedError) or (
        isinstance(error, RuntimeError) and "not implemented" in str(error)
    )


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
