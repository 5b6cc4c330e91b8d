"""Learned queries that a file holds once, or copied for its own batch, as copies for each sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from aznas_onnx import inspect
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.meaning.constant_roles import ConstantRole, roles
from aznas_onnx.initialise import plan_weights
from tests.graph.builders import network, weights

TOKENS, QUERIES, WIDTH = 20, 6, 8
MACS = TOKENS * 5 * WIDTH + QUERIES * WIDTH**2 + 2 * TOKENS * WIDTH**2 + 2 * QUERIES * TOKENS * WIDTH
EXPAND = "sx = Shape <start = 0, end = 1> (x)  sq = Concat <axis = 0> (sx, size)  q0 = Expand (latents, sq)"


def asking(begin: str, latents: npt.NDArray[np.float32], batch: int | str = "n", norm: bool = False) -> onnx.ModelProto:
    """A network in which queries, made by the nodes `begin` as ``q0``, ask the samples once."""
    asked = "q0"
    if norm:
        begin, asked = f"{begin}  qn = LayerNormalization (q0, g)", "qn"
    body = f"""
        {begin}
        t = MatMul (x, w)
        q = MatMul ({asked}, wq)
        k = MatMul (t, wk)
        v = MatMul (t, wv)
        kt = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul (q, kt)
        p = Softmax (s)
        o = MatMul (p, v)
        y = Add (q0, o)
    """
    constants = {f"w{one}": weights(WIDTH, WIDTH, seed=at) for at, one in enumerate("qkv")}
    constants |= {"w": weights(5, WIDTH), "latents": latents, "g": weights(WIDTH)}
    sizes = {"size": np.array([QUERIES, WIDTH]), "baked": np.array([batch if isinstance(batch, int) else 1, 1, 1])}
    return network(body, {"x": (batch, TOKENS, 5)}, {**constants, **sizes, "nought": np.array([0])})


VARIANTS: dict[str, tuple[str, tuple[int, ...], int | str]] = {
    "copied": (EXPAND, (1, QUERIES, WIDTH), "n"),
    "held once": ("q0 = Identity (latents)", (1, QUERIES, WIDTH), "n"),
    "held once, batch 1": ("q0 = Identity (latents)", (1, QUERIES, WIDTH), 1),
    "a matrix, moved": ("q0 = Unsqueeze (latents, nought)", (QUERIES, WIDTH), 1),
    "a matrix": ("q0 = Identity (latents)", (QUERIES, WIDTH), 1),
    "copied for a batch of 2": ("q0 = Tile (latents, baked)", (1, QUERIES, WIDTH), 2),
}


@pytest.mark.parametrize("norm", [False, True], ids=["", "normalised"])
@pytest.mark.parametrize("name", VARIANTS)
def test_queries_cost_the_same_and_are_one_block_however_they_are_written(name: str, norm: bool) -> None:
    begin, shape, batch = VARIANTS[name]
    found = inspect(asking(begin, weights(*shape), batch, norm))
    assert found.costs.macs == MACS
    assert [(row.block.kind.value, row.shape) for row in found.blocks] == [
        ("stem", (TOKENS, WIDTH)),
        ("attention", (QUERIES, WIDTH)),
    ]


def test_layers_of_queries_are_initialised_and_run_like_any_others() -> None:
    model = specialise(prepare(asking("q0 = Identity (latents)", weights(1, QUERIES, WIDTH))), 3)
    assert [node.op_type for node in model.graph.nodes].count("MatMul") == 6
    planned = plan_weights(model.graph, model.infos, is_transformer=True)
    (queries,) = (weight for weight in planned.values() if weight.shape == (3, QUERIES, WIDTH))
    assert queries.role is ConstantRole.POSITION
    assert queries.is_shared_by_samples
    assert all(info.value is None for name, info in model.infos.items() if name in model.graph.producers)


def test_a_weight_that_is_a_product_of_two_is_no_query() -> None:
    body = "m = MatMul (a, b)  h = MatMul (x, m)  r = Relu (h)  y = MatMul (r, c)"
    constants = {"a": weights(5, 2), "b": weights(2, WIDTH), "c": weights(WIDTH, 3)}
    model = prepare(network(body, {"x": ("n", TOKENS, 5)}, constants))
    assert not any(node.op_type == "Expand" for node in model.graph.nodes)
    assert set(roles(model.graph).values()) == {ConstantRole.LINEAR_WEIGHT}
