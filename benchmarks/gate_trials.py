"""Error rates of the gate: re-exports that it rejects, and damaged networks that it passes.

    python benchmarks/gate_trials.py RESULTS.jsonl [--seeds 6] [--family resnet18 ...] [--networks FOLDER]

Every small network of `gate_networks.py`, or those that are named, is exported by TorchScript: that is what is shipped.
Candidates are
- *same*: the same network by dynamo, by TorchScript in training mode, through onnxslim, ONNX Runtime's optimiser, in
  fp16 and so on, under the same seeds, as the gate does it;
- *redrawn*: the same files, but the candidate is given other seeds than the baseline. That is the worst case for a
  re-export, one whose weights stand in another order, so that the draws have nothing in common;
- *damaged*: skips removed, half the width, half the depth, a dead branch, a dead block; by TorchScript and by dynamo.

Each trial is a call of `az.gate` with the default policy but for the first seed, which differs from trial to trial.
Results are appended one a line and not computed twice, so that an interrupted run goes on; a folder for the networks
keeps them, too. At the end, a table; with --seeds 0 only that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from gate_networks import FAMILIES, SMALL, Damage, make
from resuming import resumed
from same_architecture import exports

import aznas_onnx as az
import aznas_onnx.scoring
from aznas_onnx.gating import Policy
from aznas_onnx.graph import Limits

_SHIPPED = "ts"
_DAMAGES = tuple(damage for damage in Damage if damage is not Damage.NONE)
_APART = 10_000  # seeds between trials' first ones, and between those of candidate and baseline where they are redrawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate beside what is shipped, from one first seed."""

    family: str
    kind: str
    variant: str
    number: int

    @property
    def key(self) -> str:
        """What the results file calls it."""
        return f"{self.family}/{self.kind}/{self.variant}/{self.number}"


def write_networks(family: str, folder: Path) -> dict[str, Path]:
    """Export a family's network in every way, and its damaged variants in two; what is there already is kept."""
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        network, sample = make(family, Damage.NONE)
        exports(network, sample, folder)
        for damage in _DAMAGES:
            network, sample = make(family, damage)
            for name, options in (("ts", {"dynamo": False, "opset_version": 17}), ("dynamo", {"dynamo": True})):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    path = folder / f"{damage.value}-{name}.onnx"
                    torch.onnx.export(network, (sample,), str(path), verbose=False, **options)
        done.touch()
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def trials(family: str, paths: dict[str, Path], number: int) -> Iterator[Trial]:
    """Yield the trials of a family from one first seed."""
    damages = tuple(damage.value for damage in _DAMAGES)
    for variant in paths:
        if variant.startswith(damages):
            yield Trial(family=family, kind="damaged", variant=variant, number=number)
        elif variant != _SHIPPED:
            yield Trial(family=family, kind="same", variant=variant, number=number)
    yield Trial(family=family, kind="redrawn", variant="dynamo", number=number)


def run(trial: Trial, paths: dict[str, Path]) -> dict[str, Any]:
    """Call the gate once."""
    began = time.perf_counter()
    policy = Policy(baseline=(str(paths[_SHIPPED]),), seed=trial.number * 100)
    with other_seeds(str(paths[trial.variant]), trial.kind == "redrawn"):
        result = az.gate(str(paths[trial.variant]), policy)
    score = next((check for check in result.checks if check.rule == "baseline_score"), None)
    return {
        "key": trial.key,
        "family": trial.family,
        "kind": trial.kind,
        "variant": trial.variant,
        "verdict": result.verdict.value,
        "rules": [check.rule for check in result.checks if check.verdict.value == "reject"],
        "difference": None if score is None else score.value,
        "stderr": None if score is None else score.stderr,
        "seeds": result.seeds,
        "reason": next(iter(result.reasons), ""),
        "elapsed_s": round(time.perf_counter() - began, 2),
    }


_score_many = aznas_onnx.scoring.score_many


@lru_cache(maxsize=4096)
def _scored(source: str, seeds: int, seed: int, limits: Limits, options: str) -> Any:
    return _score_many([source], seeds=seeds, seed=seed, limits=limits, **json.loads(options))


class other_seeds:  # noqa: N801 - read as a function
    """While it holds, give one model other seeds than are asked for, and compute no score twice."""

    def __init__(self, model: str, wanted: bool) -> None:
        self.model, self.shift = model, _APART if wanted else 0

    def __enter__(self) -> None:
        def score_many(sources: list[str], *, seeds: int, seed: int, limits: Limits, **options: Any) -> Any:
            seed += self.shift if sources == [self.model] else 0
            return _scored(*sources, seeds, seed, limits, json.dumps(options, sort_keys=True))

        aznas_onnx.scoring.score_many = score_many

    def __exit__(self, *_: object) -> None:
        aznas_onnx.scoring.score_many = _score_many


def show(rows: list[dict[str, Any]]) -> None:
    """Print how often each verdict was given."""
    counted: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        variant = row["variant"].rpartition("-")[0] if row["kind"] == "damaged" else row["kind"]
        counted[row["kind"], variant, row["family"]].append(row)
        counted[row["kind"], variant, "all"].append(row)
    print(
        f"{'candidate':<14}{'family':<14}{'trials':>7}{'pass':>6}{'reject':>8}{'unclear':>9}{'seeds':>7}  rejected by"
    )
    for (_, variant, family), group in sorted(counted.items(), key=lambda item: (item[0][0], item[0][1], item[0][2])):
        verdicts = [row["verdict"] for row in group]
        rules = sorted({rule for row in group for rule in row["rules"]})
        seeds = sum(row["seeds"] for row in group) / len(group)
        counts = [verdicts.count(verdict) for verdict in ("pass", "reject", "inconclusive")]
        print(
            f"{variant:<14}{family:<14}{len(group):>7}{counts[0]:>6}{counts[1]:>8}{counts[2]:>9}{seeds:>7.1f}  "
            f"{', '.join(rules)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=6, help="first seeds for each candidate")
    parser.add_argument("--networks", type=Path, help="where the exported networks are kept")
    parser.add_argument("--family", action="append", choices=list(FAMILIES))
    options = parser.parse_args()
    rows, append = resumed(options.results, {"aznas_onnx": az.__version__, "torch": torch.__version__})
    known = {row["key"] for row in rows}
    families = options.family or list(SMALL)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.networks or Path(temporary)
        for number, family in itertools.product(range(options.seeds), families):
            paths = write_networks(family, folder / family)
            for trial in trials(family, paths, number):
                if trial.key not in known:
                    append(run(trial, paths))
            _scored.cache_clear()
    show(rows)


if __name__ == "__main__":
    main()
