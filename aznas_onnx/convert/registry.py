"""The record of a converter, and the lookup of a node's record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aznas_onnx.convert.checked_converters import checked
from aznas_onnx.convert.context import Converter, unsupported
from aznas_onnx.convert.via_onnx2torch import via_onnx2torch
from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.shapes.shape_inference import schema
from aznas_onnx.operators import CUSTOM_OPERATORS

__all__ = ["Entry", "Registry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The conversion of the versions `first` to `last` of an operator.

    Attributes
    ----------
    op_type, first, last
        Operator and the range of its versions, as the ONNX schema numbers them ("since version"). `last` is the
        newest version that the conformance suite ran; a newer one is refused, because its meaning can differ.
    converter
        None for an operator that is refused by declaration.
    note
        One line for the documentation: the coverage, or the remedy of a refusal.
    """

    op_type: str
    first: int
    last: int
    converter: Converter | None
    note: str = ""
    domain: str = ""


class Registry:
    """The operator table, indexed."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._by_operator: dict[tuple[str, str], list[Entry]] = {}
        self._found: dict[tuple[str, str, int], Converter] = {}
        for entry in self.entries:
            known = self._by_operator.setdefault((entry.domain, entry.op_type), [])
            if any(entry.first <= other.last and other.first <= entry.last for other in known):
                raise ValueError(f"{entry.op_type} versions {entry.first} to {entry.last} are registered twice")
            known.append(entry)

    def converter(self, node: Node) -> Converter:
        """Return the converter of a node.

        Raises UnsupportedOperatorError if there is none for its operator in its version.
        """
        custom = CUSTOM_OPERATORS.get(node)
        if custom is not None:
            return checked(custom.convert)
        key = (node.domain, node.op_type, node.version)
        if key not in self._found:
            known = schema(node.op_type, node.version, node.domain)
            since = node.version if known is None else int(known.since_version)
            entry = self.find(node.op_type, since, node.domain)
            if entry is None or entry.converter is None:
                return self._fallback(node, since, entry)
            self._found[key] = entry.converter
        return self._found[key]

    def foreign(self, node: Node) -> Converter | None:
        """Return the converter of a node that a user has registered, here or in onnx2torch, without any check."""
        custom = CUSTOM_OPERATORS.get(node)
        if custom is not None:
            return custom.convert
        return via_onnx2torch(node.op_type, node.version, node.domain, load=False)

    def find(self, op_type: str, version: int, domain: str = "") -> Entry | None:
        """Return the record of an operator at a schema version, or None."""
        for entry in self._by_operator.get((domain, op_type), ()):
            if entry.first <= version <= entry.last:
                return entry
        return None

    def _fallback(self, node: Node, since: int, entry: Entry | None) -> Converter:
        found = via_onnx2torch(node.op_type, since, node.domain, load=entry is None and not node.domain)
        if found is not None:
            return checked(found, "onnx2torch")
        if entry is not None:
            raise unsupported(node, "is not supported", entry.note)
        known = self._by_operator.get((node.domain, node.op_type))
        if known is None:
            raise unsupported(node, "has no converter", "docs/operators.md lists the operators to export with")
        versions = ", ".join(f"{entry.first} to {entry.last}" for entry in known)
        raise unsupported(node, "has no converter in this version", f"versions {versions} are supported")
