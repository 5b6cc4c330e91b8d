"""`aznas bench` and `aznas report`. Everything is real but the scores."""

from __future__ import annotations

import csv
import io
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.evaluation import read_scores
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.searching.scorer import ModelScorer
from aznas_onnx.spaces import get
from aznas_onnx.spaces.nb201 import Cell, Operation
from tests.spaces.test_network_files import write_network

N_CELLS = 60


class Scoring:
    """What the fake scorer was asked, and what it shall do."""

    def __init__(self) -> None:
        self.scored: list[str] = []
        self.interrupt_at = -1
        self.failing = ""

    def score(self, genotype: str) -> ProxyScores:
        if len(self.scored) == self.interrupt_at:
            raise KeyboardInterrupt
        self.scored.append(genotype)
        if self.failing and self.failing in genotype:
            raise ValueError("it is too odd")
        total = sum(map(ord, genotype))
        proxies = {
            "expressivity": ProxyValue(mean=float(total % 97)),
            "progressivity": ProxyValue(mean=float(total % 13)) if total % 3 else ProxyValue(mean=None, reason="dead"),
            "trainability": ProxyValue(mean=-float(total % 7)),
            "macs": ProxyValue(mean=float(total)),
        }
        return ProxyScores(
            model=genotype, status=Status.OK, proxies=proxies, macs=total, params=total // 2, elapsed_s=0.5
        )


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scoring:
    fake = Scoring()
    monkeypatch.setattr(ModelScorer, "prepare", lambda self, threads: None)
    monkeypatch.setattr(ModelScorer, "score", lambda self, genotype: fake.score(genotype))
    monkeypatch.chdir(tmp_path)
    write_truth()
    return fake


def write_truth() -> None:
    """Write measurements of the cells that come first, into the working folder."""
    space = get("nb201")
    cells = itertools.islice(itertools.product(Operation, repeat=6), 0, None, 257)
    archs = [space.format(Cell(operations=operations)) for operations in cells][:N_CELLS]
    rows = [f"{arch},{50 + number % 40},{number},x" for number, arch in enumerate(archs)]
    Path("truth.csv").write_text("\n".join(["arch,cifar10,latency,note", *rows]) + "\n")


def bench(*arguments: str, status: int = 0) -> None:
    assert run(["bench", "nb201", "--truth", "truth.csv", "--device", "cpu", *arguments]) == status


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def test_the_table(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--sample", "40", "-o", "scores.jsonl", "--resamples", "5")
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert lines[0].split() == "AZ score against Kendall tau Spearman rho Tau at the same size".split()
    assert [line.split()[0] for line in lines[2:4]] == ["cifar10", "latency"]
    assert "tau cifar10" in lines[5]
    assert "40 architectures of nb201; 0.5 s each (median). Scores: scores.jsonl" in captured.out
    assert "Proxies: E expressivity, P progressivity, T trainability, C macs." in captured.out
    assert "95% percentile intervals of 5 bootstrap resamples (seed 0)" in captured.out
    assert all(len(line) < 100 for line in lines)


def test_json(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--sample", "40", "-o", "scores.jsonl", "--format", "json", "--metric", "cifar10", "--resamples", "3")
    found = document(capsys)
    assert found["schema"] == "aznas.bench/1"
    assert found["n"] == 40
    assert found["kendall_tau"].keys() == found["spearman_rho"].keys() == {"cifar10"}
    assert set(found["per_proxy"]) == {"expressivity", "progressivity", "trainability", "macs"}
    assert found["per_proxy"]["macs"]["cifar10"] == found["baselines"][0]["kendall_tau"]["cifar10"]["value"]
    assert found["combined"] == []
    assert found["ensembles"] == {}
    assert found["match"]["by"] == "macs"
    assert found["match"]["within"] == 0.1
    assert found["match"]["pairs"] > 0
    assert -1 <= found["size_matched_tau"]["cifar10"] <= 1
    assert found["groups"] == 1
    assert found["bootstrap"] == {"resamples": 3, "level": 0.95, "seed": 0}
    assert found["settings"]["scoring"]["device"] == "cpu"
    assert found["selection"] == {"seed": 0, "unique": False}
    assert [one["k"] for one in found["top"]["cifar10"]] == [1, 5, 10]
    assert not found["interrupted"]


def test_weights_change_the_score_and_not_the_scores(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("-o", "scores.jsonl", "--format", "json", "--resamples", "0", "--metric", "cifar10")
    bench(*options)
    plain = document(capsys)
    bench(*options, "--proxies", "az,macs:100", "--aggregate", "linear")
    heavy = document(capsys)
    assert len(scoring.scored) == N_CELLS  # the second run scored nothing
    assert heavy["weights"] == {"macs": 100.0}
    assert heavy["kendall_tau"] != plain["kendall_tau"]
    assert heavy["kendall_tau"]["cifar10"] == pytest.approx(plain["per_proxy"]["macs"]["cifar10"], abs=0.02)
    bench(*options, "--proxies", "az,macs:0", "--aggregate", "linear")
    assert "macs" not in document(capsys)["proxies"]


def test_the_scores_file_has_one_score_a_line(scoring: Scoring) -> None:
    bench("--sample", "5", "--scores", "scores.jsonl", "--resamples", "0")
    rows = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    assert [row["arch"] for row in rows] == scoring.scored
    wanted = {"arch", "expressivity", "progressivity", "trainability", "macs", "params", "layers", "seconds"}
    assert all(wanted <= set(row) for row in rows)
    missing = [row for row in rows if row["progressivity"] is None]
    assert all(row["missing"] == {"progressivity": "dead"} for row in missing)
    assert len(missing) < 5


def test_csv_and_markdown(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--sample", "9", "-o", "s.jsonl", "--resamples", "2", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 * (4 + 3)
    bench("--sample", "9", "-o", "s.jsonl", "--resamples", "2", "--format", "csv", "--combinations")
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 2 * (4 + 22 + 3)
    assert {row["column"] for row in rows} == {"cifar10", "latency"}
    assert -1 <= float(rows[0]["kendall_low"]) <= float(rows[0]["kendall_high"]) <= 1
    bench("--sample", "9", "-o", "s.jsonl", "--resamples", "2", "--format", "md", "--combinations")
    text = capsys.readouterr().out
    assert (
        "| Ranked by | Ranks | tau cifar10 | same size cifar10 | rho cifar10 | tau latency | same size latency |"
        in text
    )
    assert "| E + P + T + C | log-rank |" in text


def test_a_larger_sample_scores_the_rest_only(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--sample", "10", "-o", "scores.jsonl", "--resamples", "0")
    bench("--sample", "all", "-o", "scores.jsonl", "--resamples", "0", "--format", "json")
    assert len(scoring.scored) == len(set(scoring.scored)) == N_CELLS
    assert '"n": 60' in capsys.readouterr().out


def test_without_a_name_the_scores_get_a_new_file(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--sample", "3", "--resamples", "0")
    (path,) = Path().glob("bench-nb201-*.jsonl")
    assert f"scores: {path}" in capsys.readouterr().err
    assert len(read_scores(path).records) == 3


def test_unique_keeps_one_of_each(scoring: Scoring) -> None:
    bench("--unique", "-o", "scores.jsonl", "--resamples", "0")
    space = get("nb201")
    texts = [space.canonical(space.parse(arch)) for arch in scoring.scored]
    assert len(texts) == len(set(texts)) < N_CELLS
    assert read_scores("scores.jsonl").selection.unique


def test_an_interruption_reports_what_there_is_and_how_to_go_on(
    scoring: Scoring, capsys: pytest.CaptureFixture[str]
) -> None:
    scoring.interrupt_at = 7
    bench("-o", "scores.jsonl", "--format", "json", status=130)
    captured = capsys.readouterr()
    assert "interrupted after 7 of 60 architectures" in captured.err
    assert "the same command with --scores scores.jsonl goes on" in captured.err
    found = json.loads(captured.out)
    assert (found["n"], found["interrupted"]) == (7, True)
    scoring.interrupt_at = -1
    bench("-o", "scores.jsonl", "--resamples", "0")
    assert len(scoring.scored) == len(set(scoring.scored)) == N_CELLS


def test_failures_are_reported_and_counted(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    scoring.failing = "skip_connect~2"
    bench("-o", "scores.jsonl", "--resamples", "0", "--format", "json", status=3)
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["failed"] + found["n"] == N_CELLS
    assert (
        f"{found['failed']} architectures could not be scored; the last one: ValueError: it is too odd" in captured.err
    )


def test_nothing_to_compare(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--sample", "1", "-o", "scores.jsonl", status=2)
    assert "1 architecture scored; 2 or more can be compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sample", "0"], "'0' is neither a positive number nor all"),
        (["--sample", "some"], "'some' is neither a positive number nor all"),
        (["--sample", "61"], "there are 60 architectures"),
        (["--metric", "note"], "column 'note' does not hold numbers only"),
        (["--resolution", "30"], "a multiple of 4 is needed"),
        (["--device", "abacus"], "there is no device 'abacus'"),
        (["--truth", "none.csv"], "none.csv cannot be read"),
    ],
)
def test_bad_usage_is_one_sentence(
    scoring: Scoring, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    bench("-o", "scores.jsonl", *arguments, status=2)
    assert message in capsys.readouterr().err
    assert not Path("scores.jsonl").exists()


def test_a_new_file_is_named_once_the_job_starts(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--resolution", "30", status=2)
    assert "scores: " not in capsys.readouterr().err
    bench("--sample", "3", "--resamples", "0")
    (file,) = Path().glob("bench-*.jsonl")
    assert capsys.readouterr().err.count(f"scores: {file}\n") == 1


def test_other_settings_are_refused(scoring: Scoring, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--sample", "3", "-o", "scores.jsonl", "--resamples", "0", "--batch-size", "8")
    bench("--sample", "3", "-o", "scores.jsonl", "--resamples", "0", "--batch-size", "9", status=2)
    assert "scoring.batch_size is 8 there and 9 here" in capsys.readouterr().err


def test_a_space_of_ones_own(scoring: Scoring, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(repository / "examples" / "resnet_space.py")
    assert run(["spaces", "sample", file, "--count", "4"]) == 0
    archs = dict.fromkeys(capsys.readouterr().out.splitlines())
    rows = [f'"{arch}",{number}' for number, arch in enumerate(archs)]
    Path("mine.csv").write_text("\n".join(["arch,top1", *rows]) + "\n")
    command = ["bench", file, "--truth", "mine.csv", "-o", "mine.jsonl", "--resamples", "0"]
    assert run([*command, "--format", "json"]) == 0
    found = document(capsys)
    assert found["kendall_tau"].keys() == {"top1"}
    assert set(scoring.scored) == set(archs)
    assert run([*command, "--unique"]) == 2
    assert "does not say which of its architectures are the same network" in capsys.readouterr().err


def test_scores_are_those_of_scoring_the_built_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aznas_onnx.scoring import score

    monkeypatch.chdir(tmp_path)
    write_truth()
    bench(
        "--sample", "2", "-o", "s.jsonl", "--resamples", "0", "--batch-size", "2", "--resolution", "8", "--seeds", "2"
    )
    space = get("nb201", resolution=8)
    for arch, record in read_scores("s.jsonl").records.items():
        direct = score(space.build(space.parse(arch)), batch_size=2, seeds=2, device="cpu")
        assert record.proxies.keys() == direct.proxies.keys()
        assert [value.mean for value in record.proxies.values()] == [value.mean for value in direct.proxies.values()]
        assert (record.macs, record.params) == (direct.macs, direct.params)


_SLOW = """
import sys, time
from aznas_onnx.cli.main import run
from aznas_onnx.searching.scorer import ModelScorer
from tests.cli.commands.test_bench import Scoring

fake = Scoring()

def score(self, genotype):
    time.sleep(0.02)
    return fake.score(genotype)

ModelScorer.prepare = lambda self, threads: None
ModelScorer.score = score
sys.exit(run(["bench", "nb201", "--truth", "truth.csv", "-o", "scores.jsonl", "--resamples", "0", "--device", "cpu"]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_was_scored_survives_the_process(scoring: Scoring, repository: Path, how: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW],
        env={"PYTHONPATH": str(repository), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    path = Path("scores.jsonl")
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= 5):
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate()
    assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL), errors
    before = list(read_scores(path).records)
    assert 5 <= len(before) < N_CELLS
    bench("-o", "scores.jsonl", "--resamples", "0")
    assert not set(scoring.scored) & set(before)
    assert len(read_scores(path).records) == N_CELLS


def test_files_in_place_of_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real networks and real scores."""
    monkeypatch.chdir(tmp_path)
    widths = (4, 8, 12)
    files = [str(write_network(tmp_path / f"net{width}.onnx", width)) for width in widths]
    rows = "".join(f"net{width},{set_},{width},{9 - width % 8}\n" for width in widths for set_ in "AB")
    Path("truth.csv").write_text(f"model,set,top1,ms\n{rows}")
    options = ("--effort", "fast", "--device", "cpu", "--resamples", "0", "-o", "s.jsonl")
    grouped = ("--metric", "top1", "--group", "set", "--match", "ms", "--within", "30%")
    assert run(["bench", *files, "--truth", "truth.csv", *options, *grouped, "--format", "json"]) == 0
    found = document(capsys)
    assert (found["n"], found["groups"], found["space"]) == (6, 2, "networks")
    assert found["match"] == {"by": "ms", "within": 0.3, "pairs": 2}
    assert found["kendall_tau"].keys() == {"top1"}
    assert run(["bench", *files, "--truth", "truth.csv", *options]) == 0
    captured = capsys.readouterr()
    assert "3 networks; " in captured.out
    assert "tau between" in captured.out
    assert "lists 3 architectures several times ('net4'); the measurements of each are averaged" in captured.err


@pytest.mark.parametrize("share", ["much", "-5%", "%", "inf"])
def test_what_is_no_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--within", share, status=2)
    assert f"{share!r} is no share; 10% and 0.1 are examples" in capsys.readouterr().err


def test_with_many_proxies_a_terminal_has_no_matrix_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [str(write_network(tmp_path / f"net{width}.onnx", width)) for width in (4, 8)]
    Path("truth.csv").write_text("model,top1\nnet4,1\nnet8,2\n")
    options = ("--proxies", "structure", "--resamples", "0", "-o", "s.jsonl")
    for form, is_there in (("table", False), ("md", True)):
        assert run(["bench", *files, "--truth", "truth.csv", *options, "--format", form]) == 0
        assert ("tau between" in capsys.readouterr().out) == is_there
