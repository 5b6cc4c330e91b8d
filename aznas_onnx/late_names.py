"""Names of a package that are imported when they are first used, so that importing the package is cheap."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["late_names"]


def late_names(package: str, names: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Return the function `__getattr__` of a package; `names` has those that each module of `aznas_onnx` defines."""
    modules = {name: f"aznas_onnx.{module}" for module, defined in names.items() for name in defined}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        vars(sys.modules[package])[name] = value  # the next access does not come here
        return value

    return load
