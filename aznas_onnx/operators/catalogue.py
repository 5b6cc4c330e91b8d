"""The catalogue of operators, sets that are queries over it, and functions by operator."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from aznas_onnx.errors import UnknownNameError
from aznas_onnx.operators.operator_record import Family, Operator

__all__ = ["OperatorCatalogue", "OperatorSet", "Rules"]

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., object])


class _HasOperator(Protocol):
    @property
    def op_type(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def operator(self) -> str: ...


class OperatorSet:
    """Operators that satisfy a condition, those that are registered later included.

    ``node in operators`` is whether a node's operator is one of them; iteration yields their keys.
    """

    __slots__ = ("_condition", "_keys")

    def __init__(self, condition: Callable[[Operator], bool], operators: Iterable[Operator]) -> None:
        self._condition = condition
        self.update(operators)

    def update(self, operators: Iterable[Operator]) -> None:
        """Evaluate the condition over the operators of the catalogue."""
        self._keys = {operator.operator: None for operator in operators if self._condition(operator)}

    def __contains__(self, node: _HasOperator) -> bool:
        domain = node.domain  # not node.operator: this runs thousands of times in each reading
        return (f"{domain}::{node.op_type}" if domain else node.op_type) in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class OperatorCatalogue:
    """Operators by key: the name, behind the domain where that is not ONNX's own (``my.domain::Squareplus``).

    - `operators`: The built-in ones.
    """

    def __init__(self, operators: Iterable[Operator]) -> None:
        self._operators: dict[str, Operator] = {}
        self._sets: list[OperatorSet] = []
        for operator in operators:
            self.register(operator)

    def __getitem__(self, key: str) -> Operator:
        if key not in self._operators:
            near = difflib.get_close_matches(key, self._operators, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UnknownNameError(f"there is no operator {key!r} in the catalogue{hint}")
        return self._operators[key]

    def __iter__(self) -> Iterator[Operator]:
        return iter(self._operators.values())

    def __len__(self) -> int:
        return len(self._operators)

    def __contains__(self, key: str) -> bool:
        return key in self._operators

    def register(self, operator: Operator) -> None:
        """Add an operator; it changes this catalogue and every set of it.

        Raises ValueError if the catalogue has an operator of that key.
        """
        if operator.operator in self._operators:
            raise ValueError(f"an operator {operator.operator!r} is registered already")
        self._operators[operator.operator] = operator
        self._update()

    @contextmanager
    def holding(self, operator: Operator) -> Iterator[None]:
        """Use an operator for the duration of the context, in place of any other of that key."""
        before = dict(self._operators)
        self._operators[operator.operator] = operator
        self._update()
        try:
            yield
        finally:
            self._operators = before
            self._update()

    def record_of(self, node: _HasOperator) -> Operator | None:
        """Return the record of a node's operator, or None."""
        return self._operators.get(node.operator)

    def where(self, condition: Callable[[Operator], bool]) -> OperatorSet:
        """Return the operators that satisfy a condition."""
        found = OperatorSet(condition, self._operators.values())
        self._sets.append(found)
        return found

    def family(self, *families: Family) -> OperatorSet:
        """Return the operators of some families."""
        return self.where(lambda operator: operator.family in families)

    def _update(self) -> None:
        for members in self._sets:
            members.update(self._operators.values())


class Rules(dict[str, _FunctionT]):
    """Functions by operator, each attached where it is defined.

    ::

        _RULES: Rules[_Rule] = Rules()

        @_RULES.on("Reshape", "Flatten")
        def _reshape(node, ...): ...

    Raises ValueError if an operator gets a second function.
    """

    def on(self, *keys: str) -> Callable[[_FunctionT], _FunctionT]:
        """Attach the decorated function to operators."""

        def attach(function: _FunctionT) -> _FunctionT:
            for key in keys:
                if key in self:
                    raise ValueError(f"operator {key!r} has a rule already")
                self[key] = function
            return function

        return attach
