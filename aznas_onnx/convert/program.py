"""A graph as a straight list of torch calls, and the one place that runs such a list."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from aznas_onnx.errors import ModelError, first_line

__all__ = ["Environment", "Program", "Step", "execute", "is_out_of_memory", "run_step"]

Environment: TypeAlias = dict[str, torch.Tensor]
"""The tensors that exist at a point of a run, by name."""

# Torch's words on Linux, on Windows, and on Apple's GPUs.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


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


Schedule: TypeAlias = "Iterable[tuple[Step, Collection[str]]]"
"""Steps in an order in which they can run, each with the tensors that are not read after it."""
Hook: TypeAlias = "Callable[[Step, Environment], None]"
"""Called after each step, before tensors are dropped; can replace tensors of the environment."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """A graph at one batch size, device and dtype, ready to run.

    - `steps`: In topological order.
    - `constants`: Tensors by name that the steps read and that are not outputs of steps: weights and other constants.
    - `inputs`, `outputs`: Names, as in the graph.
    - `notes`: Notes for the user on the conversion of nodes: which used onnx2torch, and whether their results were
      compared with ONNX Runtime's.
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, torch.Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def run(
        self, feeds: Mapping[str, torch.Tensor], keep: Sequence[str] | None = None, hook: Hook | None = None
    ) -> Environment:
        """Run the steps that some tensors need, and return these tensors.

        Gradients are recorded as the caller has it. Other tensors are dropped after their last use.

        - `feeds`: The inputs, and tensors that replace constants.
        - `keep`: Names of the wanted tensors; default: the outputs.
        - `hook`: Called after each step.
        """
        wanted = tuple(self.outputs if keep is None else keep)
        environment: Environment = {**self.constants, **feeds}
        execute(self._schedule(wanted), environment, hook)
        return {name: environment[name] for name in wanted}

    def _schedule(self, wanted: Sequence[str]) -> list[tuple[Step, Collection[str]]]:
        needed, later = set(wanted), set(wanted)
        chosen: list[tuple[Step, Collection[str]]] = []
        for step in reversed(self.steps):
            if needed.isdisjoint(name for name in step.outputs if name):
                continue
            names = dict.fromkeys(name for name in (*step.inputs, *step.outputs) if name)
            chosen.append((step, [name for name in names if name not in later]))
            later.update(names)
            needed.update(step.inputs)
        chosen.reverse()
        return chosen


def execute(schedule: Schedule, environment: Environment, hook: Hook | None = None) -> None:
    """Run steps on the tensors of an environment, and drop each tensor after its last use.

    Raises ModelError: As :func:`run_step`.
    """
    for step, dropped in schedule:
        run_step(step, environment)
        if hook is not None:
            hook(step, environment)
        for name in dropped:
            environment.pop(name, None)


def run_step(step: Step, environment: Environment) -> None:
    """Run one step, reading its inputs from `environment` and writing its outputs there.

    Raises ModelError if torch refuses the inputs because the model is inconsistent. Running out of memory
    is not an error of the model and passes through.
    """
    inputs = [environment[name] if name else None for name in step.inputs]
    try:
        result = step.run(*inputs)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"node {step.node!r} cannot be computed: {first_line(error)}") from error
    if isinstance(result, torch.Tensor):
        environment[step.outputs[0]] = result
    else:
        environment.update({name: tensor for name, tensor in zip(step.outputs, result, strict=False) if name})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; on a CPU torch raises a plain RuntimeError for that."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
