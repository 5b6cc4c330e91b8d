from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from aznas_onnx.convert import OPERATORS
from aznas_onnx.convert.registry import Entry, Registry
from aznas_onnx.errors import UnsupportedOperatorError
from aznas_onnx.graph.ir.graph import Node

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "operators.md"


def entry(first: int, last: int, op_type: str = "Relu") -> Entry:
    return Entry(op_type, first, last, OPERATORS.find("Relu", 14).converter)


def relu(version: int, op_type: str = "Relu", domain: str = "") -> Node:
    return Node(op_type=op_type, inputs=("x",), outputs=("y",), version=version, name="n", domain=domain)


def test_every_operator_of_the_installed_onnx_is_converted_or_refused_in_its_newest_version() -> None:
    schemas = [schema for schema in onnx.defs.get_all_schemas() if schema.domain == "" and not schema.deprecated]
    assert len(schemas) > 190
    assert [s.name for s in schemas if OPERATORS.find(s.name, s.since_version) is None] == []


def test_ranges_begin_and_end_at_versions_that_exist() -> None:
    versions = {(s.name, s.since_version) for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    ranges = [known for known in OPERATORS.entries if known.converter is not None]
    assert [e for e in ranges if not {(e.op_type, e.first), (e.op_type, e.last)} <= versions] == []


def test_the_opset_decides_the_version() -> None:
    registry = Registry([entry(6, 13), entry(14, 14)])
    assert registry.converter(relu(13)) is registry.converter(relu(12))
    assert registry.converter(relu(21)) is not None


def test_overlapping_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Registry([entry(6, 13), entry(13, 14)])


def test_an_older_version_than_any_is_refused_with_the_versions_there_are() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"'n': operator Relu-1 .* versions 6 to 14"):
        OPERATORS.converter(relu(1))


def test_a_version_newer_than_any_tested_is_refused_where_onnx2torch_does_not_have_it_either() -> None:
    with pytest.raises(UnsupportedOperatorError, match="versions 1 to 11"):
        Registry([entry(1, 11, "Hardmax")]).converter(relu(13, "Hardmax"))
    assert Registry([entry(6, 13)]).converter(relu(14)) is not None


def test_an_unknown_operator_is_named_with_its_domain() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"com\.acme::Frobnicate-1 has no converter"):
        OPERATORS.converter(relu(1, "Frobnicate", "com.acme"))


def test_integer_arithmetic_is_refused_with_a_remedy() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"QLinearConv-10 .*export the float model before quantisation"):
        OPERATORS.converter(relu(10, "QLinearConv"))


def test_the_documentation_lists_every_entry() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for known in OPERATORS.entries:
        versions = str(known.first) if known.first == known.last else f"{known.first} to {known.last}"
        second = known.note if known.converter is None else versions
        assert f"\n| {known.op_type} | {second} |" in text
