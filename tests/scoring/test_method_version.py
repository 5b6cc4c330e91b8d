"""The version of the scoring method: stored values of two small networks, which change only when it is raised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aznas_onnx.graph import Source
from aznas_onnx.proxies import PROXIES
from aznas_onnx.scoring import METHOD_VERSION, score
from tests.blocks.drawings import transformer
from tests.scoring.test_score_models import residual

STORED = Path(__file__).with_name("method_version.json")
BUILT_IN = [name for name in PROXIES if PROXIES.is_built_in(name)]
ROUNDING = 1e-3  # three threads instead of one move zico by 2e-4 and every other value by less


def sources() -> dict[str, Source]:
    return {"residual": residual(), "transformer": transformer().graph}


def measured(source: Source, effort: str) -> dict[str, float | None]:
    """Score with one thread and return the mean of every built-in proxy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = score(source, effort=effort, batch_size=4, seeds=2, device="cpu", proxies=BUILT_IN)
    finally:
        torch.set_num_threads(threads)
    return {name: found.proxies[name].mean for name in BUILT_IN}


@pytest.mark.parametrize("effort", ["paper", "balanced"])
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_values_change_only_with_the_version(name: str, effort: str) -> None:
    stored = json.loads(STORED.read_text())
    assert stored["method"] == METHOD_VERSION, "write the values of the new version: python -m " + __name__
    expected = stored["values"][name][effort]
    found = measured(sources()[name], effort)
    changed = {
        proxy: (expected[proxy], found[proxy]) for proxy in expected if not _equal(expected[proxy], found[proxy])
    }
    assert not changed, (
        f"raise METHOD_VERSION, say in docs/method.md what changed, and run python -m {__name__}: {changed}"
    )


def _equal(expected: float | None, found: float | None) -> bool:
    if expected is None or found is None:
        return expected is found
    return found == pytest.approx(expected, rel=ROUNDING, abs=1e-6)


def write() -> None:
    """Store the values of this version."""
    values = {
        name: {effort: measured(source, effort) for effort in ("paper", "balanced")}
        for name, source in sources().items()
    }
    STORED.write_text(json.dumps({"method": METHOD_VERSION, "values": values}, indent=1) + "\n")


if __name__ == "__main__":
    write()
