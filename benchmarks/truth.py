"""Score measured networks of many benchmarks, and write the table of docs/truth.md.

    python -m benchmarks.truth score DATA ... --scores SCORES [SET ...]     resumes; a scores file a set
    python -m benchmarks.truth page DATA ... --scores SCORES -o docs/truth.md

DATA are folders with the CSV files of :mod:`benchmarks.truth_sets`; a set whose file is not there is left out. Scores
are of effort balanced, one seed, on one thread, of a random sample (seed 0) of each set's networks; those of several
sets can be made at the same time. The page's part between two marks is replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from aznas_onnx.evaluation import (
    Bootstrap,
    Evaluation,
    Interval,
    Scored,
    evaluate,
    prepare_run,
    read_scores,
    read_truth,
)
from aznas_onnx.proxies import PROXIES
from aznas_onnx.ranking import Aggregation
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.spaces import get
from benchmarks.truth_sets import SETS, TruthSet

PROXIES_SCORED = ("az", "blockwise", "structure", "idle_blocks")
BEGIN, END = "<!-- made by benchmarks/truth.py -->", "<!-- end -->"
HEADER = (
    "Set, column",
    "Networks",
    "params",
    "MACs",
    "activations",
    "`az`",
    "`best`",
    "published",
    "ρ `best`",
    "same size `best`",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("score", "page"):
        command = commands.add_parser(name)
        command.add_argument("data", nargs="+", type=Path, help="folders with the measurements")
        command.add_argument("--scores", type=Path, required=True, help="folder of the scores files")
        command.add_argument("--set", dest="sets", action="append", choices=[one.name for one in SETS])
    commands.choices["page"].add_argument("-o", "--output", type=Path, required=True)
    commands.choices["page"].add_argument("--resamples", type=int, default=200)
    arguments = parser.parse_args()
    there = [
        (one, path)
        for one in SETS
        if not arguments.sets or one.name in arguments.sets
        for path in [next((folder / one.file for folder in arguments.data if (folder / one.file).exists()), None)]
        if path is not None
    ]
    if arguments.command == "score":
        arguments.scores.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(1)
        for one, path in there:
            score(one, path, scores_of(arguments.scores, one))
        return 0
    lines = list(page(there, arguments.scores, Bootstrap(resamples=arguments.resamples)))
    write(arguments.output, lines)
    return 0


def scores_of(folder: Path, one: TruthSet) -> Path:
    return folder / f"{one.name}.jsonl"


def score(one: TruthSet, truth: Path, scores: Path) -> None:
    """Score the networks of a set that have no score yet."""
    settings = ScoreSettings.of(effort="balanced", device="cpu", proxies=PROXIES_SCORED)
    space = get(one.space, **one.options)
    listed = read_truth(truth, one.columns, genotype=space.columns, group=one.group, lower=one.lower)
    count = min(one.networks, len(set(listed.archs)))
    run = prepare_run(space, listed, sample=count, scores=scores, settings=settings)

    def show(moment: Scored) -> None:
        remaining_s = moment.remaining_s or 0.0
        print(f"\r{one.name}: {moment.done} of {moment.total}, {remaining_s:.0f} s left ", end="", file=sys.stderr)

    run.score(show)
    print(file=sys.stderr)


def page(sets: Sequence[tuple[TruthSet, Path]], scores: Path, bootstrap: Bootstrap) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"| {' | '.join(HEADER)} |"
    yield f"|{'---|' * len(HEADER)}"
    for one, truth in sets:
        path = scores_of(scores, one)
        if not path.exists():
            print(f"{one.name} has no scores yet", file=sys.stderr)
            continue
        found = judged(one, truth, path, bootstrap)
        for column in one.columns:
            yield f"| {' | '.join(cells(one, found, column))} |"


def judged(one: TruthSet, truth: Path, path: Path, bootstrap: Bootstrap) -> Evaluation:
    """Compare a set's scores with its measurements: each proxy, the ensembles and the counts."""
    space = get(one.space, **one.options)
    listed = read_truth(truth, one.columns, genotype=space.columns, group=one.group, lower=one.lower)
    known = set(listed.archs)
    records = [record for record in read_scores(path).records.values() if record.arch in known]
    ensembles = {name: PROXIES.groups[name] for name in ("az", "best")}
    return evaluate(records, listed, aggregation=Aggregation.LOG_RANK, ensembles=ensembles, bootstrap=bootstrap)


def cells(one: TruthSet, found: Evaluation, column: str) -> Iterator[str]:
    """Yield the cells of a row."""
    single = {agreement.proxies[0]: agreement for agreement in found.single}
    ensembles = {agreement.ensemble: agreement for agreement in found.ensembles}
    yield f"{one.name}, {column}"
    yield f"{found.n:,}"
    for name in ("params", "macs", "activations"):
        yield plain(single[name].kendall[column])
    yield plain(ensembles["az"].kendall[column])
    yield bracketed(ensembles["best"].kendall[column])
    published = one.published.get(column)
    symbol = "" if published is None else {"tau": "τ", "rho": "ρ"}[published.symbol]
    yield "" if published is None else f"{symbol} {published.value:.3g}, {published.method}"
    yield plain(ensembles["best"].spearman[column])
    yield bracketed(ensembles["best"].matched[column])


def plain(one: Interval) -> str:
    return "" if one.value is None else f"{one.value:.2f}"


def bracketed(one: Interval) -> str:
    interval = "" if one.low is None or one.high is None else f" ({one.low:.2f} to {one.high:.2f})"
    return f"{plain(one)}{interval}"


def write(path: Path, lines: Sequence[str]) -> None:
    """Replace the part between the marks; make a page of it where there is none."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
