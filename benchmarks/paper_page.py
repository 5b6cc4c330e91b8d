"""Write the scores of `aznas bench nb201` beside the paper's Tables 1 and 4 and Figure 3, as Markdown.

    aznas bench nb201 --truth nb201_accuracy_dev.csv --effort balanced -o balanced.jsonl
    python -m benchmarks.paper_page balanced.jsonl --truth nb201_accuracy_dev.csv > docs/benchmarks/paper.md

Intervals in brackets are 95 % percentile intervals of the bootstrap.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aznas_onnx.evaluation import Agreement, Bootstrap, Evaluation, Interval, evaluate, read_scores, read_truth
from benchmarks.published import ABLATION, CORRELATION, PROXY_ORDER, TABLE_1, paper_columns

LETTERS = dict(zip(PROXY_ORDER, "EPTC", strict=True))
NAMES = {"macs": "MACs (FLOPs)", "params": "parameters"}


def page(found: Evaluation, space: str, columns: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the page."""
    paper = paper_columns(space, columns)
    yield "# Beside the paper: NAS-Bench-201"
    yield ""
    yield f"The paper's numbers are of all 15,625 cells, ours of {found.n:,}."
    yield from ("", "## Table 1", "", *table_1(found, paper), "", "## Table 4", "", *table_4(found, paper))
    yield from ("", "## Figure 3", "", "Kendall's tau between the proxies. In brackets: the paper's.", "")
    yield from figure_3(found)


def table_1(found: Evaluation, paper: Mapping[str, int]) -> Iterator[str]:
    """Yield Kendall's tau and Spearman's rho, and the accuracy of the best-scored of random subsets."""
    ours = {"AZ-NAS": found.overall, **{one.proxies[0]: one for one in found.baselines}}
    rows = []
    for name, agreement in ours.items():
        cells = [NAMES.get(name, name)]
        for column, place in paper.items():
            published = [f"{value:.3f}" for value in TABLE_1[name][place][:2]] if name in TABLE_1 else ["", ""]
            sides = (agreement.kendall[column], agreement.spearman[column])
            cells += [cell for side, there in zip(sides, published, strict=True) for cell in (interval(side), there)]
        rows.append(cells)
    yield from table(["", *(title for name in paper for title in (f"τ {name}", "paper", f"ρ {name}", "paper"))], rows)
    picked = {column: found.selected[column] for column in paper if column in found.selected}
    if picked:
        example = next(iter(picked.values()))
        yield from ("", f"Accuracy of the best-scored of {example.subset:,} random cells, {example.runs} times:", "")
        yield from table(
            ["", *picked],
            [
                ["here", *(f"{one.mean:.2f} ± {one.deviation:.2f}" for one in picked.values())],
                ["paper", *(TABLE_1["AZ-NAS"][paper[column]][2] for column in picked)],
                ["best of the subset", *(f"{one.optimum:.2f}" for one in picked.values())],
            ],
        )


def table_4(found: Evaluation, paper: Mapping[str, int]) -> Iterator[str]:
    """Yield Kendall's tau of each proxy and combination that the paper has."""
    by_key: dict[object, Agreement] = {(one.proxies, one.aggregation): one for one in (*found.single, *found.combined)}
    rows = []
    for row in ABLATION:
        ours = by_key.get((row.proxies, row.aggregation))
        if ours is not None:
            how = "" if row.aggregation is None else row.aggregation.value
            cells = [str(row.number), "+".join(LETTERS[name] for name in row.proxies), how]
            for column, place in paper.items():
                cells += [interval(ours.kendall[column]), f"{row.kendall[place]:.3f}"]
            rows.append(cells)
    yield ", ".join(f"{letter} {name}" for name, letter in LETTERS.items()) + "."
    yield ""
    yield from table(["Row", "Ranked by", "Ranks", *(cell for name in paper for cell in (f"τ {name}", "paper"))], rows)


def figure_3(found: Evaluation) -> Iterator[str]:
    """Yield the correlations between the proxies."""
    if found.proxies == PROXY_ORDER:
        pairs = zip(found.proxies, found.proxy_correlation, CORRELATION, strict=True)
        rows = [
            [name, *(f"{ours:.2f} ({there:.2f})" for ours, there in zip(row, published, strict=True))]
            for name, row, published in pairs
        ]
        yield from table(["", *found.proxies], rows)


def interval(one: Interval) -> str:
    ends = "" if one.low is None else f" ({one.low:.3f} to {one.high:.3f})"
    return "undefined" if one.value is None else f"{one.value:.3f}{ends}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (header, [":---", *["---:"] * (len(header) - 1)], *rows):
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scores")
    parser.add_argument("--truth", required=True)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    scores, truth = read_scores(options.scores), read_truth(options.truth)
    measured = set(truth.archs)
    records = [record for record in scores.records.values() if record.arch in measured]
    found = evaluate(
        records,
        truth,
        directions=scores.directions,
        bootstrap=Bootstrap(resamples=options.resamples),
        has_combinations=True,
    )
    print("\n".join(page(found, scores.settings.space.name, truth.columns)))


if __name__ == "__main__":
    main()
