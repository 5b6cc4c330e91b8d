"""The stored reference to the space of a study."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aznas_onnx import spaces
from aznas_onnx.documents import JsonObject, table, text
from aznas_onnx.errors import SettingsError
from aznas_onnx.spaces import Space, SpaceOptions, smoke_test

__all__ = ["StoredSpace", "find_space"]


def find_space(
    space: str | os.PathLike[str] | Space[Any], options: SpaceOptions
) -> tuple[Space[Any], str | os.PathLike[str] | None]:
    """Return the space and its reference for :func:`aznas_onnx.spaces.get`, if it has one.

    Raises SettingsError if there is no such space, the smoke test fails, or options are given for a space object.
    """
    if not isinstance(space, Space):
        return spaces.get(space, **options), space
    if options:
        raise SettingsError(f"space {space.name!r} is made already; options go with the name of a space")
    smoke_test(space)
    is_bundled = type(space).__module__.startswith(spaces.__name__)
    return space, space.name if is_bundled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSpace:
    """The space of stored scores.

    - `name`, `options`, `code` (a digest of the file, for a space that is a file): Identify the space.
    - `reference`: Its file or name, which can change; None for a space that was made in a program.
    """

    name: str
    options: SpaceOptions
    code: str | None
    reference: str | None

    @classmethod
    def of(cls, space: Space[Any], reference: str | os.PathLike[str] | None) -> StoredSpace:
        """Return the record of a space; `reference` is what :func:`aznas_onnx.spaces.get` was given, if anything."""
        parameters = inspect.signature(type(space)).parameters
        return cls(
            name=space.name,
            options={name: getattr(space, name) for name in parameters if hasattr(space, name)},
            code=_digest(space, reference),
            reference=None if reference is None else _lasting(os.fspath(reference)),
        )

    @classmethod
    def from_json(cls, data: JsonObject) -> StoredSpace:
        """Read back what :meth:`as_json` wrote; raise TypeError or KeyError if it is damaged."""
        code, reference = data.get("code"), data.get("reference")
        return cls(
            name=text(data["name"]),
            options=table(data.get("options", {})),
            code=None if code is None else text(code),
            reference=None if reference is None else text(reference),
        )

    def as_json(self) -> JsonObject:
        """Return the record as JSON values."""
        return {**self.compared(), "reference": self.reference}

    def compared(self) -> JsonObject:
        """Return what must be equal: all but the reference, as a file can be continued from another folder."""
        return {"name": self.name, "options": dict(self.options), "code": self.code}

    def maker(self, space: Space[Any], resolution: int | None = None) -> Callable[[], Space[Any]]:
        """Return a function that makes the space in another process; one without a reference must be picklable itself.

        - `resolution`: Replaces the space's.

        Raises SettingsError if the resolution shall be replaced and the space cannot be made anew.
        """
        if self.reference is not None:
            options = {**self.options, **({} if resolution is None else {"resolution": resolution})}
            return partial(spaces.get, self.reference, **options)
        if resolution is not None:
            raise SettingsError(f"space {space.name!r} was made in a program; make it at the resolution that you want")
        return partial(_itself, space)

    def make(self) -> Space[Any]:
        """Make the space once more.

        Raises SettingsError if it was made in a program, so that it has no name or file, or the file has changed since.
        """
        if self.reference is None:
            raise SettingsError(f"the study's space {self.name!r} was made in a program; pass that space")
        space = spaces.get(self.reference, **self.options)
        if _digest(space, self.reference) != self.code:
            raise SettingsError(
                f"{self.reference} has changed since the study was made, so its genotypes may mean other networks"
            )
        return space


def _itself(space: Space[Any]) -> Space[Any]:
    return space


def _lasting(reference: str) -> str:
    """Return a reference that finds a file from another folder too."""
    return str(Path(reference).resolve()) if reference.endswith(".py") else reference


def _digest(space: Space[Any], reference: str | os.PathLike[str] | None) -> str | None:
    """Return a digest of the file that defines a space, or None for one that is bundled or has no file."""
    file = None if reference is None or not os.fspath(reference).endswith(".py") else os.fspath(reference)
    if file is None and not type(space).__module__.startswith("aznas_onnx."):
        with contextlib.suppress(OSError, TypeError):  # a class typed into a notebook has none
            file = inspect.getsourcefile(type(space))
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
