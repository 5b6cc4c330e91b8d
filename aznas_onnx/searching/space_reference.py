"""The stored reference to the space of a study."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aznas_onnx import spaces
from aznas_onnx.errors import SettingsError
from aznas_onnx.spaces import Space, smoke_test

__all__ = ["describe_space", "find_space", "space_again", "space_maker"]


def find_space(
    space: str | os.PathLike[str] | Space[Any], options: Mapping[str, object]
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


def describe_space(space: Space[Any], reference: str | os.PathLike[str] | None) -> dict[str, object]:
    """Return name, options, code and reference of a space, as JSON values.

    - `reference`: What :func:`aznas_onnx.spaces.get` was given; None for a space that was made otherwise.
    """
    parameters = inspect.signature(type(space)).parameters
    return {
        "name": space.name,
        "options": {name: getattr(space, name) for name in parameters if hasattr(space, name)},
        "code": _digest(space, reference),
        "reference": None if reference is None else _lasting(os.fspath(reference)),
    }


def space_maker(
    space: Space[Any], description: Mapping[str, Any], resolution: int | None = None
) -> Callable[[], Space[Any]]:
    """Return a function that makes the space in another process; one without a reference must itself be picklable.

    - `resolution`: Replaces the space's.

    Raises SettingsError if the resolution shall be replaced and the space cannot be made anew.
    """
    if description["reference"] is not None:
        options = {**description["options"], **({} if resolution is None else {"resolution": resolution})}
        return partial(spaces.get, description["reference"], **options)
    if resolution is not None:
        raise SettingsError(f"space {space.name!r} was made in a program; make it at the resolution that you want")
    return partial(_itself, space)


def space_again(description: Mapping[str, Any]) -> Space[Any]:
    """Make the space of a study once more.

    Raises SettingsError if the study was made with a space that has no name or file, or the file has changed since.
    """
    reference = description["reference"]
    if reference is None:
        raise SettingsError(f"the study's space {description['name']!r} was made in a program; pass that space")
    space = spaces.get(reference, **description["options"])
    if _digest(space, reference) != description["code"]:
        raise SettingsError(
            f"{reference} has changed since the study was made, so its genotypes may mean other networks"
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
