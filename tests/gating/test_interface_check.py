"""The rule `interface`: whether programs can use the candidate as they use the baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import aznas_onnx as az
from aznas_onnx.cli.main import run
from aznas_onnx.gating import Decision
from tests.gating.networks import residual
from tests.gating.test_gate import Scripted, scripted

__all__ = ["scripted"]

Edit = Callable[[onnx.ModelProto], None]


def edited(path: Path, edit: Edit) -> None:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)


def rename(old: str, new: str) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.name = new if value.name == old else value.name
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return edit


def fix_batch_at(size: int) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size

    return edit


def take_halves(model: onnx.ModelProto) -> None:
    (given,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = ["wide" if name == given.name else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Cast", [given.name], ["wide"], "widen", to=TensorProto.FLOAT))
    given.type.tensor_type.elem_type = TensorProto.FLOAT16


def return_features(model: onnx.ModelProto) -> None:
    name = model.graph.node[0].output[0]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


def names_of(path: Path) -> tuple[str, str]:
    graph = onnx.load(path).graph
    return graph.input[0].name, graph.output[0].name


def reason() -> str:
    result = az.gate("new.onnx", baseline="shipped.onnx", interface=True)
    (check,) = (check for check in result.checks if check.rule == "interface")
    assert (check.verdict is Decision.REJECT) == check.reason.startswith("another interface than shipped.onnx: ")
    return check.reason.removeprefix("another interface than shipped.onnx: ")


def test_equal_interfaces_pass_whatever_the_weights_and_the_width(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "new.onnx", width=12)
    assert reason() == "inputs and outputs have the names, types and shapes of those of shipped.onnx"


def test_other_names_and_classes_are_told_in_one_sentence(scripted: Scripted, tmp_path: Path) -> None:
    path = residual(tmp_path / "new.onnx", classes=11)
    given, made = names_of(path)
    edited(path, rename(given, "pixels"))
    edited(path, rename(made, "probs"))
    assert reason() == (
        f"input {given!r} is called 'pixels'; output {made!r} is called 'probs'; "
        "output 'probs' has 11 classes in place of 4"
    )


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (fix_batch_at(1), "input 'input' has shape 1x3x16x16 in place of ?x3x16x16"),
        (take_halves, "input 'input' is float16 in place of float32"),
        (return_features, " is new"),
    ],
    ids=["fixed batch", "type", "further output"],
)
def test_what_programs_would_stumble_over_is_rejected(
    scripted: Scripted, tmp_path: Path, edit: Edit, told: str
) -> None:
    edited(tmp_path / "new.onnx", edit)
    assert reason().endswith(told)


def test_a_candidate_may_accept_more(scripted: Scripted, tmp_path: Path) -> None:
    edited(tmp_path / "shipped.onnx", fix_batch_at(1))
    assert reason().startswith("inputs and outputs have")


def test_missing_and_reordered_outputs(scripted: Scripted, tmp_path: Path) -> None:
    edited(tmp_path / "shipped.onnx", return_features)
    assert reason().endswith(" is missing")
    edited(tmp_path / "new.onnx", return_features)
    edited(tmp_path / "new.onnx", lambda model: model.graph.output.reverse())
    assert reason() == "the outputs come in another order"


def test_without_the_rule_another_interface_is_a_warning(scripted: Scripted, tmp_path: Path) -> None:
    residual(tmp_path / "new.onnx", classes=11)
    result = az.gate("new.onnx", baseline="shipped.onnx")
    assert result.passed
    told = [text for text in result.warnings if "another interface than shipped.onnx" in text]
    assert len(told) == 1
    assert "which --interface rejects: output 'head' has 11 classes in place of 4" in told[0]


def test_the_rule_needs_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = residual(tmp_path / "net.onnx")
    assert run(["gate", str(path), "--no-policy", "--max-macs", "1G", "--interface"]) == 2
    assert "interface compares with a baseline, and none is named" in capsys.readouterr().err
