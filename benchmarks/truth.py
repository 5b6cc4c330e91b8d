"""Score measured networks of many benchmarks, and write the tables of docs/truth.md.

    python -m benchmarks.truth score DATA ... --scores SCORES            resumes; a scores file a set
    python -m benchmarks.truth rivals DATA ... --scores SCORES           other papers' proxies, of 60 networks a set
    python -m benchmarks.truth page DATA ... --scores SCORES -o docs/truth.md

DATA are folders with the CSV files of :mod:`benchmarks.truth_sets`; a set whose file is not there is left out. Scores
are of effort balanced, one seed, on one thread, of a random sample (seed 0) of each set's networks; those of several
sets can be made at the same time. The page's part between two marks is replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from aznas_onnx.evaluation import (
    Agreement,
    Bootstrap,
    Evaluation,
    Interval,
    Scored,
    evaluate,
    prepare_run,
    read_scores,
    read_truth,
)
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.spaces import get
from benchmarks.choose_by_kind import choose, read_benchmark, without
from benchmarks.truth_sets import SETS, TruthSet

PROXIES_SCORED = ("az", "blockwise", "structure", "idle_blocks")
RIVALS = ("synflow", "naswot", "grad_norm", "snip", "zen", "zico", "jacov", "swap", "meco", "near")
RIVALS_NETWORKS = 60
ENSEMBLES = ("az", "best", "best-nb201", "best-dense")
BEGIN, END = "<!-- made by benchmarks/truth.py -->", "<!-- end -->"
SYMBOLS = {"tau": "τ", "rho": "ρ"}
COUNTS = ("params", "macs", "activations")
TITLES = {"macs": "MACs", "az": "`az`", "best": "`best`", "best-dense": "`best-dense`", "best-nb201": "`best-nb201`"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("score", "rivals", "page"):
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
    if arguments.command != "page":
        arguments.scores.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(1)
        for one, path in there:
            if arguments.command == "rivals":
                score(one, path, rivals_of(arguments.scores, one), RIVALS, min(one.networks, RIVALS_NETWORKS))
            else:
                score(one, path, scores_of(arguments.scores, one), PROXIES_SCORED, one.networks)
        return 0
    there = [(one, path) for one, path in there if scores_of(arguments.scores, one).exists()]
    write(arguments.output, list(page(there, arguments.scores, Bootstrap(resamples=arguments.resamples))))
    return 0


def scores_of(folder: Path, one: TruthSet) -> Path:
    return folder / f"{one.name}.jsonl"


def rivals_of(folder: Path, one: TruthSet) -> Path:
    return folder / f"{one.name}-rivals.jsonl"


def score(one: TruthSet, truth: Path, scores: Path, proxies: Sequence[str], networks: int) -> None:
    """Score the networks of a set that have no score yet."""
    settings = ScoreSettings.of(effort="balanced", device="cpu", proxies=proxies)
    space = get(one.space, **one.options)
    listed = read_truth(truth, one.columns, genotype=space.columns, group=one.group, lower=one.lower)
    count = min(networks, len(set(listed.archs)))
    run = prepare_run(space, listed, sample=count, scores=scores, settings=settings)

    def show(moment: Scored) -> None:
        remaining_s = moment.remaining_s or 0.0
        print(f"\r{one.name}: {moment.done} of {moment.total}, {remaining_s:.0f} s left ", end="", file=sys.stderr)

    run.score(show)
    print(file=sys.stderr)


def page(sets: Sequence[tuple[TruthSet, Path]], scores: Path, bootstrap: Bootstrap) -> Iterator[str]:
    """Yield the tables."""
    found = {one.name: judged(one, truth, scores_of(scores, one), bootstrap) for one, truth in sets}
    yield from ("", "## Classification, Kendall's tau", "")
    yield from classification(sets, found, scores)
    yield from ("", "## The same, Spearman's rho, and tau between networks of the same size (MACs within 10 %)", "")
    titles = ("params", "MACs", "`az`", "`best`", "`az`, same size", "`best`, same size", "pairs")
    yield from head("Set, column", *titles)
    for one, _ in sets:
        both = found[one.name]
        named = by_name(both)
        for column in one.classification:
            rho = [plain(named[name].spearman[column]) for name in ("params", "macs", "az")]
            same = [bracketed(named[name].matched[column]) for name in ("az", "best")]
            yield row(
                f"{one.name}, {column}", *rho, bracketed(named["best"].spearman[column]), *same, f"{both.n_pairs:,}"
            )
    yield from ("", "## Dense tasks, Spearman's rho", "")
    names = (*COUNTS, "az", "best", "best-dense")
    yield from head("Set, column", "Networks", *(TITLES.get(name, name) for name in names), "published")
    for one, _ in sets:
        named = by_name(found[one.name])
        for column in one.dense:
            rho = [plain(named[name].spearman[column]) for name in names[:-2]]
            rho += [bracketed(named[name].spearman[column]) for name in names[-2:]]
            yield row(f"{one.name}, {column}", f"{found[one.name].n:,}", *rho, published(one, column))
    yield from rivals(sets, scores)


def classification(
    sets: Sequence[tuple[TruthSet, Path]], found: Mapping[str, Evaluation], scores: Path
) -> Iterator[str]:
    """Yield the table of tau, with what a choice without the benchmark reaches, and the highest known."""
    names = (*COUNTS, "az", "best-nb201", "best")
    titles = [TITLES.get(name, name) for name in names]
    yield from head("Set, column", "Networks", *titles, "`best` chosen without it", "chosen on it", "published")
    chosen_by = {one.name: read_benchmark(one, truth, scores_of(scores, one)) for one, truth in sets}
    for one, truth in sets:
        named = by_name(found[one.name])
        whole = read_benchmark(one, truth, scores_of(scores, one), rows=slice(None))
        others = without(list(chosen_by.values()), chosen_by[one.name])
        own = choose([chosen_by[one.name]], whole.kind)
        unseen, seen = (whole.tau(choice.weights[None], choice.aggregation)[0] for choice in (others, own))
        for at, column in enumerate(one.classification):
            tau = [plain(named[name].kendall[column]) for name in names[:-1]]
            best = bracketed(named["best"].kendall[column])
            limits = (f"{unseen[at]:.2f}", f"{seen[at]:.2f}")
            yield row(f"{one.name}, {column}", f"{found[one.name].n:,}", *tau, best, *limits, published(one, column))


def rivals(sets: Sequence[tuple[TruthSet, Path]], scores: Path) -> Iterator[str]:
    """Yield the table of other papers' proxies."""
    there = [(one, truth) for one, truth in sets if rivals_of(scores, one).exists()]
    if not there:
        return
    yield from ("", "## Proxies of other papers, Kendall's tau", "")
    names = (*RIVALS, "az", "best")
    yield from head("Set, column", "Networks", *(TITLES.get(name, name) for name in names))
    for one, truth in there:
        none, archs = Bootstrap(resamples=0), set(known(rivals_of(scores, one)))
        rival = judged(one, truth, rivals_of(scores, one), none, archs, ensembles=())
        own = judged(one, truth, scores_of(scores, one), none, archs)
        named = by_name(own) | by_name(rival)
        for column in one.classification:
            tau = [plain(named[name].kendall[column]) if name in named else "" for name in names]
            yield row(f"{one.name}, {column}", f"{own.n:,}", *tau)


def known(path: Path) -> Iterator[str]:
    """Yield the architectures of a scores file that were scored."""
    return (record.arch for record in read_scores(path).records.values() if record.reason is None)


def judged(
    one: TruthSet,
    truth: Path,
    path: Path,
    bootstrap: Bootstrap,
    only: Collection[str] | None = None,
    ensembles: Collection[str] = ENSEMBLES,
) -> Evaluation:
    """Compare a set's scores with its measurements: each proxy, the ensembles and the counts."""
    space = get(one.space, **one.options)
    listed = read_truth(truth, one.columns, genotype=space.columns, group=one.group, lower=one.lower)
    archs = set(listed.archs) if only is None else set(listed.archs) & set(only)
    records = [record for record in read_scores(path).records.values() if record.arch in archs]
    return evaluate(records, listed, ensembles=ensembles, bootstrap=bootstrap)


def by_name(found: Evaluation) -> Mapping[str, Agreement]:
    """Return proxies and ensembles by name."""
    return {agreement.ensemble or agreement.proxies[0]: agreement for agreement in (*found.single, *found.ensembles)}


def published(one: TruthSet, column: str) -> str:
    best = one.published.get(column)
    return "" if best is None else f"{SYMBOLS[best.symbol]} {best.value:.3g}, {best.method}"


def head(*titles: str) -> Iterator[str]:
    yield row(*titles)
    yield f"|{'---|' * len(titles)}"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


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
