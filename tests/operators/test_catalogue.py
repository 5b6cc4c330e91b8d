"""The catalogue has an answer for every operator, and is the only place that lists operators."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.defs
import pytest
from onnx.reference import ReferenceEvaluator

from aznas_onnx import graph, proxies  # noqa: F401 (their sets are queries, too)
from aznas_onnx.convert.registry import Entry
from aznas_onnx.convert.table import OPERATORS as CONVERTERS
from aznas_onnx.errors import UnknownNameError
from aznas_onnx.operators import OPERATORS, Family, Movement, Operator, Rules, zero
from tests.graph.builders import network, weights

NAMES = frozenset(operator.name for operator in OPERATORS)
MOST = {"tables": 5, "registries": 7, "rules": 11, "groups": 11}  # by form, outside operators/

SQUAREPLUS = replace(OPERATORS["Softplus"], name="Squareplus", domain="my.domain")


class FakeNode:
    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.domain, _, self.op_type = operator.rpartition("::")


class _Literals(ast.NodeVisitor):
    """The places of a module that name several operators in text, by the form in which they do."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.tables: list[str] = []
        self.registries: list[str] = []
        self.rules: list[str] = []
        self.groups: list[str] = []

    def visit_Module(self, node: ast.Module) -> None:
        for statement in node.body:
            value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
            if value is not None and len(_words(ast.walk(value))) > 1:
                self.tables.append(f"{self._path}:{statement.lineno}")
            elif isinstance(value, ast.Call) and ast.unparse(value.func) == "Rules":
                self.registries.append(f"{self._path}:{statement.lineno}")
            else:
                self.visit(statement)

    def generic_visit(self, node: ast.AST) -> None:
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and len(_words(decorator.args)) > 2:
                self.rules.append(f"{self._path}:{decorator.lineno}")
        node = _undecorated(node)
        if isinstance(node, ast.expr) and _is_group(node):
            self.groups.append(f"{self._path}:{node.lineno}")
        else:
            super().generic_visit(node)


def _undecorated(node: ast.AST) -> ast.AST:
    if isinstance(node, ast.FunctionDef):
        return ast.Module(body=node.body, type_ignores=[])
    return node


def _words(nodes: Iterable[ast.AST | None]) -> list[str]:
    """Return the operators that texts consist of; a sentence is none."""
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    split = [[word.rpartition("::")[2] for word in text.split()] for text in texts]
    return [word for words in split if NAMES.issuperset(words) for word in words]


def _is_group(node: ast.expr) -> bool:
    """Whether an expression names three operators or more: a call, a collection, alternatives, a text or a prefix."""
    if isinstance(node, ast.Call):
        is_prefix = isinstance(node.func, ast.Attribute) and node.func.attr == "startswith"
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        found = [name for name in NAMES for text in texts if is_prefix and text[:1].isupper() and name.startswith(text)]
        return len(found) > 2 or len(_words(node.args)) > 2
    if isinstance(node, ast.Dict):
        return len(_words(node.keys)) > 2 or len(_words(node.values)) > 2
    if isinstance(node, ast.BoolOp):
        return len(_alternatives(node)) > 2
    return len(_words(getattr(node, "elts", [node]))) > 2


def _alternatives(node: ast.BoolOp) -> list[str]:
    """Return the operators that a disjunction accepts, or that a conjunction of negations excludes."""
    found = []
    for value in node.values:
        is_negated = isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not)
        inner = value.operand if isinstance(value, ast.UnaryOp) else value
        if isinstance(inner, ast.Compare):
            is_negated = is_negated or isinstance(inner.ops[0], ast.NotEq | ast.NotIn)
            texts = [part for one in inner.comparators for part in getattr(one, "elts", [one])]
        else:
            texts = inner.args if isinstance(inner, ast.Call) else []
        if is_negated is isinstance(node.op, ast.And):
            found += _words(texts)
    return found


def literals(folder: Path) -> Iterator[_Literals]:
    """Yield what each module names, but for the catalogue itself and the table of converters."""
    for path in sorted(folder.rglob("*.py")):
        if path.parent != folder / "operators" and path != folder / "convert" / "table.py":
            found = _Literals(str(path.relative_to(folder)))
            found.visit(ast.parse(path.read_bytes()))
            yield found


def test_the_catalogue_is_the_only_place_that_lists_operators(repository: Path) -> None:
    """Outside it, few places name several operators; four forms have a bound each, which only comes down.

    - Tables: values of a module that name two or more, as a mapping to numpy functions.
    - Registries (`Rules`) are no tables: `.on` attaches each function to its operators where it is defined, which is a
      rule for one operator, as in a method of a class. Their number has a bound, so that they do not replace tables.
    - Rules: decorators (`.on`, `ending_at`) that name three or more.
    - Groups: three or more names in an expression of a function. Those that are left are parts of one pattern or names
      in a file's format; a question about operators is a property of the record and a set of `operators.sets`.
    """
    found = list(literals(repository / "aznas_onnx"))
    for form, most in MOST.items():
        places = [place for one in found for place in getattr(one, form)]
        assert len(places) <= most, (form, places)


@pytest.mark.parametrize(
    "source",
    ["node.is_op('Add', 'Sub', 'Sum')", "name in {'Add', 'Sub', 'Sum'}", "{'Add': 1, 'Sub': 2, 'Sum': 3}",
     "'Add Sub Sum'.split()", "name.startswith('Reduce')", "node.is_op('Add', 'Sub') or node.is_op('Sum')",
     "not node.is_op('Add', 'Sub') and name != 'Sum'", "f(['Add', 'Sub', 'Sum'])"],
)  # fmt: skip
def test_no_form_of_a_group_of_operators_escapes_the_count(source: str) -> None:
    found = _Literals("")
    found.visit(ast.parse(f"def f():\n    return {source}"))
    assert found.groups == [":2"]


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


@pytest.mark.parametrize("record", OPERATORS, ids=lambda record: record.operator)
def test_properties_of_a_record_agree(record: Operator) -> None:
    low, high = record.bounds
    assert low < high
    assert record.keeps_sign or low < 0.0
    assert not record.switch or record.elementwise


@pytest.mark.parametrize("record", [one for one in OPERATORS if one.elementwise], ids=lambda one: one.operator)
def test_results_are_within_the_bounds_of_the_record(record: Operator) -> None:
    schema = onnx.defs.get_schema(record.name) if onnx.defs.has(record.name) else None
    if schema is None or any("tensor(float)" not in operand.types for operand in schema.inputs):
        pytest.skip("its operands are no floats")
    names = [f"x{index}" for index in range(max(schema.min_input, 1))]
    body = f"y = {record.name} ({', '.join(names)})"
    model = network(body, dict.fromkeys(names, (1000,)), opset=schema.since_version)
    for sign in (np.positive, np.abs):
        feeds = {name: sign(weights(1000, seed=index) * 4) for index, name in enumerate(names)}
        with np.errstate(all="ignore"):
            (result,) = ReferenceEvaluator(model).run(None, feeds)
        found = np.asarray(result, dtype=np.float64)
        known = found[np.isfinite(found)]
        least = 0.0 if record.keeps_sign and sign is np.abs else record.bounds[0]
        assert known.min() >= least - 1e-6
        assert known.max() <= record.bounds[1] + 1e-6


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
