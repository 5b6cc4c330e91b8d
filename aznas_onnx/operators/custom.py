"""Custom operators: a user's records with converters and MAC rules, from one file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aznas_onnx.errors import SettingsError
from aznas_onnx.operators.catalogue import OperatorCatalogue
from aznas_onnx.operators.operator_record import Operator
from aznas_onnx.user_modules import execute

__all__ = ["CustomOperator", "CustomOperators"]

_INFERENCE = "aznas_onnx.convert.shapes_by_running"  # by name: it imports torch
_ONNX2TORCH = "onnx2torch.node_converters.registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomOperator:
    """An operator that a user adds.

    Attributes
    ----------
    record
        Properties of the operator for all layers but conversion, the MAC rule included.
    convert
        Called with a node and the :class:`~aznas_onnx.convert.context.Context` of its graph; returns a function of the
        tensors of the node's inputs (None where one is omitted) that returns its output, or a tuple of its outputs.
        The function is differentiable and has no state: weights are among its inputs. Shape inference calls it on
        tensors without data (``device="meta"``) and, if that fails, on zeros.

    Examples
    --------
    >>> import math
    >>> from dataclasses import replace
    >>> from aznas_onnx.operators import OPERATORS, CustomOperator
    >>> def convert(node, context):
    ...     beta = node.attributes.get("beta", 4.0)
    ...     return lambda x: (x + (x * x + beta).sqrt()) / 2
    >>> record = replace(OPERATORS["Softplus"], name="Squareplus", domain="my.domain")
    >>> SQUAREPLUS = CustomOperator(record=record, convert=convert)
    """

    record: Operator
    convert: Callable[[Any, Any], Any]


class CustomOperators:
    """The operators that users have added in this process, and the files that define them."""

    def __init__(self, catalogue: OperatorCatalogue) -> None:
        self._catalogue = catalogue
        self._found: dict[str, CustomOperator] = {}
        self._files: dict[str, None] = {}
        self._defined_in: dict[str, str | Path] = {}

    @property
    def files(self) -> tuple[str, ...]:
        """Absolute paths of the files that were loaded, for other processes to load."""
        return tuple(self._files)

    def get(self, node: Any) -> CustomOperator | None:
        """Return the operator of a node, where it is one of these."""
        return self._found.get(node.operator) if self._found else None

    def add(self, operator: CustomOperator) -> None:
        """Register an operator; it is known to all layers from then on.

        Raises
        ------
        SettingsError
            If another operator of that name and domain is registered, unless it is one that ONNX defines and this
            package refuses: then the record must be that of the catalogue.
        """
        key = operator.record.operator
        if self._found.get(key) is operator:
            return
        if key in self._found or (key in self._catalogue and self._catalogue[key] is not operator.record):
            by = f" by {self._defined_in[key]}" if key in self._defined_in else ""
            raise SettingsError(f"operator {key} is registered already{by}; give yours a domain of its own")
        if key not in self._catalogue:
            self._catalogue.register(operator.record)
        self._found[key] = operator

    def load(self, *paths: str | Path) -> None:
        """Execute Python files, and register the operators that they define.

        A file can also register converters in onnx2torch's registry without defining an operator.

        Raises
        ------
        SettingsError
            If a file cannot be executed, defines no operator, or one that is registered already.
        """
        for path in paths:
            values = vars(execute(Path(path), "operator")).values()
            found = [value for value in values if isinstance(value, CustomOperator)]
            if not found and not any(map(_is_of_onnx2torch, values)):
                raise SettingsError(
                    f"operator file {path} defines no operator; an aznas_onnx.operators.CustomOperator is needed"
                )
            for operator in found:
                self.add(operator)
                self._defined_in.setdefault(operator.record.operator, path)
            self._files[str(Path(path).resolve())] = None

    def is_of_onnx2torch(self, node: Any) -> bool:
        """Whether a node is none of these, and a converter for it is registered in an onnx2torch that is loaded."""
        registry = sys.modules.get(_ONNX2TORCH)
        if registry is None or self.get(node) is not None:
            return False
        try:
            registry.get_converter(node.op_type, node.version, node.domain)
        except NotImplementedError:
            return False
        return True

    def infer(self, node: Any, inputs: Sequence[Any]) -> list[Any] | None:
        """Return what an operator that ONNX does not define makes, by running its converter; None where it has none.

        Parameters
        ----------
        node, inputs
            A node, and what is known about its inputs; None where one is omitted.
        """
        if self.get(node) is None and not self.is_of_onnx2torch(node):
            return None
        made: list[Any] | None = importlib.import_module(_INFERENCE).infer_by_running(node, inputs)
        return made


def _is_of_onnx2torch(value: object) -> bool:
    """Whether a global of a file was imported from onnx2torch, so that the file can register converters there."""
    name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    return str(name).startswith("onnx2torch")
