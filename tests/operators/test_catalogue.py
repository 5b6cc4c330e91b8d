"""The catalogue has an answer for every operator, and is the only place that lists operators."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx.defs
import pytest

from aznas_onnx import graph, proxies  # noqa: F401 (their sets are queries, too)
from aznas_onnx.convert.registry import Entry
from aznas_onnx.convert.table import OPERATORS as CONVERTERS
from aznas_onnx.errors import UnknownNameError
from aznas_onnx.operators import OPERATORS, Family, InputRole, Movement, Operator, Rules, zero

MOST_TABLES = 8  # module-level assignments that name operators, outside operators/

SQUAREPLUS = Operator(
    name="Squareplus",
    domain="my.domain",
    family=Family.ACTIVATION,
    elementwise=True,
    movement=Movement.NONE,
    random=False,
    window=False,
    inputs=(InputRole.DATA,),
    macs=zero,
    differentiable=True,
)


class FakeNode:
    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.domain, _, self.op_type = operator.rpartition("::")


def tables(folder: Path) -> Iterator[str]:
    """Yield the place of each module-level assignment whose value names two operators or more."""
    names = {operator.name for operator in OPERATORS}
    for path in sorted(folder.rglob("*.py")):
        if path.parent.name == "operators" and path.parent.parent == folder:
            continue
        for statement in ast.parse(path.read_bytes()).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                texts = (node.value for node in ast.walk(statement.value) if isinstance(node, ast.Constant))
                words = [word for text in texts if isinstance(text, str) for word in text.split()]
                if sum(word.rpartition("::")[2] in names for word in words) > 1:
                    yield f"{path.relative_to(folder)}:{statement.lineno}"


def test_the_catalogue_is_the_only_place_that_lists_operators(repository: Path) -> None:
    found = list(tables(repository / "aznas_onnx"))
    assert len(found) <= MOST_TABLES, found


@pytest.mark.parametrize("entry", CONVERTERS.entries, ids=lambda entry: f"{entry.op_type}-{entry.first}")
def test_every_converted_operator_has_a_record(entry: Entry) -> None:
    record = OPERATORS[f"{entry.domain}::{entry.op_type}" if entry.domain else entry.op_type]
    if onnx.defs.has(record.name, record.domain):
        inputs = onnx.defs.get_schema(record.name, record.domain).inputs
        assert not inputs or record.inputs, "its inputs have no role"
    if record.movement is not Movement.NONE:
        assert record.macs is zero, "moving data has no multiply-adds"
    if record.elementwise:
        assert record.macs is zero
        assert not record.window


def test_every_record_is_an_operator_of_onnx_or_of_a_known_domain() -> None:
    known = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    newer = "SwiGLU CumProd BitCast CausalConvWithState LinearAttention FlexAttention Swish TensorScatter".split()
    newer += ["RotaryEmbedding", "RMSNormalization", "Attention"]  # that an older onnx package does not know
    own = {record.name for record in OPERATORS if not record.domain and ("", record.name) not in known}
    assert own <= {*newer, "SimplifiedLayerNormalization"}


def test_a_registered_operator_joins_the_sets_of_its_properties() -> None:
    activations = OPERATORS.family(Family.ACTIVATION)
    node = FakeNode("my.domain::Squareplus")
    assert node not in activations
    with OPERATORS.holding(SQUAREPLUS):
        assert node in activations
        assert OPERATORS.record_of(node) is SQUAREPLUS
        with pytest.raises(ValueError, match=r"'my.domain::Squareplus' is registered already"):
            OPERATORS.register(SQUAREPLUS)
    assert node not in activations
    assert OPERATORS.record_of(node) is None


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("movement", Movement)
def test_a_record_without_inputs_can_be_registered(family: Family, movement: Movement) -> None:
    with OPERATORS.holding(replace(SQUAREPLUS, family=family, movement=movement, inputs=(), macs=None)):
        pass


def test_an_unknown_name_suggests_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"'HardSwich'.*did you mean 'HardSwish'"):
        OPERATORS["HardSwich"]


def test_an_operator_has_one_rule() -> None:
    rules: Rules[Callable[[int], int]] = Rules()
    rules.on("Conv", "Gemm")(abs)
    assert rules == {"Conv": abs, "Gemm": abs}
    with pytest.raises(ValueError, match="'Gemm' has a rule already"):
        rules.on("Gemm")(abs)


@pytest.mark.parametrize(
    "module",
    ["meaning.channel_axes", "meaning.sample_mixing", "rewrite.canonical.normalization", "shapes.infos_at_batch",
     "shapes.make_batch_dynamic", "shapes.operand_checks", "shapes.sequences"],
)  # fmt: skip
def test_every_rule_is_attached_to_an_operator_of_the_catalogue(module: str) -> None:
    found = vars(importlib.import_module(f"aznas_onnx.graph.{module}")).values()
    keys = [key for value in found if isinstance(value, Rules) for key in value]
    assert keys
    assert [key for key in keys if key not in OPERATORS] == []
