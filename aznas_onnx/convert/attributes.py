"""Typed access to the attributes of a node."""

from __future__ import annotations

from typing import Any, cast

from aznas_onnx.graph.ir.graph import Node

__all__ = ["integer", "integers", "number", "numbers", "text", "texts"]


def integer(node: Node, name: str, default: int) -> int:
    """Return an integer attribute."""
    return int(cast(Any, node.attributes.get(name, default)))


def number(node: Node, name: str, default: float) -> float:
    """Return a float attribute."""
    return float(cast(Any, node.attributes.get(name, default)))


def text(node: Node, name: str, default: str) -> str:
    """Return a string attribute."""
    return _decode(node.attributes.get(name, default))


def integers(node: Node, name: str) -> tuple[int, ...] | None:
    """Return a list of integers, or None where the attribute is absent."""
    value = node.attributes.get(name)
    return None if value is None else tuple(map(int, cast(Any, value)))


def numbers(node: Node, name: str) -> tuple[float, ...] | None:
    """Return a list of floats, or None where the attribute is absent."""
    value = node.attributes.get(name)
    return None if value is None else tuple(float(item) for item in cast(Any, value))


def texts(node: Node, name: str) -> tuple[str, ...] | None:
    """Return a list of strings, or None where the attribute is absent."""
    value = node.attributes.get(name)
    return None if value is None else tuple(_decode(item) for item in cast(Any, value))


def _decode(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
