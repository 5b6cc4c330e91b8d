"""Networks that read token ids are scored from their embedded tokens on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from aznas_onnx.blocks import find_blocks
from aznas_onnx.costs import count
from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph import Model, prepare
from aznas_onnx.inspection import inspect
from aznas_onnx.proxies.engine.feeds import FeedSource
from aznas_onnx.scoring import score
from aznas_onnx.verify import verify
from tests.graph.builders import network, weights

ROWS, WIDTH, TOKENS = 50, 8, 6
TABLES = {
    "table": weights(ROWS, WIDTH),
    "types": weights(2, WIDTH, seed=1),
    "positions": weights(1, TOKENS, WIDTH),
    "w": weights(WIDTH, WIDTH),
    "v": weights(WIDTH, 3),
}
BODY = """
    e = Gather (table, ids)
    t = Gather (types, kinds)
    a = Add (e, t)
    x = Add (a, positions)
    h = MatMul (x, w)
    r = Add (h, x)
    z = MatMul (r, v)
    m = Cast <to = 1> (mask)
    k = Unsqueeze (m, last)
    y = Mul (z, k)
"""


def reader(body: str = BODY, batch: int | str = "N", tokens: int | str = TOKENS) -> onnx.ModelProto:
    """Return a small network of token ids, their types and a mask."""
    inputs = dict.fromkeys(("ids", "kinds", "mask"), (batch, tokens))
    return network(body, inputs, {**TABLES, "last": np.array([2])}, input_type=TensorProto.INT64)


def test_the_look_up_gives_way_to_an_input() -> None:
    model = prepare(reader())
    assert model.inputs.primary == "e"
    assert model.inputs.shapes(5)["e"] == (5, TOKENS, WIDTH)
    look_up = model.inputs.look_ups["e"]
    assert (look_up.node, look_up.ids, look_up.table, look_up.rows) == ("Gather_0", "ids", "table", ROWS)
    assert model.changes == ("scored from the embedded tokens on, instead of looking up 'ids' in a table of 50 x 8",)
    assert [node.op_type for node in model.graph.nodes].count("Gather") == 1  # the types


def test_ids_are_no_padding_types_are_in_their_table_and_masks_hide_nothing() -> None:
    model = prepare(reader())
    assert dict(model.inputs.fills) == {"ids": 2, "kinds": 0, "mask": 1}
    assert model.inputs.warnings == (
        "input 'kinds' (int64) carries no samples and is filled with zeros",
        "input 'mask' (int64) carries no samples and is filled with ones",
    )
    feeds = FeedSource(prepare(reader()), torch.device("cpu")).draw(0)
    assert {name: int(feeds[name].unique()) for name in ("ids", "kinds", "mask")} == {"ids": 2, "kinds": 0, "mask": 1}
    assert feeds["e"].std() > 0.5


@pytest.mark.parametrize("moves", ["k = Reshape (kinds, flat)", "k = Flatten <axis = 0> (kinds)"])
def test_types_are_in_their_table_wherever_they_are_moved(moves: str) -> None:
    embedded = "e = Gather (table, ids)  h = MatMul (e, w)"
    body = f"{embedded}  {moves}  t = Gather (single, k)  s = ReduceMean (t)  y = Add (h, s)"
    constants = {**TABLES, "single": weights(1, WIDTH), "flat": np.array([-1])}
    model = network(body, {"ids": ("N", 6), "kinds": ("N", 6)}, constants, input_type=TensorProto.INT64)
    assert dict(prepare(model).inputs.fills) == {"ids": 2, "kinds": 0}
    assert verify(model).agrees


def test_a_table_in_half_precision() -> None:
    body = "t = Cast <to = 1> (half)  e = Gather <axis = -2> (t, ids)  y = MatMul (e, w)"
    constants = {"half": TABLES["table"].astype(np.float16), "w": TABLES["w"]}
    model = network(body, {"ids": ("N", 6)}, constants, input_type=TensorProto.INT64)
    assert verify(model).agrees


def test_a_shape_is_given_as_that_of_the_ids() -> None:
    model = reader(tokens="T")
    with pytest.raises(
        ModelError, match="the size of input 'ids' is unknown on axis 1; give it with --input ids=1x128"
    ):
        prepare(model)
    for name in ("ids", ""):
        shapes = prepare(model, input_shapes={name: (1, TOKENS)}).inputs.shapes(3)
        assert shapes == {"ids": (3, TOKENS), "kinds": (3, TOKENS), "mask": (3, TOKENS), "e": (3, TOKENS, WIDTH)}
    with pytest.raises(SettingsError, match="names 'e', but the inputs are 'ids', 'kinds', 'mask'"):
        prepare(model, input_shapes={"e": (1, TOKENS, WIDTH)})


def test_counts_include_the_table_once() -> None:
    model = prepare(reader())
    trained = sum(TABLES[name].size for name in ("table", "types", "positions", "w", "v"))
    assert count(model).params == trained
    assert inspect(reader()).costs.params == trained


def test_a_table_that_the_output_shares_is_not_counted_twice() -> None:
    body = "e = Gather (table, ids)  h = MatMul (e, w)  t = Transpose <perm = [1, 0]> (table)  y = MatMul (h, t)"
    model = prepare(network(body, {"ids": ("N", TOKENS)}, TABLES, input_type=TensorProto.INT64))
    assert count(model).params == TABLES["table"].size + TABLES["w"].size


def test_tables_of_each_input_of_ids() -> None:
    """What reads users and items, and a small table of kinds beside them, which stays."""
    body = """
        u = Gather (users, a)  i = Gather (table, b)  k = Gather (types, c)
        s = Concat <axis = -1> (u, i)  h = MatMul (s, wide)  y = Add (h, k)
    """
    constants = {**TABLES, "users": weights(30, WIDTH), "wide": weights(2 * WIDTH, WIDTH)}
    model = network(body, dict.fromkeys("abc", ("N", 6)), constants, input_type=TensorProto.INT64)
    found = prepare(model)
    assert set(found.inputs.look_ups) == {"u", "i"}
    assert found.changes[0].endswith("looking up 'a' and 'b' in tables of 30 x 8 and 50 x 8")
    assert dict(found.inputs.fills) == {"a": 2, "b": 2, "c": 0}
    assert count(found).params == sum(constants[name].size for name in ("users", "table", "types", "wide"))
    assert verify(model).agrees


def test_one_input_in_two_tables_has_ids_of_the_smaller() -> None:
    body = "e = Gather (table, ids)  f = Gather (small, ids)  h = Add (e, f)  y = MatMul (h, w)"
    model = network(body, {"ids": ("N", 6)}, {**TABLES, "small": weights(20, WIDTH)}, input_type=TensorProto.INT64)
    assert set(prepare(model).inputs.look_ups) == {"e", "f"}
    assert verify(model, batch_size=9).agrees


def test_networks_of_other_widths_have_one_input_shape() -> None:
    assert prepare(reader()).inputs.sample_shape == (TOKENS,)


def test_two_sequences_in_one_table() -> None:
    body = "e = Gather (table, a)  d = Gather (table, b)  h = MatMul (e, w)  y = Add (h, d)"
    model = prepare(network(body, {"a": ("N", 6), "b": ("N", 6)}, TABLES, input_type=TensorProto.INT64))
    assert set(model.inputs.look_ups) == {"e", "d"}
    assert "instead of looking up 'a' and 'b' in a table" in model.changes[0]
    assert count(model).params == TABLES["table"].size + TABLES["w"].size


@pytest.mark.parametrize(
    "body",
    [
        "i = Cast <to = 6> (ids)  e = Gather (table, i)  y = MatMul (e, w)",
        "t = Identity (table)  e = Gather <axis = 0> (t, ids)  y = MatMul (e, w)",
        "i = Reshape (ids, shape)  e = Gather (table, i)  y = MatMul (e, w)",
    ],
)
def test_ids_and_table_on_their_way(body: str) -> None:
    constants = {**TABLES, "shape": np.array([-1, TOKENS])}
    model = prepare(network(body, {"ids": ("N", TOKENS)}, constants, input_type=TensorProto.INT64))
    assert model.inputs.shapes(3)["e"] == (3, TOKENS, WIDTH)


@pytest.mark.parametrize(
    "body",
    [
        "e = Gather <axis = 1> (table, ids)  y = Relu (e)",  # selects columns
        "i = Reshape (ids, flat)  e = Gather (table, i)  y = Relu (e)",  # other axes than the ids have
        "i = Reshape (ids, other)  e = Gather (table, i)  y = Relu (e)",
        "e = Gather (cube, ids)  y = Relu (e)",
        "e = Gather (empty, ids)  y = Relu (e)",
        "e = GatherElements (table, ids)  y = Relu (e)",
    ],
)
def test_other_look_ups_are_refused(body: str) -> None:
    constants = {
        **TABLES,
        "flat": np.array([-1]),
        "other": np.array([3, -1]),
        "empty": weights(0, 4),
        "cube": weights(4, 4, 4),
    }
    with pytest.raises(ModelError, match=r"no float input .* and no table that one of them is looked up in"):
        prepare(network(body, {"ids": (1, TOKENS)}, constants, input_type=TensorProto.INT64))


def with_images(axes: tuple[int, ...]) -> Model:
    """Return what reads ids beside an input of floats."""
    model = network("e = Gather (table, ids)  s = ReduceSum (e)  y = Mul (x, s)", {"x": axes}, TABLES)
    model.graph.input.append(helper.make_tensor_value_info("ids", TensorProto.INT64, [axes[0], TOKENS]))
    return prepare(model)


def test_the_larger_input_carries_the_samples_and_tokens_are_random_in_any_case() -> None:
    assert with_images((1, 3, 8, 8)).inputs.primary == "x"
    assert "input 'e' is fed Gaussian samples too" not in with_images((1, 3, 8, 8)).inputs.warnings
    assert with_images((1, 3)).inputs.primary == "e"
    for axes in ((1, 3, 8, 8), (1, 3)):
        assert set(with_images(axes).inputs.look_ups) == {"e"}


def test_it_is_verified_scored_and_has_blocks() -> None:
    assert verify(reader(), batch_size=3).agrees
    result = score(reader(), batch_size=4)
    assert result.blocks == len(find_blocks(prepare(reader())).blocks) >= 1
    assert result.proxies["expressivity"].mean is not None


def test_verification_samples_ids() -> None:
    from aznas_onnx.verify import compare as module

    drawn = module._feeds(reader(), prepare(reader()).inputs, 4, 1.0, np.random.default_rng(0))
    assert len(np.unique(drawn["ids"])) > 10
    assert drawn["ids"].min() >= 2
    assert set(np.unique(drawn["kinds"])) == {0}


@pytest.mark.parametrize(
    "index",
    [
        "i = Cast <to = 6> (x)",
        "c = Cast <to = 7> (x)  b = Less (c, nought)  p = Add (c, rows)  i = Where (b, p, c)",
        """c = Cast <to = 7> (x)  b = Less (c, nought)  p = Add (c, rows)  n = Not (b)
           bi = Cast <to = 7> (b)  ni = Cast <to = 7> (n)  u = Mul (bi, p)  v2 = Mul (ni, c)  i = Add (u, v2)""",
    ],
    ids=["cast", "where", "arithmetic"],
)
def test_ids_may_be_an_input_of_floats_and_count_from_the_end(index: str) -> None:
    body = f"{index}  e = Gather (table, i)  h = MatMul (e, w)  r = Add (h, e)  y = MatMul (r, v)"
    constants = {**TABLES, "nought": np.array(0), "rows": np.array(ROWS)}
    model = prepare(network(body, {"x": ("n", TOKENS)}, constants))
    assert model.inputs.primary == "e"
    assert model.inputs.look_ups["e"].ids == "x"


def test_an_input_of_floats_that_is_also_computed_with_is_none_of_ids() -> None:
    body = "i = Cast <to = 7> (x)  e = Gather (table, i)  h = MatMul (x, w)  u = Unsqueeze (h, one)  y = Add (e, u)"
    constants = {"table": weights(ROWS, WIDTH), "w": weights(TOKENS, WIDTH), "one": np.array([1])}
    assert prepare(network(body, {"x": ("n", TOKENS)}, constants)).inputs.primary == "x"
