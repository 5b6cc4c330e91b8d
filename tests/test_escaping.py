"""Names written by others are text in every format."""

from __future__ import annotations

import csv
import io
import json
from html import unescape
from xml.etree import ElementTree

import pytest

from aznas_onnx.escaping import (
    annotation,
    csv_line,
    json_text,
    markdown,
    markdown_block,
    markdown_code,
    printable,
    shortened,
    xml,
)

HOSTILE = [
    "a\n::error::b",
    "::error file=x::y",
    "x ##[error]y",
    "##vso[task.setvariable variable=a]b",
    "<h1>PASSED</h1>",
    "![x](http://example.org/y.png)",
    "@octocat",
    "a|b\\|<img src=x>",
    "`code` ``more``",
    "\x1b[31mred\x07",
    "\u202eright to left\u2066",
    "nofile\udce9.onnx",
    '=HYPERLINK("http://example.org")',
    "_under_ *star* ~~gone~~ #12 GH-3 :tada: www.example.org https://example.org",
    "$x$ [a]: http://example.org",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_is_one_line_of_text_and_no_command(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown
    assert "##vso[" not in shown
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["aten::add", "layer1.0/Conv", "café×3", "a#b", "x:y", "pkg::nn::Linear"])
def test_usual_names_stay_as_they_are(text: str) -> None:
    assert printable(text) == text
    assert markdown_code(text) == f"`{text}`"


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_holds_no_markup_of_a_name(text: str) -> None:
    for shown in (markdown(text), markdown_code(text, in_table=True)):
        outside = shown.replace("<code>", "").replace("</code>", "")
        assert "<" not in outside
        assert "|" not in shown
        assert "@" not in shown
        assert "![" not in shown
        assert "\n" not in shown
    code = markdown_code(text)
    assert unescape(code.removeprefix("<code>").removesuffix("</code>").strip("`")).strip("`") == printable(text).strip(
        "`"
    )


@pytest.mark.parametrize(
    "text",
    [
        "39.45M MACs, over the budget of 30M",
        "AZ score 1.52 below models/no_skips.onnx (±0.015 over 4 seeds; 0.5 below is tolerated): MACs -43 %",
        "block '9' puts out what it gets: whatever it computes is lost",
        "Proxies: higher is better. AZ score: sum of ln(rank/m) over a, b; 0 is the best.",
        "-0.019",
    ],
)
def test_sentences_of_ours_stay_as_they_are_in_markdown(text: str) -> None:
    assert markdown(text) == text


def test_a_block_of_code_outlasts_the_fences_in_it() -> None:
    assert markdown_block("a\n```\n<b>") == "````\na\n```\n<b>\n````"


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_reads_back_as_text_that_no_spreadsheet_computes(text: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_line(["x", text])))
    assert row[1].isprintable()
    assert row[1].lstrip()[:1] not in ("=", "+", "-", "@")


def test_numbers_in_csv_are_exact() -> None:
    assert csv_line([-1.5, "-0.25", None, 3, "-x", "+1,5"]) == "-1.5,-0.25,,3,'-x,\"'+1,5\"\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_xml_and_annotations_can_be_written(text: str) -> None:
    written = ElementTree.tostring(ElementTree.Element("a", name=xml(text)), encoding="unicode")
    assert ElementTree.fromstring(written.encode()).get("name") == printable(text)
    line = f"::error file={annotation(text, is_property=True)}::{annotation(text)}"
    assert line.isprintable()
    assert line[2:].partition("::")[0].count(",") == 0


def test_json_keeps_text_but_bytes_that_are_none() -> None:
    written = json_text({"a": "é😀##[error]\n\\udce9", "b": "x\udce9y"})
    assert written.isascii()
    assert "##[" not in written
    assert json.loads(written) == {"a": "é😀##[error]\n\\udce9", "b": "x\\udce9y"}


def test_a_very_long_name_loses_its_middle() -> None:
    assert shortened("a" * 500 + "b" * 9500, 105) == "a" * 50 + " ... " + "b" * 50
    assert len(markdown("<" * 100_000)) < 100_000
