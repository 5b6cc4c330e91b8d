from __future__ import annotations

import copy
import pickle
from types import MappingProxyType

import pytest

from aznas_onnx.results import ProxyScores, ProxyValue, Status


def test_scores_travel_between_processes() -> None:
    """Whoever scores in a pool of processes gets back what one process would have given."""
    scores = ProxyScores(
        model="net.onnx",
        status=Status.OK,
        proxies=MappingProxyType(
            {"macs": ProxyValue(mean=3.0), "expressivity": ProxyValue(mean=0.1 + 0.2, stderr=1e-9)}
        ),
        profile_s=MappingProxyType({"read": 0.25}),
        warnings=("doubt",),
        elapsed_s=0.5,
    )
    for again in (pickle.loads(pickle.dumps(scores)), copy.deepcopy(scores)):
        assert again == scores
        with pytest.raises(TypeError):
            again.proxies["macs"] = ProxyValue(mean=4.0)  # type: ignore[index]
