from __future__ import annotations

import pytest

from aznas_onnx.cli.words import plural, without_markup
from aznas_onnx.escaping import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("layer1/Conv_0", "layer1/Conv_0"),
        ("café×3", "café×3"),
        ("two\nlines\there", "two\\nlines\\there"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eright to left", "\\u202eright to left"),
        ("[bold]", "[bold]"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_plural() -> None:
    assert [plural(n, "block") for n in (0, 1, 2)] == ["0 blocks", "1 block", "2 blocks"]


def test_docstrings_lose_their_markup() -> None:
    text = "See :meth:`~aznas_onnx.spaces.Space.sample`, :func:`get` and ``a~0``."
    assert without_markup(text) == "See sample, get and a~0."
