"""A graph as a straight list of torch calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from aznas_onnx.errors import ModelError, first_line

__all__ = ["Program", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One node: `run` takes the tensors named by `inputs` (None where omitted) and returns those of `outputs`.

    A node with one output returns a tensor, one with several a tuple; unread outputs have the name ``""``. `run` is
    differentiable in its float inputs, has no state, and does not wait for the device, except for a few operators
    marked in the operator table. `absorbed` names other nodes that the step replaces, too.
    """

    node: str
    run: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    absorbed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """A graph at one batch size, device and dtype, ready to run.

    Attributes
    ----------
    steps
        In topological order.
    constants
        Tensors by name that the steps read and that are not outputs of steps: weights and other constants.
    inputs, outputs
        Names, as in the graph.
    notes
        Notes for the user on the conversion of nodes: which used onnx2torch, and whether their results were compared
        with ONNX Runtime's.
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, torch.Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def run(self, feeds: Mapping[str, torch.Tensor], keep: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """Run all steps; return the tensors named by `keep` (default: the outputs).

        Intermediate tensors are dropped after their last use.
        """
        wanted = tuple(self.outputs if keep is None else keep)
        environment: dict[str, torch.Tensor] = {**self.constants, **feeds}
        for _ in self._steps(environment, wanted):
            pass
        return {name: environment[name] for name in wanted}

    def walk(self, feeds: Mapping[str, torch.Tensor]) -> Iterator[tuple[Step, dict[str, torch.Tensor]]]:
        """Yield each step when it has run, and all tensors that are alive then, which the caller may exchange."""
        environment: dict[str, torch.Tensor] = {**self.constants, **feeds}
        for step in self._steps(environment, ()):
            yield step, environment

    def _steps(self, environment: dict[str, torch.Tensor], wanted: Sequence[str]) -> Iterator[Step]:
        last_use: dict[str, int] = {}
        for index, step in enumerate(self.steps):
            last_use.update(dict.fromkeys((*step.inputs, *step.outputs), index))
        for index, step in enumerate(self.steps):
            run_step(step, environment)
            yield step
            for name in {*step.inputs, *step.outputs}:
                if last_use[name] == index and name not in wanted:
                    environment.pop(name, None)


def run_step(step: Step, environment: dict[str, torch.Tensor]) -> None:
    """Run one step, reading its inputs from `environment` and writing its outputs there.

    Raises ModelError if torch refuses the inputs: the model asks for something that does not fit. Running out of memory
    is not an error of the model and passes through.
    """
    inputs = [environment[name] if name else None for name in step.inputs]
    try:
        result = step.run(*inputs)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError) or "memory" in str(error):
            raise
        raise ModelError(f"node {step.node!r} cannot be computed: {first_line(error)}") from error
    if isinstance(result, torch.Tensor):
        environment[step.outputs[0]] = result
    else:
        environment.update({name: tensor for name, tensor in zip(step.outputs, result, strict=False) if name})
