"""Initialise the weights of a network as scoring does, and store them in the ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper

from aznas_onnx.blocks import find_blocks
from aznas_onnx.export.trainable_graph import read_weight_graph
from aznas_onnx.graph import prepare
from aznas_onnx.graph.building.builder import fill_weights, weight_shapes
from aznas_onnx.initialise import draw, plan_weights

__all__ = ["initialised"]


def initialised(model: onnx.ModelProto, *, seed: int) -> onnx.ModelProto:
    """Return a copy of a model with random weights to start training from.

    Convolutional networks get Kaiming normal weights, transformers those of timm; the table is that of
    :func:`aznas_onnx.initialise.plan_weights`. A constant that is not a float vector or matrix with a role (an index
    table, a scalar) keeps its value.

    Parameters
    ----------
    model
        From a space; not modified.
    seed
        The same seed gives the same weights.
    """
    filled = fill_weights(model, _placeholders(model))
    source = read_weight_graph(filled)
    graph, infos = source.at(source.inputs.declared_batch)
    plan = plan_weights(graph, infos, is_transformer=find_blocks(prepare(model)).is_transformer)
    with torch.no_grad():
        values = draw(plan, seed=seed, device=torch.device("cpu"))
    for tensor in filled.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].numpy(), tensor.name))
    return filled


def _placeholders(model: onnx.ModelProto) -> Mapping[str, npt.NDArray[np.float32]]:
    """Return the fill values of the model's weights before initialisation."""
    fills = {node.output[0]: _fill(node) for node in model.graph.node if node.op_type == "ConstantOfShape"}
    return {name: np.full(shape, fills[name], np.float32) for name, shape in weight_shapes(model).items()}


def _fill(node: onnx.NodeProto) -> Any:
    return next(
        (numpy_helper.to_array(attribute.t)[0] for attribute in node.attribute if attribute.name == "value"), 0.0
    )
