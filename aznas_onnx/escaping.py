"""Escape external text: one function for each output format.

Names of files, nodes and tensors, and what was read from studies and tables, are written by others. All output of them
passes through one of these functions, so that no name controls a terminal or a CI system, is markup, or is a formula.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = [
    "annotation",
    "csv_line",
    "json_text",
    "markdown",
    "markdown_block",
    "markdown_code",
    "printable",
    "shortened",
    "xml",
]

_MOST = 4000  # characters of a text in a report: GitHub takes a megabyte for a whole summary

# Commands of CI systems in a log: GitHub `::error::` at the start of a line and `##[error]` anywhere, Azure
# `##vso[...]`, TeamCity `##teamcity[...]`. A name may begin a line, and a table folds long names.
_GITHUB = "add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|notice|remove-matcher|save-state|set-env|"
_GITHUB += "set-output|stop-commands|warning|internal-set-repo-path"
_COMMAND = re.compile(rf"^\s*:(?=:)|:(?=:(?:{_GITHUB})\b)|#(?=#\w*\[)", re.IGNORECASE)

# In ASCII JSON: half a surrogate pair, which encodes a byte that is not UTF-8, and text that looks like one.
_SURROGATES = re.compile(r"(?P<kept>\\\\|\\ud[89ab]\w\w\\ud[c-f]\w\w)|\\ud[89a-f]\w\w")

_FORMULA = re.compile(r"\s*[=+\-@\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?|[+-]?inf|nan")


def printable(text: str) -> str:
    r"""Return `text` on one line, with control characters and CI commands escaped.

    Examples
    --------
    >>> printable("two\nlines"), printable("::error::no")
    ('two\\nlines', '\\x3a:error::no')
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return _COMMAND.sub(lambda found: f"{found[0][:-1]}\\x{ord(found[0][-1]):x}", shown)


def shortened(text: str, most: int = _MOST) -> str:
    """Return `text` without its middle where it has more than `most` characters."""
    if len(text) <= most:
        return text
    kept = (most - 5) // 2
    return f"{text[:kept]} ... {text[-kept:]}"


def xml(text: str) -> str:
    """Return text for an XML writer: without control characters, which XML does not have; the writer escapes markup."""
    return printable(shortened(text))


def annotation(text: str, *, is_property: bool = False) -> str:
    """Return the message of a GitHub workflow command, or a property, which ends at a comma or a colon."""
    data = printable(shortened(text)).replace("%", "%25")
    return data.replace(":", "%3A").replace(",", "%2C") if is_property else data


def json_text(document: Any, *, indent: int | None = 2) -> str:
    """Return plain values as JSON in ASCII, without a line end.

    Bytes of a file name that are not UTF-8 become escapes, and no line of the text is a command for a CI system.
    """
    import json

    text = json.dumps(document, indent=indent, allow_nan=False)
    text = _SURROGATES.sub(lambda found: found[0] if found["kept"] else f"\\{found[0]}", text)
    return re.sub(r"#(?=#\w*\[)", r"\\u0023", text)


def csv_line(values: Iterable[object]) -> str:
    """Return a line of CSV with exact values; None is an empty field.

    A text that a spreadsheet would evaluate as a formula gets an apostrophe in front.
    """
    import csv
    import io

    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(_csv_field(value) for value in values)
    return stream.getvalue()


# What stands in Markdown for itself. All else is code, where no mention, link, reference or emoji is made of it.
_PLAIN = re.compile(r"(?:[^\x00-\x7f]|[\w.,;:!?%()'\"/+=^-])*|#")
_ACTIVE = re.compile(r"://|\bwww\.|:[\w+-]+:|\bGH-\d|(?<!\w)_|_(?!\w)|__", re.IGNORECASE)
_LIST = re.compile(r"[-+=#]+|\d+[.)]")

_SAFE_CODE = re.compile(r"(?! )(?:[^\x00-\x7f]|[\w ./:;,+=~*^%$#(){}|'\"?!-])*(?<! )")
_MARK = re.compile(r"[!-+:-@\[-`{-~]")


def markdown(text: str) -> str:
    """Return a sentence for Markdown, in which a word that could be markup is code.

    Examples
    --------
    >>> markdown("12M, more than <b>models/a.onnx</b>")
    '12M, more than <code>&#60;b&#62;models/a.onnx&#60;/b&#62;</code>'
    """
    words = printable(shortened(text)).split(" ")
    return " ".join(_word(word, is_first=not place and len(words) > 1) for place, word in enumerate(words))


def _word(word: str, *, is_first: bool) -> str:
    is_plain = _PLAIN.fullmatch(word) is not None and _ACTIVE.search(word) is None
    return word if is_plain and not (is_first and _LIST.fullmatch(word)) else markdown_code(word, in_table=True)


def markdown_code(text: str, *, in_table: bool = False) -> str:
    """Return a name as code in Markdown.

    Marks that could end the code, or a cell of a table, are entities.

    Examples
    --------
    >>> markdown_code("layer__1"), markdown_code("a`b")
    ('`layer__1`', '<code>a&#96;b</code>')
    """
    text = printable(shortened(text))
    if not text:
        return ""
    if _SAFE_CODE.fullmatch(text) and not (in_table and "|" in text):
        return f"`{text}`"
    return f"<code>{_MARK.sub(lambda found: f'&#{ord(found[0])};', text)}</code>"


def markdown_block(text: str) -> str:
    """Return text as a block of code in Markdown, each line whole."""
    lines = [printable(line) for line in text.split("\n")]
    fence = "`" * max(3, 1 + max((len(run) for line in lines for run in re.findall("`+", line)), default=0))
    return "\n".join((fence, *lines, fence))


def _csv_field(value: object) -> object:
    if not isinstance(value, str):
        return value  # the writer makes an empty field of None
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
