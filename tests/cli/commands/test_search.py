"""`aznas search`. The search is real, the scores are made up."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.cli.render.progress import search_progress, shown_search
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.searching import Progress, Study, latency_cache
from aznas_onnx.searching.scorer import ModelScorer
from tests.searching.fakes import taking


class Scoring:
    """What the fake scorer was asked, and what it shall do."""

    def __init__(self) -> None:
        self.scored: list[str] = []
        self.interrupt_at = -1
        self.failing = False

    def score(self, genotype: str) -> ProxyScores:
        if len(self.scored) == self.interrupt_at:
            raise KeyboardInterrupt
        self.scored.append(genotype)
        if self.failing or "none~0|nor_conv_1x1~1" in genotype:
            raise ValueError("it is too odd")
        proxies = {
            "expressivity": ProxyValue(mean=float(sum(map(ord, genotype)) % 97)),
            "progressivity": ProxyValue(mean=None, reason="a block is dead"),
            "macs": ProxyValue(mean=float(len(genotype))),
        }
        return ProxyScores(model=genotype, status=Status.OK, proxies=proxies)


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scoring:
    fake = Scoring()
    monkeypatch.setattr(ModelScorer, "prepare", lambda self, threads: None)
    monkeypatch.setattr(ModelScorer, "score", lambda self, genotype: fake.score(genotype))
    monkeypatch.chdir(tmp_path)
    return fake


def search(*arguments: str, status: int = 0, space: str = "nb201") -> None:
    assert run(["search", "--space", space, "--iterations", "30", *arguments]) == status


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def test_the_table_names_the_best_and_what_to_do_next(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--db", "run.db", "--flops", "150M", "--best", "2")
    lines = capsys.readouterr().out.splitlines()
    best = Study.open("run.db").best(2)
    assert lines[0].split() == "Rank Trial AZ score Expressivity Progressivity MACs Params Layers".split()
    assert [line.split()[:2] for line in lines[2:4]] == [[str(one.rank), str(one.trial.number)] for one in best]
    assert f"Best: {best[0].trial.genotype}" in lines
    assert "To get it as ONNX with weights: aznas export run.db -o winners/" in lines
    assert "30 candidates of nb201 within the budget (MACs at most 150M); " in lines[5]
    assert re.search(r"; \d\d% of the \d\d genotypes tried were new and within it. MACs: multiply-adds", lines[5])
    search("--db", "free.db")
    assert "30 candidates of nb201, without a budget; " in capsys.readouterr().out


def test_a_small_space_says_why_few_genotypes_were_new(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--db", "run.db", "--flops", "35M", space="nb-macro")
    output = capsys.readouterr().out
    study = Study.open("run.db")
    assert study.tries > 10_000  # the start has fewer than ten neighbours within the budget
    assert f"; 30 of the {study.tries:,} genotypes tried were new and within it." in output
    assert (
        f"{study.sampled_instead} of the candidates came from random samples, because all changes of parents that were "
        "tried for them were over the budget or scored already."
    ) in output.splitlines()
    search("--db", "run.db", "--flops", "35M", "--resume", "--format", "json", space="nb-macro")
    found = document(capsys)
    assert (found["tries"], found["sampled_instead"]) == (study.tries, study.sampled_instead)


def test_json(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--db", "run.db", "--format", "json", "--params", "0.2M:1M", "--best", "3", "--seed", "4")
    found = document(capsys)
    assert found["schema"] == "aznas.search/1"
    assert (found["db"], found["scored"], found["interrupted"], found["stopped"]) == ("run.db", 30, False, None)
    assert found["settings"]["budget"]["params"] == [200_000, 1_000_000]
    assert found["settings"]["seed"] == found["settings"]["scoring"]["seed"] == 4
    best = found["best"][0]
    assert best["rank"] == 1
    assert best["missing"] == {"progressivity": "a block is dead"}
    assert best["progressivity"] is None
    assert 200_000 <= best["params"] <= 1_000_000


def test_csv_and_markdown(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--db", "run.db", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 5
    assert rows[0]["genotype"] == Study.open("run.db").best()[0].trial.genotype
    search("--db", "run.db", "--resume", "--format", "md")
    assert capsys.readouterr().out.startswith("| Rank | Trial | AZ score |")


def test_a_resumed_search_scores_only_what_is_missing(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--db", "run.db", "--iterations", "20", "--top-k", "16")
    search("--db", "run.db", "--resume", "--top-k", "16")
    assert len(scoring.scored) == len(set(scoring.scored)) == 30
    search("--db", "other.db", "--top-k", "16")
    assert Study.open("other.db").trials == Study.open("run.db").trials


def test_fewer_than_there_are_adds_none_and_says_so(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--db", "run.db", "--top-k", "16")
    search("--db", "run.db", "--resume", "--top-k", "16", "--iterations", "20")
    assert "the study has 30 candidates already, so --iterations 20 adds none" in capsys.readouterr().err
    assert len(scoring.scored) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--db", "run.db"], "run.db already holds a study; add --resume"),
        (
            ["--db", "run.db", "--resume", "--flops", "99M"],
            "in the file budget.macs is any, not at most 99,000,000",
        ),
        (["--db", "run.db", "--resume", "--batch-size", "8"], "in the file scoring.batch_size is 16, not 8"),
        (["--db", "run.db", "--resume", "--resolution", "16"], "in the file space.options.resolution is 32, not 16"),
        (["--resume"], "--resume needs the file of a study"),
        (["--db", "nowhere/run.db"], "nowhere/run.db cannot be made: there is no folder"),
        (["--flops", "10"], "the search finds nothing to score: no new candidate of nb201"),
        (["--layers", "9:3"], "--layers: a budget from 9 to 3 admits nothing"),
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--proxies", "magic"], "there is no proxy 'magic'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: list[str], message: str, scoring: Scoring, capsys: pytest.CaptureFixture[str]
) -> None:
    search("--db", "run.db")
    capsys.readouterr()
    search(*arguments, status=2)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = (line for line in captured.err.splitlines() if line.startswith("aznas: "))
    assert message in line


def test_a_new_file_is_named_once_there_is_one(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--proxies", "magic", status=2)
    assert "study: " not in capsys.readouterr().err
    search()
    (file,) = Path().glob("*.db")
    assert capsys.readouterr().err.count(f"study: {file}\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--flops", "many"], ["--flops", ":"], ["--params", "4M:6M:8M"], ["--iterations", "0"], ["--count", "x"]],
)
def test_bad_usage_exits_with_2(arguments: list[str], scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search(*arguments, status=2)
    assert "Error: Invalid value" in capsys.readouterr().err


def test_an_unknown_space_is_a_sentence(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search(space="nb20", status=2)
    assert "there is no space 'nb20'; did you mean nb201" in capsys.readouterr().err


def test_without_a_file_a_new_one_is_named(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search()
    (path,) = Path().glob("*.db")
    assert re.fullmatch(r"nb201-\d{8}-\d{6}\.db", path.name)
    assert f"study: {path}" in capsys.readouterr().err


def test_a_latency_is_measured_shown_and_kept(
    scoring: Scoring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency_cache, "measure", lambda model: taking(float(len(model.graph.node))))
    search("--db", "run.db", "--latency", "500", "--format", "json")
    found = document(capsys)
    assert found["settings"]["budget"]["latency_ms"] == 500
    assert all(0 < one["latency_ms"] <= 500 for one in found["best"])
    search("--db", "run.db", "--latency", "500", "--resume")
    output = capsys.readouterr().out
    assert "Latency" in output
    assert f"{found['best'][0]['latency_ms']:.3g} ms" in output
    assert "within the budget (latency at most 500 ms)" in output


def test_the_papers_flops(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    search("--db", "run.db", "--count", "paper", "--flops", "100M")
    assert "FLOPs (paper)" in capsys.readouterr().out
    for trial in Study.open("run.db").trials:
        assert trial.cost.paper_flops == trial.cost.macs + 10


def test_failures_are_reported_and_stored(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    scoring.failing = True
    search("--db", "run.db", status=2)
    assert (
        "the first 10 candidates all failed to score; the last one: ValueError: it is too odd"
        in capsys.readouterr().err
    )


def test_an_interruption_shows_what_there_is(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    scoring.interrupt_at = 17
    search("--db", "run.db", "--format", "json", status=130)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["interrupted"] is True
    assert json.loads(captured.out)["scored"] == 17
    assert (
        "interrupted after 17 of 30 candidates, all of them in run.db; the same command with --resume" in captured.err
    )
    scoring.interrupt_at = -1
    search("--db", "run.db", "--resume")
    assert len(set(scoring.scored)) == 30


def test_an_interruption_before_the_first_candidate(
    scoring: Scoring, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: ModelScorer, threads: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelScorer, "prepare", interrupted)
    search("--db", "run.db", status=130)
    assert capsys.readouterr().err.strip() == "aznas: interrupted"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_is_an_interruption(tmp_path: Path) -> None:
    code = (
        "import time; from aznas_onnx.results import *; from aznas_onnx.searching.scorer import ModelScorer\n"
        "def score(self, genotype):\n"
        "    time.sleep(0.02)\n"
        "    return ProxyScores(model='', status=Status.OK, proxies={'macs': ProxyValue(mean=1.0)})\n"
        "ModelScorer.score = score; ModelScorer.prepare = lambda self, threads: None\n"
        "from aznas_onnx.cli.main import main; main()"
    )
    arguments = ["search", "--space", "nb201", "--iterations", "5000", "--db", "run.db"]
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and trials(tmp_path / "run.db") < 5:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    found = len(Study.open(tmp_path / "run.db").trials)
    assert f"interrupted after {found:,} of 5000 candidates" in errors
    assert "Best: |" in output


def trials(path: Path) -> int:
    try:
        return len(Study.open(path).trials)
    except ValueError:  # not there yet
        return 0


def test_progress_in_words() -> None:
    state = Progress(done=30, iterations=120, failed=2, tries=60, best=(7, "x"), rate=1.5)
    assert search_progress(state) == "1.5/s, 0:01:00 left, 50% accepted, 2 failed, best: trial 7"
    first = Progress(done=0, iterations=120, failed=0, tries=0, best=None, rate=0.0)
    assert search_progress(first) == "0/s, 0% accepted"
    assert search_progress(replace(state, tries=30_000)).startswith("1.5/s, 0:01:00 left, under 1% accepted, ")
    sampling = replace(state, sampled=12_345)
    assert search_progress(sampling) == "1.5/s, 0:01:00 left, 50% accepted, 2 failed, 12,345 samples for the next"


def test_progress_fits_80_columns() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    state = Progress(done=50_000, iterations=100_000, failed=0, tries=100_000, best=(49_999, "x"), rate=1.8)
    with shown_search(console, 100_000) as show:
        show(state)
    assert isinstance(console.file, io.StringIO)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()
    line = next(line for line in lines if line.startswith("searching"))
    assert len(line) <= 80
    assert line.endswith(f"50000/100000 {search_progress(state)}")
