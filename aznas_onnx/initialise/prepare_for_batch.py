"""Specialise a model to a batch size and plan its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aznas_onnx.graph import Limits, Model, specialise
from aznas_onnx.graph.meaning.position_tables import unfold_tables
from aznas_onnx.initialise.plan import Weight, plan_weights

__all__ = ["prepare_for_batch"]


def prepare_for_batch(
    model: Model, batch_size: int, limits: Limits | None = None, *, is_transformer: bool
) -> tuple[Model, Mapping[str, Weight]]:
    """Return the model at a batch size, with a transformer's tables unfolded, and the plan of its weights.

    Raises ModelError if the model does not work at that batch size.
    """
    sized = specialise(model, batch_size, limits or Limits())
    if is_transformer:
        graph, infos = unfold_tables(sized.graph, sized.infos)
        sized = replace(sized, graph=graph, infos=infos)
    return sized, plan_weights(sized.graph, sized.infos, is_transformer=is_transformer)
