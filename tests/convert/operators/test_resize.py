"""Resize where ONNX Runtime is no judge: against the reference implementation of the onnx package."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from aznas_onnx.convert.context import Context
from aznas_onnx.convert.operators.resize import resize
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.shapes.interpret import interpret
from aznas_onnx.limits import Limits
from tests.convert.runner import Array, assert_same, node_model, run_here

X = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(np.float32)
EMPTY = np.empty(0, dtype=np.float32)
WHOLE = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]


def expected_of(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """Return what ONNX's reference implementation makes of it."""
    found = ReferenceEvaluator(model).run(None, feeds)
    assert isinstance(found, list)
    return found


def scaled(*scales: float, roi: list[float] | None = None, **attributes: Any) -> tuple[Any, dict[str, Array]]:
    region = EMPTY if roi is None else np.array(roi, dtype=np.float32)
    inputs = [X, region, np.array([1, 1, *scales], dtype=np.float32)]
    return node_model("Resize", inputs, attributes, 19, constants=(1, 2))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["align_corners", "half_pixel_symmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("scales", [(0.6, 0.7), (2.3, 1.7), (0.2, 3)])
def test_scales_that_lead_to_fractions_of_elements(mode: str, coordinates: str, scales: tuple[float, float]) -> None:
    model, feeds = scaled(*scales, mode=mode, coordinate_transformation_mode=coordinates)
    assert_same(run_here(model, feeds), expected_of(model, feeds))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("roi", [WHOLE, [0, 0, 0.2, -0.3, 1, 1, 0.7, 1.4]])
def test_cropping_fills_what_lies_outside(mode: str, roi: list[float]) -> None:
    model, feeds = scaled(
        1.5, 2, roi=roi, mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0
    )
    found = run_here(model, feeds)
    assert_same(found, expected_of(model, feeds))
    assert bool((found[0] == 7.0).any()) is (roi is not WHOLE)


@pytest.mark.parametrize(
    ("policy", "shape"), [("not_larger", (1, 2, 8, 10)), ("not_smaller", (1, 2, 10, 12)), ("stretch", (1, 2, 8, 12))]
)
def test_keeping_the_aspect_ratio(policy: str, shape: tuple[int, ...]) -> None:
    inputs = [X, EMPTY, EMPTY, np.array([8, 12])]
    attributes = {"axes": [2, 3], "keep_aspect_ratio_policy": policy, "mode": "linear"}
    model, feeds = node_model("Resize", inputs, attributes, 19, constants=(1, 2, 3))
    found = run_here(model, feeds)
    assert found[0].shape == shape
    assert_same(found, expected_of(model, feeds))


@pytest.mark.parametrize(
    ("attributes", "uses_torch"),
    [
        ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, True),
        ({"mode": "nearest"}, True),  # half_pixel: the same elements for a whole factor
        ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"}, False),
        ({"mode": "linear"}, True),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, True),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, False),
        ({"mode": "cubic"}, True),
        ({"mode": "cubic", "cubic_coeff_a": -0.5}, False),
    ],
)
def test_torch_s_own_interpolation_runs_where_it_means_the_same(
    attributes: dict[str, Any], uses_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    interpolate = torch.nn.functional.interpolate
    monkeypatch.setattr(torch.nn.functional, "interpolate", lambda *a, **k: calls.append(1) or interpolate(*a, **k))
    model, feeds = scaled(2, 2, **attributes)
    graph = deserialize(model, None, "test", Limits())
    graph, infos = interpret(graph, 1, {"x0": X.shape}, Limits())
    context = Context(graph, infos, frozenset(), device=torch.device("cpu"), dtype=torch.float32, training=False)
    result = resize(graph.nodes[0], context).run(torch.from_numpy(X))
    assert bool(calls) is uses_torch
    assert_same([result.numpy()], expected_of(model, feeds))
