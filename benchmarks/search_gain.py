"""Evolution against random sampling in mbv2: equal budgets and equal numbers of networks.

    python benchmarks/search_gain.py                                   450M, 600M and 1000M, 300 networks a search
    python benchmarks/search_gain.py --budgets 600M --iterations 50    a smaller question

The layers are limited as in the paper: to 14, or to 16 from 1000M on. Each search is a study of its own in FOLDER
(build/search_gain), and goes on where an earlier run was stopped. Networks
are scored on small images, for the CPU; budgets and complexity are those of 224x224. The score (Eq. 12) ranks the
networks of one pool, so the two searches of a budget are put into one and ranked again; the winner of a search is the
one that it names itself, from its own candidates. Writes FOLDER/result.json and prints a table in Markdown. Ends with
status 1 where a winner of evolution does not come before that of random sampling, or uses less than 90 % of the budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from aznas_onnx import rank
from aznas_onnx.counts import format_count, parse_count
from aznas_onnx.results import ProxyScores
from aznas_onnx.searching import Budget, Limit, Progress, Strategy, Study, Trial, search

REQUIRED_USE = 0.9
_SHALLOW, _DEEP, _LARGE_MACS = 14, 16, 1_000_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budgets", nargs="+", default=["450M", "600M", "1000M"], help="multiply-adds at most")
    parser.add_argument("--iterations", type=int, default=300, help="networks that each search scores")
    parser.add_argument("--score-resolution", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/search_gain"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for budget in arguments.budgets for row in compared(budget, arguments)]
    settings = {name: value for name, value in vars(arguments).items() if name != "folder"}
    document = {"schema": "aznas.search_gain/1", "settings": settings, "searches": rows}
    (arguments.folder / "result.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(table(rows))
    evolved = [row for row in rows if row["strategy"] == Strategy.EVOLUTION.value]
    return int(not all(row["gain"] > 0 and row["use"] >= REQUIRED_USE for row in evolved))


def compared(budget: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Search within a budget in both ways, and return what each found, ranked in one pool."""
    maximum = parse_count(budget)
    studies = {strategy: searched(budget, maximum, strategy, arguments) for strategy in Strategy}
    pool = [(strategy, trial) for strategy, study in studies.items() for trial in study.trials]
    ranking = rank([as_scores(trial) for _, trial in pool])
    named = {strategy: study.best()[0].trial.number for strategy, study in studies.items()}
    winners = {
        strategy: next(i for i, (own, trial) in enumerate(pool) if own is strategy and trial.number == named[strategy])
        for strategy in Strategy
    }
    scores = {strategy: ranking.az_score[index] or 0.0 for strategy, index in winners.items()}
    return [
        {
            "budget": budget,
            "strategy": strategy.value,
            "az_score": scores[strategy],
            "gain": scores[strategy] - max(scores[other] for other in Strategy if other is not strategy),
            "rank": ranking.rank[index],
            "use": pool[index][1].cost.macs / maximum,
            "macs": pool[index][1].cost.macs,
            "params": pool[index][1].cost.params,
            "layers": pool[index][1].cost.layers,
            "trial": pool[index][1].number,
            "genotype": pool[index][1].genotype,
            "proxies": {name: value.mean for name, value in pool[index][1].proxies.items()},
            "scored": len(studies[strategy].trials),
            "in_best_tenth": share_of_the_best(strategy, [pool[i][0] for i in ranking.order]),
            "seconds": round(sum(trial.elapsed_s for trial in studies[strategy].trials)),
        }
        for strategy, index in winners.items()
    ]


def searched(budget: str, maximum: int, strategy: Strategy, arguments: argparse.Namespace) -> Study:
    print(f"{budget}, {strategy.value}", file=sys.stderr, flush=True)
    return search(
        "mbv2",
        Budget(macs=Limit(None, maximum), layers=Limit(None, _DEEP if maximum >= _LARGE_MACS else _SHALLOW)),
        iterations=arguments.iterations,
        strategy=strategy,
        seed=arguments.seed,
        score_resolution=arguments.score_resolution,
        effort="balanced",
        db=arguments.folder / f"{budget}-{strategy.value}-{arguments.iterations}.db",
        resume=True,
        on_progress=show,
    )


def show(progress: Progress) -> None:
    if progress.done % 20 == 0:
        print(f"  {progress.done} of {progress.iterations}", file=sys.stderr, flush=True)


def as_scores(trial: Trial) -> ProxyScores:
    return ProxyScores(model=trial.genotype, status=trial.status, proxies=trial.proxies)


def share_of_the_best(strategy: Strategy, ordered: list[Strategy]) -> float:
    """Return how much of the better tenth of the pool one strategy found."""
    best = ordered[: max(1, len(ordered) // 10)]
    return best.count(strategy) / len(best)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| Budget | Strategy | Its winner scores | Place in both | Of the best tenth | MACs | Of the budget | Layers |",
        "| ---: | :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['budget']} | {row['strategy']} | {row['az_score']:.2f} | {row['rank']} | {row['in_best_tenth']:.0%} "
        f"| {format_count(row['macs'])} | {row['use']:.1%} | {row['layers']} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
