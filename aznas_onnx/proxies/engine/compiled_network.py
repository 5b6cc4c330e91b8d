"""A model under random weights as programs: compiled once for each requested batch size and precision."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from aznas_onnx.convert import Program, compile_program
from aznas_onnx.convert.program import Environment, Step
from aznas_onnx.errors import AznasError
from aznas_onnx.graph import Limits, Model, rebatch, specialise
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.meaning.position_tables import unfold_tables
from aznas_onnx.initialise import Weight, plan_weights
from aznas_onnx.operators.sets import SOFTMAXES
from aznas_onnx.proxies.engine.feeds import FeedSource
from aznas_onnx.proxies.feed import Feed

__all__ = ["CompiledNetwork", "InapplicableError", "RandomNetwork", "StepHook", "StepRecord"]

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepRecord:
    """A step that has just run, with its first output; `run` computes the output, also from other inputs."""

    node: Node
    run: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Tensor | None, ...]
    output: Tensor


StepHook = Callable[[StepRecord], "Tensor | None"]
"""Called after each step; a returned tensor replaces the step's first output."""


class InapplicableError(AznasError):
    """A statistic is not defined for a network; the message has the reason, in words for the user."""


class RandomNetwork:
    """A model whose blocks and statistics are measured, under any number of seeds, with the tensors to `keep`.

    `feed` is what it is fed: noise by default. `as_published` is whether statistics have the form of the published
    comparison's code, faults included.
    """

    def __init__(
        self,
        model: Model,
        *,
        is_transformer: bool,
        batch_size: int,
        device: torch.device,
        limits: Limits | None = None,
        keep: Collection[str] = (),
        feed: Feed | None = None,
        as_published: bool = False,
    ) -> None:
        self.feed = feed or Feed()
        self.as_published = as_published
        self.is_transformer = is_transformer
        self.batch_size = batch_size
        self.device = device
        self._model = model
        self._limits = limits
        self._keep = frozenset(keep)
        self._sized: dict[int, tuple[Model, Mapping[str, Weight]]] = {}
        self._compiled: dict[tuple[int, torch.dtype, bool], CompiledNetwork] = {}

    def at(
        self, batch_size: int | None = None, *, dtype: torch.dtype = torch.float32, use_batch_statistics: bool = True
    ) -> CompiledNetwork:
        """Return the network compiled for a batch size; the same object for the same arguments.

        With `use_batch_statistics`, BatchNormalization normalises by the batch, also in transformers, which the
        published code runs in evaluation mode: there are no running statistics. Without, it is the identity up to
        epsilon, as in evaluation mode before training.

        Raises InapplicableError if the file works at another batch size only, or the device has no such precision.
        """
        size = self.batch_size if batch_size is None else batch_size
        key = (size, dtype, use_batch_statistics)
        if key not in self._compiled:
            if dtype is torch.float64 and self.device.type == "mps":
                raise InapplicableError("it needs double precision, which Apple's GPUs do not have; use the CPU")
            sized, plan = self._sized_model(size)
            blank = {shape: torch.empty(shape, device="meta") for shape in {weight.shape for weight in plan.values()}}
            program = compile_program(
                sized.graph,
                sized.infos,
                {name: blank[weight.shape] for name, weight in plan.items()},
                device=self.device,
                dtype=dtype,
                training=use_batch_statistics,
                also=self._keep,
            )
            self._compiled[key] = CompiledNetwork(
                model=sized, program=program, plan=plan, device=self.device, dtype=dtype, feed=self.feed
            )
        return self._compiled[key]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on the conversion."""
        return tuple(dict.fromkeys(note for one in self._compiled.values() for note in one.program.notes))

    def release(self) -> None:
        """Forget the file's data: from here on :meth:`at` returns only programs that it has returned before."""
        self._model = self._model.without_data()
        self._sized.clear()
        for compiled in self._compiled.values():
            compiled.model = compiled.model.without_data()

    def _sized_model(self, size: int) -> tuple[Model, Mapping[str, Weight]]:
        if size not in self._sized:
            own = self._model.inputs.declared_batch
            if self._model.fixed_batch and size != own:
                raise InapplicableError(f"it needs a batch of {size}, and the file works at batch size {own} only")
            self._sized[size] = self._derived(size) or self._specialised(size)
        return self._sized[size]

    def _derived(self, size: int) -> tuple[Model, Mapping[str, Weight]] | None:
        """Return graph and plan of the settings' batch size at a smaller one; None where a batch size changes them."""
        model, plan = self._sized.get(self.batch_size, (None, {}))
        if model is None or model.graph is not self._model.graph:
            return None
        derived = rebatch(model, size)
        return None if derived is None else (derived, plan)

    def _specialised(self, size: int) -> tuple[Model, Mapping[str, Weight]]:
        sized = specialise(self._model, size, self._limits)
        if self.is_transformer:
            graph, infos = unfold_tables(sized.graph, sized.infos)
            sized = replace(sized, graph=graph, infos=infos)
        return sized, plan_weights(sized.graph, sized.infos, is_transformer=self.is_transformer)


@dataclass(kw_only=True, eq=False)
class CompiledNetwork:
    """A network at one batch size and precision: its program takes the constants of `plan` as arguments."""

    model: Model
    program: Program
    plan: Mapping[str, Weight]
    device: torch.device
    dtype: torch.dtype
    feed: Feed = field(default_factory=Feed)

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
                    if producer is not None and (producer in SOFTMAXES or producer.is_op("Sigmoid"))
                    else name
                )
        raise InapplicableError("it needs an output of shape (batch, classes), and the network has none")

    @cached_property
    def feeds(self) -> FeedSource:
        """Its random inputs, by seed."""
        return FeedSource(self.model, self.device, self.dtype, self.feed)

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
        weights: Mapping[str, Tensor],
        keep: Collection[str],
        watch: StepHook | None = None,
    ) -> dict[str, Tensor]:
        """Run the steps that some tensors need, and return those tensors.

        Gradients are recorded for weights or feeds that require them, in torch's current mode. Other tensors are freed
        after their last use, unless autograd references them. `watch` can change the first output of each step.
        """

        def hook(step: Step, environment: Environment) -> None:
            if watch is not None and step.outputs[0]:
                inputs = tuple(environment[name] if name else None for name in step.inputs)
                output = environment[step.outputs[0]]
                other = watch(StepRecord(node=self.nodes[step.node], run=step.run, inputs=inputs, output=output))
                if other is not None:
                    environment[step.outputs[0]] = other

        return self.program.run({**weights, **feeds}, tuple(keep), hook)
