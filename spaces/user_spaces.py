"""User spaces: errors with file and line, and a smoke test."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.graph import Graph, Source
from aznas_onnx.spaces.base import GenotypeError, Space, quote
from aznas_onnx.user_modules import RAISED, summary

__all__ = ["as_user_error", "build_source", "smoke_test"]

_DRAWS = 5
_CHANGES = 2
_SHOWN_CHARACTERS = 80


@contextlib.contextmanager
def as_user_error(space: Space[Any], doing: str) -> Iterator[None]:
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
        if _is_bundled(space):
            raise
        where = _place(space, error)
        raise SettingsError(f"space {space.name!r} fails to {doing}: {summary(error)} ({where})") from error


def smoke_test(space: Space[Any]) -> None:
    """Call the methods of a user space, except `build`, as a search will.

    A mistake thus ends a search before it creates its file.

    Raises SettingsError if a method raises or violates its contract.
    """
    if _is_bundled(space):
        return
    rng = np.random.default_rng(0)
    with as_user_error(space, "give a start"):
        _check(space, space.start(rng), "start")
    for _ in range(_DRAWS):
        with as_user_error(space, "give a sample"):
            genotype = space.sample(rng)
        text = _check(space, genotype, "sample")
        with as_user_error(space, f"mutate {quote(text)}"):
            child = space.mutate(genotype, rng, _CHANGES)
        _check(space, child, "mutate")


def build_source(space: Space[Any], genotype: Any) -> Source:
    """Build a network to be read or scored; raise SettingsError if the space fails to, or gives something else."""
    with as_user_error(space, f"build {quote(space.format(genotype))}"):
        model = space.source(genotype)
    if not isinstance(model, (onnx.ModelProto, Graph)):
        raise SettingsError(
            f"space {space.name!r}: build() gives a {type(model).__name__}; an onnx.ModelProto is needed"
        )
    return model


def _check(space: Space[Any], genotype: Any, method: str) -> str:
    """Check a genotype that a method gave, and return its text."""
    where = f"space {space.name!r}: {method}() gives {_shown(genotype)}"
    try:
        hash(genotype)
    except TypeError as error:
        raise SettingsError(
            f"{where}, which cannot be hashed; let a genotype be a tuple or a frozen dataclass"
        ) from error
    try:
        with as_user_error(space, f"validate {_shown(genotype)}"):
            space.validate(genotype)
        with as_user_error(space, f"format {_shown(genotype)}"):
            text: object = space.format(genotype)
        if not isinstance(text, str) or not text or len(text.splitlines()) != 1:
            raise SettingsError(f"{where}, and format() of it {_shown(text)}; one line of text is needed")
        with as_user_error(space, f"parse {quote(text)}"):
            again = space.parse(text)
    except GenotypeError as error:
        raise SettingsError(f"{where}, which the space itself refuses: {error}") from error
    if again != genotype:
        raise SettingsError(f"{where}, but parse() of its text {quote(text)} gives {_shown(again)}, which is not equal")
    return text


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _is_bundled(space: Space[Any]) -> bool:
    return type(space).__module__.startswith(__name__.rpartition(".")[0] + ".")


def _place(space: Space[Any], error: BaseException) -> str:
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
