"""What a search without training finds among networks that were trained.

    python -m benchmarks.search_regret nb201 --truth accuracies.csv --scores nb201.jsonl --pool 1000
    python -m benchmarks.search_regret nb-macro --truth macro.csv --metric mean_acc --scores macro.jsonl

The pool is closed: some measured networks, each once (`Space.canonical`), and no others. `az.search` searches it with
each ensemble and seed as it searches a space; its start, samples and mutations are members of the pool
(closed_pool.py). A search ranks its candidates among themselves; beside it stand the same candidates as they rank among
the whole pool, the whole pool by the same scores, and its largest members by a count, equal ones in random order, for
which nothing is scored. Random search trains some members and keeps the best of them; its accuracies are exact
expectations.

Scores come from the file that `aznas bench` wrote; missing ones are scored with the settings of the file, and
appended, so that a killed run goes on. The pool has the networks of the file first, then others at random.

Prints a table in Markdown: the accuracy of the network with the best score, the best among the ten with the best
scores, and how far both are below the best of the pool; means over the seeds. The last two columns have the number of
trainings of a random search whose expected best is as good. `-o` writes every seed's networks as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

import aznas_onnx as az
from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import Record, Run, Scored, prepare_run, read_scores
from aznas_onnx.proxies import PROXIES
from aznas_onnx.ranking import Ensemble
from aznas_onnx.scoring import ScoreOptions, ScoreSettings
from aznas_onnx.searching.identity import CandidateIdentifier, Identity
from benchmarks.closed_pool import ClosedPool, KnownScores

Floats = npt.NDArray[np.float64]
TOP = 10
ROUNDING = 1e-9  # of an expectation
COUNTS = {"params": "parameters", "macs": "MACs"}


@dataclass(frozen=True)
class MeasuredPool:
    """The networks of a pool, in the notation of the space.

    - `accuracies`: (n_networks, n_columns) higher is better.
    """

    space: ClosedPool
    archs: tuple[str, ...]
    records: Mapping[str, Record]
    columns: tuple[str, ...]
    accuracies: Floats

    def of(self, archs: Sequence[str]) -> Floats:
        """Return the accuracies of some networks, shape (n_archs, n_columns)."""
        return self.accuracies[[self.archs.index(arch) for arch in archs]]


@dataclass(frozen=True)
class Found:
    """What one way of choosing found with one seed.

    - `archs`: The networks to train, the most promising first.
    - `scored`: All that were scored for it.
    """

    seed: int
    archs: tuple[str, ...]
    scored: tuple[str, ...]


def main() -> int:
    arguments = parsed()
    run = scored(arguments)
    pool = measured_pool(run)
    print(f"{len(pool.archs):,} networks of {run.space.name}", file=sys.stderr)
    seeds = range(arguments.seeds)
    found: dict[str, list[Found]] = {}
    for ensemble in arguments.ensembles:
        title = f"search by `{ensemble}`"
        found[title] = [searched(pool, ensemble, arguments.evaluations, seed) for seed in seeds]
        found[f"{title}, ranked in the pool"] = [ranked(pool, ensemble, one.seed, one.scored) for one in found[title]]
        found[f"whole pool by `{ensemble}`"] = [ranked(pool, ensemble, seed, pool.archs) for seed in seeds]
    for count, title in COUNTS.items():
        found[f"most {title}"] = [largest(pool, count, seed) for seed in seeds]
    rows = [row(pool, title, by_seed) for title, by_seed in found.items()]
    rows += [random_row(pool, trained) for trained in arguments.trainings if trained <= len(pool.archs)]
    print(table(pool, rows, arguments.seeds))
    if arguments.output:
        arguments.output.write_text(json.dumps(document(arguments, pool, rows), indent=2) + "\n", encoding="utf-8")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", help="a bundled space")
    parser.add_argument("--truth", type=Path, required=True, help="measured architectures, as for `aznas bench`")
    parser.add_argument("--metric", action="append", help="column of --truth; several times for several")
    parser.add_argument("--scores", type=Path, required=True, help="file of `aznas bench`; continued, or made")
    parser.add_argument("--pool", type=int, help="networks in the pool (default: all that are measured)")
    parser.add_argument("--evaluations", type=int, default=300, help="networks that a search scores")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ensembles", nargs="+", default=["az", "best"], help="as for --proxies, joined by +")
    parser.add_argument("--trainings", nargs="+", type=int, default=[1, 30, 150, 300], help="of random search")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of the results")
    return parser.parse_args()


def members(ensemble: str) -> tuple[str, ...]:
    return tuple(proxy.name for proxy in PROXIES.resolve(ensemble.split("+")))


def scored(arguments: argparse.Namespace) -> Run:
    """Choose the pool, and score what the file lacks."""
    space = az.spaces.get(arguments.space)
    identity = Identity.of(space)
    run = prepare_run(
        space,
        arguments.truth,
        metrics=arguments.metric,
        unique=identity is Identity.NETWORK,
        scores=arguments.scores,
        settings=settings(arguments),
    )
    identify = CandidateIdentifier(space, identity).of_text
    values = dict(zip(run.truth.archs, run.truth.values, strict=True))
    first: dict[str, str] = {}
    for arch in (*known(arguments.scores), *run.archs):
        if arch in values and np.isfinite(values[arch]).all():
            first.setdefault(identify(arch), arch)
    archs = list(first.values())[: arguments.pool]
    run = replace(run, archs=tuple(sorted(archs)))
    run.score(show)
    return run


def known(path: Path) -> Sequence[str]:
    return list(read_scores(path).records) if path.exists() else []


def settings(arguments: argparse.Namespace) -> ScoreSettings:
    """Return the settings of the file, which must have the proxies, or those of a new one."""
    wanted = list(dict.fromkeys(name for ensemble in arguments.ensembles for name in members(ensemble)))
    if not arguments.scores.exists():
        return ScoreSettings.of(proxies=wanted, effort="balanced", device="cpu")
    stored = read_scores(arguments.scores).settings.scoring.document
    missing = [name for name in wanted if name not in stored["proxies"]]
    if missing:
        raise SettingsError(f"{arguments.scores} has no {', '.join(missing)}; name another file to score anew")
    options: Any = {name: stored[name] for name in ScoreOptions.__optional_keys__ if name in stored}
    return ScoreSettings.of(**options)


def show(state: Scored) -> None:
    if state.done % 50 == 0:
        print(f"scored {state.done:,} of {state.total:,}", file=sys.stderr, flush=True)


def measured_pool(run: Run) -> MeasuredPool:
    """Return the networks that could be scored."""
    records = {run.space.format(run.space.parse(one.arch)): one for one in run.records() if one.reason is None}
    rows = {arch: row for row, arch in enumerate(run.truth.archs)}
    accuracies = run.truth.values[[rows[record.arch] for record in records.values()]]
    return MeasuredPool(ClosedPool(run.space, tuple(records)), tuple(records), records, run.truth.columns, accuracies)


def searched(pool: MeasuredPool, ensemble: str, evaluations: int, seed: int) -> Found:
    """Search the pool as `aznas search --proxies ENSEMBLE --seed SEED` does."""
    study = az.search(
        pool.space,
        iterations=min(evaluations, len(pool.archs)),
        scorer=KnownScores(pool.records, members(ensemble)),
        proxies=ensemble.split("+"),
        seed=seed,
    )
    best = tuple(one.trial.genotype for one in study.best(TOP))
    return Found(seed, best, tuple(trial.genotype for trial in study.trials))


def ranked(pool: MeasuredPool, ensemble: str, seed: int, candidates: Sequence[str]) -> Found:
    """Rank the whole pool, and return the first candidates."""
    scorer = KnownScores(pool.records, members(ensemble))
    combined = Ensemble.of(ensemble.split("+"))
    ranking = az.rank(
        [scorer.score(arch) for arch in pool.archs], aggregation=combined.aggregation, weights=combined.weights
    )
    allowed = set(candidates)
    order = [pool.archs[index] for index in ranking.order if pool.archs[index] in allowed]
    return Found(seed, tuple(order[:TOP]), tuple(candidates))


def largest(pool: MeasuredPool, count: str, seed: int) -> Found:
    """Return the members with the largest count, equal ones in random order."""
    order = np.random.default_rng(seed).permutation(len(pool.archs))
    counts = [getattr(pool.records[pool.archs[number]], count) for number in order]
    best = order[np.argsort(-np.array(counts), kind="stable")][:TOP]
    return Found(seed, tuple(pool.archs[number] for number in best), ())


def expected_best(accuracies: Floats, trained: int) -> float:
    """Return the expected maximum of `trained` of the accuracies, drawn at random without repetition."""
    n = len(accuracies)
    places = np.arange(trained, n + 1)  # the best one can be the smallest of `trained`, or any greater one
    logarithms = _log_binomial(places - 1, trained - 1) - _log_binomial(np.array(n), trained)
    return float(np.sort(accuracies)[trained - 1 :] @ np.exp(logarithms))


def _log_binomial(n: npt.NDArray[np.int64], k: int) -> Floats:
    logarithm: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logarithm


def worth(accuracies: Floats, reached: float) -> int:
    """Return the fewest random trainings whose expected best is at least `reached`."""
    fewest, enough = 1, len(accuracies)
    while fewest < enough:
        middle = (fewest + enough) // 2
        fewest, enough = (
            (fewest, middle) if expected_best(accuracies, middle) >= reached - ROUNDING else (middle + 1, enough)
        )
    return enough


def row(pool: MeasuredPool, title: str, by_seed: Sequence[Found]) -> dict[str, Any]:
    """Return what a way of choosing reached, by column."""
    reached = [pool.of(found.archs) for found in by_seed]
    winners = np.array([accuracies[0] for accuracies in reached])
    best = np.array([accuracies.max(axis=0) for accuracies in reached])
    optimum = pool.accuracies.max(axis=0)
    columns = pool.accuracies.T
    return {
        "way": title,
        "scored": len(by_seed[0].scored),
        "winner": winners.mean(axis=0).tolist(),
        "worst_winner": winners.min(axis=0).tolist(),
        "best_of_top": best.mean(axis=0).tolist(),
        "regret": (optimum - winners.mean(axis=0)).tolist(),
        "regret_of_top": (optimum - best.mean(axis=0)).tolist(),
        "worth": [worth(column, value) for column, value in zip(columns, winners.mean(axis=0), strict=True)],
        "worth_of_top": [worth(column, value) for column, value in zip(columns, best.mean(axis=0), strict=True)],
        "seeds": [
            {"seed": found.seed, "archs": list(found.archs), "accuracies": accuracies.tolist()}
            for found, accuracies in zip(by_seed, reached, strict=True)
        ],
    }


def random_row(pool: MeasuredPool, trained: int) -> dict[str, Any]:
    """Return what random search reaches in the mean."""
    winner = np.array([expected_best(column, trained) for column in pool.accuracies.T])
    return {
        "way": f"random search, {trained:,} trained",
        "scored": 0,
        "winner": winner.tolist(),
        "regret": (pool.accuracies.max(axis=0) - winner).tolist(),
    }


def table(pool: MeasuredPool, rows: Sequence[Mapping[str, Any]], seeds: int) -> str:
    """Return the results as Markdown; the columns of the truth are separated by slashes."""
    titles = {
        "winner": "Winner",
        "worst_winner": f"Worst of {seeds}",
        "best_of_top": f"Best of top {TOP}",
        "regret": "Regret",
        "regret_of_top": f"Regret of top {TOP}",
        "worth": "Worth trainings",
        "worth_of_top": f"Top {TOP} worth",
    }
    lines = [
        f"{' / '.join(pool.columns)}; the best of {len(pool.archs):,} networks: "
        f"{slashed(pool.accuracies.max(axis=0).tolist())}",
        "",
        f"| Chosen by | {' | '.join(titles.values())} |",
        f"| :--- |{' ---: |' * len(titles)}",
    ]
    lines += [f"| {one['way']} | {' | '.join(slashed(one.get(key, ())) for key in titles)} |" for one in rows]
    return "\n".join(lines)


def slashed(values: Sequence[float]) -> str:
    return " / ".join(f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for value in values)


def document(arguments: argparse.Namespace, pool: MeasuredPool, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    chosen = {
        name: getattr(arguments, name) for name in ("space", "metric", "evaluations", "seeds", "ensembles", "trainings")
    }
    return {
        "schema": "aznas.search_regret/1",
        "settings": chosen,
        "pool": len(pool.archs),
        "columns": list(pool.columns),
        "optimum": pool.accuracies.max(axis=0).tolist(),
        "rows": list(rows),
    }


if __name__ == "__main__":
    sys.exit(main())
