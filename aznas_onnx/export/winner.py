"""Write a candidate of a study: ONNX with weights, torch state dict, genotype, scores and card."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from aznas_onnx.documents import JsonObject
from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.escaping import json_text
from aznas_onnx.export.card import model_card
from aznas_onnx.export.network import TrainableNetwork
from aznas_onnx.export.weights import initialised
from aznas_onnx.latency import Latency, measure
from aznas_onnx.runtime import onnxruntime
from aznas_onnx.searching import Candidate, Study
from aznas_onnx.spaces import Space

__all__ = ["Exported", "export_winners"]

_SAMPLES = 2
_TOLERANCE = 1e-4  # of the largest output; float32 in two implementations


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The exported files of one candidate.

    Attributes
    ----------
    folder
        Where it lies: ``model.onnx``, ``weights.pt``, ``genotype.txt``, ``scores.json`` and ``README.md``.
    relative_difference
        Between ONNX Runtime's output and torch's: largest absolute difference over largest absolute output.
    replaces_earlier
        Whether an earlier export lay there.
    """

    candidate: Candidate
    folder: Path
    relative_difference: float
    replaces_earlier: bool = False


def export_winners(
    study: Study,
    candidates: Iterable[Candidate],
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    space: Space[Any] | None = None,
) -> tuple[Exported, ...]:
    """Write candidates of a study, each into its own folder.

    A candidate is written after ONNX's checker accepted it and ONNX Runtime's output agreed with torch's.

    Parameters
    ----------
    study
        Their study.
    candidates
        For example of :meth:`~aznas_onnx.searching.Study.best`.
    folder
        Created if it does not exist; files of an earlier export of the same candidate are replaced.
    seed
        Of the initial weights.
    space
        The space of the study, where it cannot be found by name or file.

    Raises
    ------
    SettingsError
        If the folder cannot be written, or the space has changed.
    ModelError
        If a network fails the check.
    """
    space = study.space() if space is None else space
    return tuple(_export(study, one, Path(folder), seed, space) for one in candidates)


def _export(study: Study, one: Candidate, parent: Path, seed: int, space: Space[Any]) -> Exported:
    model = initialised(space.build(space.parse(one.trial.genotype)), seed=seed)
    network = TrainableNetwork(model)
    difference = _checked(model, network, name=f"trial {one.trial.number}", seed=seed, words=space.vocabulary)
    folder = parent / f"{one.rank}-trial-{one.trial.number}"
    latency = None if study.settings.budget.latency_ms is None else measure(model)
    scores = _scores(study, one, seed, latency)
    card = model_card(study, one, model=model, space=space, seed=seed, relative_difference=difference, latency=latency)
    try:
        replaces_earlier = (folder / "model.onnx").exists()
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(model, folder / "model.onnx")
        torch.save(network.state_dict(), folder / "weights.pt")
        (folder / "genotype.txt").write_text(f"{one.trial.genotype}\n", encoding="utf-8")
        (folder / "scores.json").write_text(f"{json_text(scores)}\n", encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}") from error
    return Exported(candidate=one, folder=folder, relative_difference=difference, replaces_earlier=replaces_earlier)


def _checked(model: onnx.ModelProto, network: TrainableNetwork, name: str, seed: int, words: int | None) -> float:
    """Run the network in ONNX Runtime and in torch, and return the difference.

    - `words`: Number of ids, where the input is ids.

    Raises ModelError if they differ, or one of them fails.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"{name}: the network is not valid ONNX: {error}") from error
    entry, rng = session.get_inputs()[0], np.random.default_rng(seed)
    shape = (_SAMPLES, *entry.shape[1:])
    samples = rng.normal(size=shape).astype(np.float32) if words is None else rng.integers(words, size=shape)
    (expected,) = session.run(None, {entry.name: samples})
    network.eval()
    with torch.no_grad():
        found = network(torch.from_numpy(samples)).numpy()
    network.train()
    difference = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= _TOLERANCE:
        raise ModelError(f"{name}: torch and ONNX Runtime differ by {difference:.1e} of the largest output")
    return difference


def _judged(study: Study, latency: Latency) -> JsonObject:
    return latency.as_json() | {"budget_kept": study.settings.budget.keeps_latency(latency)}


def _scores(study: Study, one: Candidate, seed: int, latency: Latency | None) -> JsonObject:
    """Return everything that is known about a candidate, in the layout ``aznas.winner/1``."""
    trial = one.trial
    return {
        "schema": "aznas.winner/1",
        "genotype": trial.genotype,
        "trial": trial.number,
        "rank": one.rank,
        "az_score": one.az_score,
        "candidates": len(study.trials),
        "proxies": {
            name: {"mean": value.mean, "stderr": value.stderr, "reason": value.reason}
            for name, value in trial.proxies.items()
        },
        "macs": trial.cost.macs,
        "params": trial.cost.params,
        "layers": trial.cost.layers,
        "paper_flops": trial.cost.paper_flops,
        "latency_ms": trial.cost.latency_ms,
        **({} if latency is None else {"latency_again": _judged(study, latency)}),
        "weights_seed": seed,
        "settings": study.settings.as_json(),
        "software": [dict(versions) for versions in study.software],
    }
