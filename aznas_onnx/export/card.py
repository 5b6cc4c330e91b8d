"""The model card of an exported candidate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx

from aznas_onnx.counts import format_count
from aznas_onnx.documents import JsonObject
from aznas_onnx.escaping import markdown, markdown_block
from aznas_onnx.latency import Latency
from aznas_onnx.searching import COMPLEXITY, Candidate, CountConvention, Study
from aznas_onnx.spaces import Space, SpaceOptions

__all__ = ["model_card"]

_LOADER = """\
import torch
from aznas_onnx.export import TrainableNetwork

network = TrainableNetwork("model.onnx")
network.load_state_dict(torch.load("weights.pt", weights_only=True))
"""


def model_card(
    study: Study,
    one: Candidate,
    *,
    model: onnx.ModelProto,
    space: Space[Any],
    seed: int,
    relative_difference: float,
    latency: Latency | None = None,
) -> str:
    """Return the card as Markdown.

    - `model`, `space`: The network, and the space that it is of.
    - `seed`: Of the weights.
    - `relative_difference`: Between ONNX Runtime and torch, as measured.
    - `latency`: Measured again where the study has a budget for it.
    """
    return "\n".join(_lines(study, one, _shapes(model, space), seed, relative_difference, latency))


def _lines(
    study: Study,
    one: Candidate,
    shapes: Iterable[tuple[str, str]],
    seed: int,
    relative_difference: float,
    latency: Latency | None,
) -> Iterator[str]:
    trial = one.trial
    yield f"# Trial {trial.number} of a search in {markdown(str(study.settings.space.name))}"
    yield ""
    yield (
        f"Number {one.rank} of {len(study.trials):,} candidates by AZ-NAS score. **It is not trained**: its weights "
        "are random, to start training from, and the score says how it compares with those candidates and no more."
    )
    yield from ("", markdown_block(trial.genotype), "")
    yield from _table(("What it is", "Value"), (*shapes, *_counts(study, one, latency)))
    yield ""
    yield from _table(("Proxy (higher is better)", "Value"), _proxies(one))
    yield from ("", "## Files", "")
    yield f"- `model.onnx`: the network with weights (seed {seed}); any batch size."
    yield "- `weights.pt`: the same weights as a torch state dict, under the same names."
    yield "- `genotype.txt`, `scores.json`: what it is, and everything that is known about it."
    yield ""
    yield f"ONNX Runtime and torch agree on it: they differ by {relative_difference:.1e} of the largest output."
    yield from ("", "To train it with torch:", "", "```python", _LOADER.rstrip(), "```", "")
    yield (
        "`network` is a `torch.nn.Module` with ordinary parameters. After training, "
        '`onnx.save(network.to_onnx("model.onnx"), "trained.onnx")` writes it as ONNX again.'
    )
    yield from ("", "## Where it comes from", "")
    yield from _table(("Setting", "Value"), _provenance(study))
    yield ""


def _shapes(model: onnx.ModelProto, space: Space[Any]) -> Iterator[tuple[str, str]]:
    """Describe input and output."""
    for value in model.graph.input:
        yield "Input", _described(value) + ("" if space.vocabulary is None else f": ids of {space.vocabulary:,} words")
    for value in model.graph.output:
        yield "Output", f"{_described(value)}: {space.output_meaning}"


def _described(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    sizes = " x ".join(str(dim.dim_value or dim.dim_param or "?") for dim in kind.shape.dim)
    return f"{onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)}, {sizes}"


def _counts(study: Study, one: Candidate, latency: Latency | None) -> Iterator[tuple[str, str]]:
    cost = one.trial.cost
    yield "MACs (multiply-adds of one sample)", f"{format_count(cost.macs)} ({cost.macs:,})"
    if cost.paper_flops is not None:
        yield "FLOPs in the paper's convention", f"{format_count(cost.paper_flops)} ({cost.paper_flops:,})"
    yield "Trainable parameters", f"{format_count(cost.params)} ({cost.params:,})"
    yield "Layers", str(cost.layers)
    if cost.latency_ms is not None:
        yield "Latency (one sample, ONNX Runtime, one thread of the searching machine)", f"{cost.latency_ms:.3g} ms"
    again = study.again.get(one.trial.genotype)
    if again is not None:
        yield "The same, measured again at the end of the search", str(again)
    if latency is not None:
        budget = study.settings.budget
        yield "The same, measured again by the export, on its machine", str(latency)
        kept = "yes" if budget.keeps_latency(latency) else "NO"
        yield f"Budget of {budget.latency_ms:g} ms kept", kept


def _proxies(one: Candidate) -> Iterator[tuple[str, str]]:
    for name, value in one.trial.proxies.items():
        if value.mean is None:
            yield name, f"none: {value.reason}"
        else:
            text = f"{value.mean:,.0f}" if name == COMPLEXITY else f"{value.mean:.6g}"
            yield name, text + ("" if value.stderr is None else f" ± {value.stderr:.2g}")
    if one.az_score is not None:
        yield "AZ-NAS score (0 is the best in all of them)", f"{one.az_score:.4f}"


def _provenance(study: Study) -> Iterator[tuple[str, str]]:
    settings = study.settings
    yield "space", f"{settings.space.name} ({_settings_line(settings.space.options)})"
    yield "budget", str(settings.budget)
    counted = "the graph" if settings.count is CountConvention.GRAPH else "the paper's code"
    yield "counted by", counted
    yield "strategy", f"{settings.strategy.value}, top-k {settings.top_k:,}, seed {settings.seed}"
    yield "scoring", _settings_line({**settings.scoring.document, "feed": str(settings.scoring.feed)})
    for versions in study.software:
        yield "software", _settings_line(versions)


def _settings_line(values: SpaceOptions | JsonObject | Mapping[str, str]) -> str:
    """Write settings in one line; those that are off are left out."""
    pairs = [pair for pair in values.items() if pair[1] is not False and pair[1] not in ([], {}, None)]
    return ", ".join(f"{name} {_plain(value)}" for name, value in pairs)


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _table(header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"| {header[0]} | {header[1]} |"
    yield "| :--- | :--- |"
    for left, right in rows:
        yield f"| {markdown(left)} | {markdown(right)} |"
