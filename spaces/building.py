"""Building a network of a space: what a user space raises gets its file and line."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import onnx

from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.graph import Graph, Source
from aznas_onnx.user_modules import RAISED, summary

__all__ = ["as_user_error", "build_source", "is_bundled", "quote"]

_QUOTED_CHARACTERS = 80


class Buildable(Protocol):
    """The part of a space that builds networks."""

    @property
    def name(self) -> str:
        """Name of the space."""
        ...

    def format(self, genotype: Any) -> str:
        """Write a genotype on one line."""
        ...

    def source(self, genotype: Any) -> Source:
        """Return the network of a genotype."""
        ...


@contextlib.contextmanager
def as_user_error(space: Buildable, doing: str) -> Iterator[None]:
    """Turn exceptions of a user space's code into a sentence; those of bundled spaces propagate.

    - `space`: The space whose methods, and nothing else, are called in the body.
    - `doing`: Description of the call, such as ``mutate 16x2``.

    Raises SettingsError for any exception but an error of this package.
    """
    try:
        yield
    except AznasError:
        raise
    except RAISED as error:
        if is_bundled(space):
            raise
        where = _place(space, error)
        raise SettingsError(f"space {space.name!r} fails to {doing}: {summary(error)} ({where})") from error


def build_source(space: Buildable, genotype: Any) -> Source:
    """Build a network to be read or scored; raise SettingsError if the space fails to, or gives something else."""
    with as_user_error(space, f"build {quote(space.format(genotype))}"):
        model = space.source(genotype)
    if not isinstance(model, (onnx.ModelProto, Graph, Path)):
        raise SettingsError(
            f"space {space.name!r}: build() gives a {type(model).__name__}; an onnx.ModelProto is needed"
        )
    return model


def quote(text: str) -> str:
    """Return external text for messages: quoted, on one line, and not longer than a line."""
    return repr(text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}...")


def is_bundled(space: Buildable) -> bool:
    """Whether a space comes with the package."""
    return type(space).__module__.startswith(__name__.rpartition(".")[0] + ".")


def _place(space: Buildable, error: BaseException) -> str:
    """Return where an error arose: the innermost line in the file of the space, as far as there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    file = None
    with contextlib.suppress(OSError, TypeError):  # a class typed into a notebook has none
        file = inspect.getsourcefile(type(space))
    inside = [frame for frame in frames if frame.filename == file]
    if file is not None and not inside:
        return file  # Python itself refused the call: the method takes other arguments
    last = (inside or frames)[-1]
    return f"{last.filename}, line {last.lineno}"
