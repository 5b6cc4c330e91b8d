from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.scoring import METHOD_VERSION
from tests.cli.commands.test_bench import Scoring, bench, scoring

__all__ = ["scoring"]  # a fixture


def report(*arguments: str, status: int = 0) -> str:
    assert run(["report", *arguments, "--truth", "truth.csv", "-o", "page.md", "--resamples", "3"]) == status
    return Path("page.md").read_text(encoding="utf-8") if status == 0 else ""


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each table."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()] for block in blocks]


@pytest.fixture
def two_files(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("-o", "a.jsonl", "--sample", "40", "--resamples", "0", "--batch-size", "64")
    bench(
        "-o", "b.jsonl", "--sample", "30", "--resamples", "0", "--batch-size", "8", "--seeds", "2", "--score-seed", "5"
    )
    capsys.readouterr()


def test_a_page_has_a_table_of_every_combination(two_files: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = report("a.jsonl", "b.jsonl", "--no-plots")
    assert capsys.readouterr().err == "wrote page.md\n"
    assert "aznas bench nb201 --truth truth.csv --sample 40 --seed 0 " in text
    assert "--batch-size 8 --seeds 2 --score-seed 5 --device cpu -o b.jsonl" in text
    assert "aznas report a.jsonl b.jsonl --truth truth.csv -o page.md --resamples 3" in text
    assert "On the 30 architectures that all of them scored" in text
    for table in tables(text):
        assert len({len(row) for row in table}) == 1, table[0]
    ablation = next(table for table in tables(text) if table[0][0] == "Ranked by")
    assert ablation[0] == ["Ranked by", "Ranks", "τ cifar10", "ρ cifar10", "τ latency", "ρ latency"]
    assert [row[0] for row in ablation[2:6]] == ["expressivity", "progressivity", "trainability", "macs"]
    assert len(ablation) == 2 + 4 + 2 * 11 + 3
    assert "![" not in text


def test_a_file_made_by_several_commands_is_recognised(two_files: None) -> None:
    comment = "# the file holds other architectures"
    assert comment not in report("a.jsonl", "--no-plots")
    bench("-o", "a.jsonl", "--sample", "5", "--seed", "1", "--resamples", "0", "--batch-size", "64")
    assert comment in report("a.jsonl", "--no-plots")


def test_labels_name_the_files(two_files: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = report("quick=b.jsonl", "slow=a.jsonl", "--no-plots", "--metric", "latency")
    assert [row[0] for row in tables(text)[0][2:]] == ["quick", "slow"]
    assert "aznas report quick=b.jsonl slow=a.jsonl --truth truth.csv --metric latency -o page.md" in text
    report("a.jsonl", "a.jsonl", "--no-plots", status=2)
    assert "a.jsonl and a.jsonl are both called" in capsys.readouterr().err


def test_scores_of_another_method_are_labelled_and_warned_of(
    two_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = Path("b.jsonl").read_text()
    assert f'"method": {METHOD_VERSION}' in stored
    Path("b.jsonl").write_text(stored.replace(f'"method": {METHOD_VERSION}', '"method": 99'))
    text = report("now=a.jsonl", "then=b.jsonl", "--no-plots")
    assert [row[0] for row in tables(text)[0][2:]] == ["now", "then, scoring method 99"]
    sentence = f"the files hold scores of versions {METHOD_VERSION} and 99 of the scoring method"
    assert f"Warning: {sentence}" in text
    assert f"warning: {sentence}" in capsys.readouterr().err


def test_plots_lie_in_a_folder_beside_the_page(two_files: None) -> None:
    pytest.importorskip("matplotlib")
    text = report("a.jsonl", "b.jsonl")
    linked = re.findall(r"!\[.*\]\((.*)\)", text)
    assert sorted(linked) == sorted(f"page/{path.name}" for path in Path("page").iterdir())
    assert {Path(link).stem for link in linked} == {"ablation", "cost", "proxy-correlation", "rank-scatter"}
    for link in linked:
        assert Path(link).read_bytes().startswith(b"\x89PNG")
    before = [Path(link).read_bytes() for link in linked]
    assert report("a.jsonl", "b.jsonl") == text
    assert [Path(link).read_bytes() for link in linked] == before


def test_plots_of_a_column_without_numbers(two_files: None) -> None:
    pytest.importorskip("matplotlib")
    rows = Path("truth.csv").read_text().replace(",latency,", ",nothing,").splitlines()
    Path("truth.csv").write_text(
        "\n".join([rows[0], *(re.sub(r",\d+,x$", ",,x", row) for row in rows[1:-1]), rows[-1]])
    )
    text = report("a.jsonl", "--metric", "nothing")
    assert {path.stem for path in Path("page").iterdir()} == {"ablation", "proxy-correlation", "rank-scatter"}
    assert "undefined" in text


def test_a_page_in_a_folder_that_does_not_exist_is_refused(two_files: None, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["a.jsonl", "--truth", "truth.csv", "--no-plots", "-o", "nowhere/page.md"]
    assert run(["report", *arguments]) == 2
    assert "nowhere/page.md cannot be written: there is no folder nowhere" in capsys.readouterr().err
    assert not Path("nowhere").exists()


def test_without_matplotlib_plots_are_refused_in_one_sentence(
    two_files: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    report("a.jsonl", status=2)
    assert (
        "plots need matplotlib, which is not installed; `pip install 'aznas-onnx[report]'`" in capsys.readouterr().err
    )
    assert not Path("page.md").exists()
    report("a.jsonl", "--no-plots")


def test_files_of_two_spaces_are_refused(two_files: None, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path("a.jsonl").read_text().replace('"name": "nb201"', '"name": "other"')
    Path("c.jsonl").write_text(other)
    report("a.jsonl", "c=c.jsonl", "--no-plots", status=2)
    assert "c.jsonl holds scores of other, and a.jsonl of nb201; a report is on one space" in capsys.readouterr().err


def test_a_file_that_is_not_there(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    report("none.jsonl", "--no-plots", status=2)
    assert "none.jsonl cannot be read" in capsys.readouterr().err
