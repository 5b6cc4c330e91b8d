from __future__ import annotations

import weakref
from itertools import pairwise

import pytest
import torch

from aznas_onnx.convert.program import Program, Step


def program(*steps: Step, outputs: tuple[str, ...] = ("c",)) -> Program:
    return Program(steps=steps, constants={"two": torch.tensor(2.0)}, inputs=("x",), outputs=outputs)


def double(name: str, source: str, target: str) -> Step:
    return Step(node=name, run=torch.mul, inputs=(source, "two"), outputs=(target,))


CHAIN = program(double("first", "x", "a"), double("second", "a", "b"), double("third", "b", "c"))


def test_it_returns_the_outputs() -> None:
    assert {name: value.item() for name, value in CHAIN.run({"x": torch.tensor(1.0)}).items()} == {"c": 8.0}


def test_it_keeps_the_requested_tensors_and_no_more() -> None:
    kept = CHAIN.run({"x": torch.tensor(1.0)}, keep=["x", "b"])
    assert {name: value.item() for name, value in kept.items()} == {"x": 1.0, "b": 4.0}


def test_intermediate_tensors_are_freed_after_their_last_use() -> None:
    living: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    seen: list[int] = []

    def run(x: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        seen.append(len(living))
        result = x * two
        living.add(result)
        return result

    names = ("x", "a", "b", "c")
    steps = [
        Step(node=target, run=run, inputs=(source, "two"), outputs=(target,)) for source, target in pairwise(names)
    ]
    program(*steps).run({"x": torch.tensor(1.0)})
    assert seen == [0, 1, 1]


def test_omitted_inputs_are_none_and_unread_outputs_have_no_name() -> None:
    def run(x: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        assert bias is None
        return x, x + 1

    it = program(Step(node="n", run=run, inputs=("x", ""), outputs=("", "c")))
    assert it.run({"x": torch.tensor(1.0)})["c"].item() == 2.0


def test_running_out_of_memory_is_not_blamed_on_the_model() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        program(Step(node="n", run=run, inputs=("x",), outputs=("c",))).run({"x": torch.tensor(1.0)})
