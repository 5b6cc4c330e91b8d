from __future__ import annotations

import pytest

from aznas_onnx.ranking import Aggregation, Ensemble, of_kind
from aznas_onnx.ranking.kinds import CohortKind
from aznas_onnx.searching.sampled_kind import settled
from aznas_onnx.spaces import get


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        ("nb201", CohortKind.EDGES),
        ("nats-sss", CohortKind.WIDTHS),
        ("transnas-macro", CohortKind.RESOLUTIONS),
        ("nb101", CohortKind.WIRING),
        ("darts", CohortKind.WIRING),
        ("mnasnet", CohortKind.STAGES),
        ("mbv2", CohortKind.STAGES),
        ("vit", CohortKind.TRANSFORMERS),
    ],
)
def test_a_search_goes_by_what_varies_in_its_space(space: str, kind: CohortKind) -> None:
    asked = Ensemble.of(["best"])
    assert settled(asked, get(space), 1) == of_kind(asked, kind)


def test_another_ensemble_stays_as_it_is() -> None:
    asked = Ensemble.of(["az"], Aggregation.LINEAR)
    assert settled(asked, get("nb201"), 1) is asked
