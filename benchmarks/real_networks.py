"""Make the bundled calibration `imagenet`, and the tables of docs/real-networks.md.

    pip install '.[zoo]'
    python -m benchmarks.real_networks score DATA --networks networks.jsonl      resumes; hours
    python -m benchmarks.real_networks fit DATA --networks networks.jsonl
    python -m benchmarks.real_networks page DATA --networks networks.jsonl -o docs/real-networks.md

DATA is a folder with the published accuracies: imagenet_timm_results.csv (timm's results-imagenet.csv),
imagenet_torchvision.csv (the metadata of torchvision's weights) and imagenet_pycls_dds.csv (pycls's model zoo). Only
plain recipes count: no pre-training on other images, no distillation. Networks have random weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

import aznas_onnx as az
from aznas_onnx.calibration import NEEDED, Calibration, MeasuredNetwork, traits_of
from aznas_onnx.calibration.validation import LeftOut, Pair, leave_families_out, pairs
from aznas_onnx.gating import Policy
from aznas_onnx.gating.estimate_check import REACH
from benchmarks.truth import row, write

Floats = npt.NDArray[np.float64]

PLAIN_TAG = re.compile(r"in1k$")
NOT_PLAIN = re.compile(
    r"ft|12k|21k|22k|dist|ssld|jft|clip|mae|dino|ijepa|swsl|ssl|laion|beit|mim|augreg2|swag|usi|lc_|noisy|ns_"
)
LARGEST_GMACS = 18.5
PYCLS_SIZES = {"EN-B1": "240", "EN-B2": "260", "EN-B3": "300", "EN-B4": "380", "EN-B5": "456"}
PYCLS = {
    "X-50-32x4d": "resnext50_32x4d",
    "X-101-32x4d": "resnext101_32x4d",
    "R-50-1x64d": "resnet50",
    "R-101-1x64d": "resnet101",
    "R-152-1x64d": "resnet152",
}
FAMILIES = {
    "efficientnetv": "efficientnetv2",
    "gc": "efficientnetv2",
    "mobilenetv": "mobilenet",
    "wide": "resnet",
    "regnetx": "regnet",
    "regnety": "regnet",
    "regnetz": "regnet",
    "regnetv": "regnet",
    "flexivit": "vit",
    "deit": "vit",
    "naflexvit": "vit",
    "densenetblur": "densenet",
    "ghostnetv": "ghostnet",
    "skresnext": "skresnet",
}
RECIPE = "torchvision V1"
INTERVAL = 0.9
FEWEST_OF_A_RECIPE = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["score", "fit", "page"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--networks", type=Path, required=True, help="JSON lines, one a network; continued")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    published = list(measurements(arguments.data))
    if arguments.command == "score":
        score(published, arguments.networks)
        return 0
    found = calibration(published, arguments.networks)
    if arguments.command == "fit":
        found.write(Path(__file__).parents[1] / "aznas_onnx" / "calibration" / "data" / "imagenet.json")
    else:
        write(arguments.output, list(page(found)))
    return 0


def measurements(data: Path) -> Iterator[MeasuredNetwork]:
    """Yield the published accuracies; traits are empty, and `macs` those that were published."""
    for line in _read(data / "imagenet_timm_results.csv"):
        name, _, tag = line["model"].partition(".")
        if PLAIN_TAG.search(tag) and not NOT_PLAIN.search(tag) and "distill" not in name:
            yield _measured(f"timm:{name}@{line['img_size']}", f"timm {tag}", line["top1"], line["gmacs"])
    for line in _read(data / "imagenet_pycls_dds.csv"):
        known = _timm_name(line["config"])
        if known:
            name = f"timm:{known}@{PYCLS_SIZES.get(line['config'], '224')}"
            yield _measured(name, "pycls 100 epochs", line["top1"], str(float(line["flops"]) / 1e9))
    for line in _read(data / "imagenet_torchvision.csv"):
        kind = line["weights"].removeprefix("IMAGENET1K_")
        if kind in ("V1", "V2"):
            yield _measured(f"torchvision:{line['model']}", f"torchvision {kind}", line["top1"], line["gmacs"])


def _read(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def _timm_name(config: str) -> str | None:
    """Return timm's name of a network of pycls."""
    if config in PYCLS:
        return PYCLS[config]
    if config.startswith("EN-B"):
        return f"efficientnet_b{config.removeprefix('EN-B')}"
    match = re.fullmatch(r"RegNet([XY])-([\d.]+)([MG])F", config)
    if match is None:
        return None
    hundreds = float(match[2]) / 100 if match[3] == "M" else float(match[2]) * 10
    return f"regnet{match[1].lower()}_{round(hundreds):03d}"


def _measured(name: str, recipe: str, top1: str, gmacs: str) -> MeasuredNetwork:
    architecture = name.partition(":")[2]
    letters = re.match(r"[a-z]+", architecture)
    prefix = letters.group() if letters else architecture
    family = FAMILIES.get(prefix, prefix)
    return MeasuredNetwork(
        name=name,
        family=family,
        recipe=recipe,
        value=float(top1),
        macs=round(float(gmacs) * 1e9),
        params=0,
        traits=(),
    )


def score(published: Sequence[MeasuredNetwork], networks: Path) -> None:
    """Score the networks that the file lacks, the cheapest first."""
    known = set(_scored(networks))
    todo = {one.name: one for one in sorted(published, key=lambda one: one.macs)}
    for number, (name, one) in enumerate(todo.items()):
        if name in known or one.macs > LARGEST_GMACS * 1e9:
            continue
        result = az.score(name, proxies=["az", *NEEDED], effort="balanced", device="cpu")
        line = {"network": name, "reason": result.reason}
        if result.macs is not None and result.params is not None:
            line |= {"macs": result.macs, "params": result.params, "traits": dict(traits_of(result))}
        with networks.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{number + 1} of {len(todo)}: {name} {result.reason or ''}", file=sys.stderr)


def _scored(networks: Path) -> dict[str, dict[str, object]]:
    if not networks.exists():
        return {}
    lines = [json.loads(line) for line in networks.read_text().splitlines() if line.strip()]
    return {line["network"]: line for line in lines}


def calibration(published: Sequence[MeasuredNetwork], networks: Path) -> Calibration:
    """Return the calibration of the networks that could be scored, with its interval from families left out."""
    scored = {name: line for name, line in _scored(networks).items() if "traits" in line}
    rows = []
    for one in published:
        line = scored.get(one.name)
        if line is not None:
            traits = tuple(line["traits"].values())  # type: ignore[attr-defined]
            rows.append(replace(one, traits=traits, macs=line["macs"], params=line["params"]))  # type: ignore[arg-type]
    found = Calibration(
        name="imagenet",
        measure="ImageNet top-1 accuracy in percent",
        recipe=RECIPE,
        effort="balanced",
        batch_size=16,
        networks=tuple(rows),
    )
    left_out = leave_families_out(found.regression)
    reach = np.abs(left_out.mean - found.regression.values) / left_out.deviation
    return replace(found, interval_scale=round(float(np.quantile(reach, INTERVAL)), 3))


def page(found: Calibration) -> Iterator[str]:
    """Yield the tables."""
    regression = found.regression
    left_out = leave_families_out(regression)
    names = {one.name for one in found.networks}
    families = Counter(one.family for one in found.networks)
    yield (
        f"{len(found.networks):,} measurements of {len(names):,} networks in {len(families)} families, "
        f"{len(set(regression.recipes))} recipes; each family is left out in turn."
    )
    yield from ("", "### Estimates", "")
    yield row("Measurements", "Number", "Mean absolute error", "Median", "tau within a recipe", "90 % intervals cover")
    yield row(*["---"] * 6)
    everything = np.ones(len(regression.values), dtype=bool)
    of_timm = np.array([recipe.startswith("timm ") for recipe in regression.recipes])
    small = np.array([one.macs <= 2.2e9 for one in found.networks])
    selections = {"all": everything, "timm, plain recipes": of_timm, "of these up to 2.2 GMACs": of_timm & small}
    selections |= {
        name: regression.recipes == name for name in ("pycls 100 epochs", "torchvision V1", "torchvision V2")
    }
    for label, chosen in selections.items():
        yield row(label, *_errors(found, left_out, chosen))
    yield from ("", "### Decisions on pairs of one recipe, 1 point apart or more", "")
    yield row("Pairs", "Number", "better ones rejected", "worse ones passed", "undecided")
    yield row(*["---"] * 5)
    every = list(pairs(regression, 1.0))
    for label, some in (
        ("all", every),
        ("of one family", [one for one in every if one.is_kin]),
        ("of two families", [one for one in every if not one.is_kin]),
    ):
        yield row(label, f"{len(some):,}", *_decisions(some))
    yield from ("", "### By family", "")
    yield row("Family", "Measurements", "Mean error", "Mean absolute error")
    yield row(*["---"] * 4)
    for family, count in sorted(families.items()):
        errors = (left_out.mean - regression.values)[regression.families == family]
        yield row(family, str(count), f"{errors.mean():+.1f}", f"{np.abs(errors).mean():.1f}")


def _errors(found: Calibration, left_out: LeftOut, chosen: npt.NDArray[np.bool_]) -> Iterator[str]:
    regression = found.regression
    errors = np.abs(left_out.mean - regression.values)[chosen]
    covered = errors <= found.interval_scale * left_out.deviation[chosen]
    yield f"{chosen.sum():,}"
    yield f"{errors.mean():.2f}"
    yield f"{np.median(errors):.2f}"
    yield f"{_tau(left_out.mean[chosen], regression.values[chosen], regression.recipes[chosen]):.2f}"
    yield f"{covered.mean():.0%}"


def _tau(estimated: Floats, measured: Floats, recipes: npt.NDArray[np.str_]) -> float:
    """Return Kendall's tau within each recipe, averaged by the number of its measurements."""
    taus, counts = [], []
    for recipe in np.unique(recipes):
        there = recipes == recipe
        if there.sum() >= FEWEST_OF_A_RECIPE:
            taus.append(kendalltau(estimated[there], measured[there]).statistic)
            counts.append(there.sum())
    return float(np.average(taus, weights=counts))


def _decisions(some: Sequence[Pair]) -> Iterator[str]:
    """Yield the shares of wrong rejections and passes, and of undecided ones, in both directions of each pair."""
    estimated = np.array([sign * one.estimated for one in some for sign in (1, -1)])
    measured = np.array([sign * one.measured for one in some for sign in (1, -1)])
    above = estimated + Policy().max_drop
    margin = REACH * np.array([one.deviation for one in some for _ in (1, -1)])
    rejected, passed = above < -margin, above >= margin
    yield f"{rejected[measured > 0].mean():.1%}"
    yield f"{passed[measured < 0].mean():.1%}"
    yield f"{(~rejected & ~passed).mean():.1%}"


if __name__ == "__main__":
    sys.exit(main())
