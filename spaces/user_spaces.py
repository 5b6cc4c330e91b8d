"""A smoke test of user spaces."""

from __future__ import annotations

from typing import Any

import numpy as np

from aznas_onnx.errors import SettingsError
from aznas_onnx.spaces.base import GenotypeError, Space
from aznas_onnx.spaces.building import as_user_error, is_bundled, quote

__all__ = ["smoke_test"]

_DRAWS = 5
_CHANGES = 2
_SHOWN_CHARACTERS = 80


def smoke_test(space: Space[Any]) -> None:
    """Call the methods of a user space, except `build`, as a search will.

    A mistake thus ends a search before it creates its file.

    Raises SettingsError if a method raises or violates its contract.
    """
    if is_bundled(space):
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
    with as_user_error(space, f"give the canonical text of {quote(text)}"):
        canonical: object = space.canonical(genotype)
    if canonical is not None and not isinstance(canonical, str):
        raise SettingsError(f"{where}, and canonical() of it {_shown(canonical)}; a text or None is needed")
    if again != genotype:
        raise SettingsError(f"{where}, but parse() of its text {quote(text)} gives {_shown(again)}, which is not equal")
    return text


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
