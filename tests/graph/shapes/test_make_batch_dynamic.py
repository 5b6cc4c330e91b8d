"""A model with its batch size baked in runs at any other, and gives each sample the same output."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from aznas_onnx.costs import count
from aznas_onnx.errors import ModelError
from aznas_onnx.graph import prepare, specialise
from aznas_onnx.graph.ir.tensor_info import TensorInfo
from aznas_onnx.graph.shapes.make_batch_dynamic import _OTHER_PROBES, USUAL_PROBE, probe_batch
from tests.graph.builders import network, weights
from tests.graph.serialize import emit

Array = npt.NDArray[np.float32]


def run(model: onnx.ModelProto, x: Array) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, {"x": x})
    return results


def check(model: onnx.ModelProto, factor: int = 3) -> None:
    """Compare the model at `factor` times its own batch size with so many runs of the file as it is."""
    prepared = prepare(model, keep_graph=True)
    assert prepared.fixed_batch == ""
    own = prepared.inputs.declared_batch
    larger = specialise(prepared, own * factor)
    shape = larger.infos.shape("x")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    together = run(emit(larger.graph, larger.infos), x)
    separately = [run(model, x[i * own : (i + 1) * own]) for i in range(factor)]
    assert together
    for index, result in enumerate(together):
        # a Squeeze of all axes of size one drops a batch of one; here it keeps the batch
        expected = np.concatenate([outputs[index] for outputs in separately]).reshape(result.shape)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


CASES = {
    "reshape to heads and back": (
        """
        s = Constant <value_ints = [1, 4, 2, 3]> ()
        a = Reshape (x, s)
        b = Transpose <perm = [0, 2, 1, 3]> (a)
        c = Transpose <perm = [0, 2, 3, 1]> (a)
        d = MatMul (b, c)
        e = Softmax <axis = -1> (d)
        f = MatMul (e, b)
        g = Transpose <perm = [0, 2, 1, 3]> (f)
        t = Constant <value_ints = [1, 4, 6]> ()
        y = Reshape (g, t)
        """,
        (1, 4, 6),
        {},
    ),
    "flatten by reshape": (
        "s = Constant <value_ints = [1, -1]> ()  a = Reshape (x, s)  y = Gemm (a, w)",
        (1, 4, 6),
        {"w": weights(24, 5)},
    ),
    "reshape with zeros and minus one": (
        "s = Constant <value_ints = [0, -1, 2]> ()  y = Reshape (x, s)",
        (1, 4, 6),
        {},
    ),
    "the batch merged with an axis, and split again": (
        """
        s = Constant <value_ints = [4, 6]> ()
        a = Reshape (x, s)
        b = MatMul (a, w)
        t = Constant <value_ints = [1, 4, 5]> ()
        y = Reshape (b, t)
        """,
        (1, 4, 6),
        {"w": weights(6, 5)},
    ),
    "the batch merged by minus one": (
        """
        s = Constant <value_ints = [-1, 6]> ()
        a = Reshape (x, s)
        b = MatMul (a, w)
        t = Constant <value_ints = [1, 4, 5]> ()
        y = Reshape (b, t)
        """,
        (1, 4, 6),
        {"w": weights(6, 5)},
    ),
    "windows of attention": (
        """
        s = Constant <value_ints = [1, 2, 4, 2, 4, 3]> ()
        a = Reshape (x, s)
        b = Transpose <perm = [0, 1, 3, 2, 4, 5]> (a)
        t = Constant <value_ints = [4, 16, 3]> ()
        c = Reshape (b, t)
        d = MatMul (c, w)
        e = Softmax <axis = 1> (d)
        u = Constant <value_ints = [1, 4, 16, 3]> ()
        f = Reshape (e, u)
        g = Add (f, mask)
        v = Constant <value_ints = [1, 2, 2, 4, 4, 3]> ()
        h = Reshape (g, v)
        i = Transpose <perm = [0, 1, 3, 2, 4, 5]> (h)
        z = Constant <value_ints = [1, 8, 8, 3]> ()
        y = Reshape (i, z)
        """,
        (1, 8, 8, 3),
        {"w": weights(3, 3), "mask": weights(1, 4, 16, 3)},
    ),
    "sequence-major attention": (
        """
        a = Transpose <perm = [1, 0, 2]> (x)
        s = Constant <value_ints = [4, 2, 3]> ()
        b = Reshape (a, s)
        c = Transpose <perm = [1, 0, 2]> (b)
        d = Softmax <axis = 1> (c)
        e = Transpose <perm = [1, 0, 2]> (d)
        t = Constant <value_ints = [4, 1, 6]> ()
        f = Reshape (e, t)
        y = Transpose <perm = [1, 0, 2]> (f)
        """,
        (1, 4, 6),
        {},
    ),
    "class token": (
        "a = Concat <axis = 1> (token, x)  y = Add (a, position)",
        (1, 4, 6),
        {"token": weights(1, 1, 6), "position": weights(1, 5, 6)},
    ),
    "class token expanded": (
        "s = Constant <value_ints = [1, -1, -1]> ()  ones = Constant <value_ints = [1, 1, 6]> ()"
        "t = Expand (token, ones)  y = Concat <axis = 1> (t, x)",
        (1, 4, 6),
        {"token": weights(1, 1, 6)},
    ),
    "class token expanded along the batch only": (
        "s = Shape (x)  n = Slice (s, zero, one)  target = Concat <axis = 0> (n, one, one)"
        "  t = Expand (token, target)  y = Concat <axis = 1> (t, x)",
        (1, 4, 6),
        {"token": weights(1, 1, 6), "zero": np.array([0]), "one": np.array([1])},
    ),
    "expand to a baked shape": (
        "s = Constant <value_ints = [1, 4, 6]> ()  a = ReduceMean (x, axes)  b = Expand (a, s)  y = Sub (x, b)",
        (1, 4, 6),
        {"axes": np.array([1])},
    ),
    "expand at a batch of two": (
        "s = Constant <value_ints = [2, 4, 6]> ()  a = ReduceMean (x, axes)  b = Expand (a, s)  y = Sub (x, b)",
        (2, 4, 6),
        {"axes": np.array([1])},
    ),
    "tile": ("r = Constant <value_ints = [1, 2, 1]> ()  y = Tile (x, r)", (1, 4, 6), {}),
    "slice of the whole batch": (
        "y = Slice (x, starts, ends, axes)",
        (1, 4, 6),
        {"starts": np.array([0, 1]), "ends": np.array([1, 3]), "axes": np.array([0, 1])},
    ),
    "slice at a batch of two": (
        "y = Slice (x, starts, ends)",
        (2, 4, 6),
        {"starts": np.array([0, 1, 0]), "ends": np.array([2, 3, 6])},
    ),
    "zeros of a baked shape": (
        "s = Constant <value_ints = [1, 2, 6]> ()  z = ConstantOfShape (s)  y = Concat <axis = 1> (x, z)",
        (1, 4, 6),
        {},
    ),
    "squeeze without axes": (
        "a = ReduceMean <keepdims = 1> (x, axes)  y = Squeeze (a)",
        (1, 4, 6),
        {"axes": np.array([2])},
    ),
    "resize to baked sizes": (
        'y = Resize <mode = "nearest"> (x, , , sizes)',
        (1, 3, 4, 4),
        {"sizes": np.array([1, 3, 8, 8])},
    ),
    "normalisation over groups": (
        """
        s = Constant <value_ints = [1, 2, -1]> ()
        a = Reshape (x, s)
        b = InstanceNormalization (a, one, zero)
        t = Constant <value_ints = [1, 4, 4, 4]> ()
        y = Reshape (b, t)
        """,
        (1, 4, 4, 4),
        {"one": np.ones(2, dtype=np.float32), "zero": np.zeros(2, dtype=np.float32)},
    ),
    "channel shuffle at a batch of four": (
        """
        s = Constant <value_ints = [4, 2, 3, 2, 2]> ()
        a = Reshape (x, s)
        b = Transpose <perm = [0, 2, 1, 3, 4]> (a)
        t = Constant <value_ints = [4, 6, 2, 2]> ()
        y = Reshape (b, t)
        """,
        (4, 6, 2, 2),
        {},
    ),
    "shape arithmetic": (
        """
        shape = Shape (x)
        i = Constant <value_ints = [0]> ()
        n = Gather (shape, i)
        rest = Constant <value_ints = [-1]> ()
        s = Concat <axis = 0> (n, rest)
        a = Reshape (x, s)
        y = Gemm (a, w)
        """,
        (1, 4, 6),
        {"w": weights(24, 5)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_sample_keeps_its_output(name: str) -> None:
    body, shape, constants = CASES[name]
    check(network(body, {"x": shape}, constants))


def test_initial_states_of_a_recurrent_layer() -> None:
    body = "t = Transpose <perm = [1, 0, 2]> (x)  o, h = GRU <hidden_size = 5> (t, w, r, , , h0)  y = Squeeze (h, axes)"
    constants = {"w": weights(1, 15, 6), "r": weights(1, 15, 5), "h0": weights(1, 1, 5), "axes": np.array([0])}
    check(network(body, {"x": (1, 4, 6)}, constants))


@pytest.mark.parametrize("state", ["h0", "expanded"])
def test_states_for_several_rows_a_sample_are_repeated(state: str) -> None:
    body = (
        "a = Reshape (x, rows)  t = Transpose <perm = [1, 0, 2]> (a)  s = Shape (t)  n = Slice (s, one, two)"
        "  target = Concat <axis = 0> (one, n, five)  expanded = Expand (h0, target)"
        f"  o, h = GRU <hidden_size = 5> (t, w, r, , , {state})  y = Reshape (h, back)"
    )
    constants = {"w": weights(1, 15, 3), "r": weights(1, 15, 5), "h0": weights(1, 1, 5).repeat(4, axis=1)}
    numbers = {"one": [1], "two": [2], "five": [5], "rows": [4, 2, 3], "back": [1, 4, 5]}
    constants.update({name: np.array(value) for name, value in numbers.items()})
    check(network(body, {"x": (1, 4, 6)}, constants))


def sized(*shape: int) -> dict[str, TensorInfo]:
    return {"x": TensorInfo(dtype=np.dtype(np.float32), shape=shape)}


def test_the_probe_divides_no_size() -> None:
    assert probe_batch(sized(1, 64, 768)) == USUAL_PROBE
    assert probe_batch(sized(1, 65, 64)) == 17
    assert probe_batch(sized(USUAL_PROBE, 17, 0, 19)) == 23
    assert probe_batch(sized(*(USUAL_PROBE, *_OTHER_PROBES))) == USUAL_PROBE


def test_a_batch_of_the_usual_probe_is_found_all_the_same() -> None:
    """Walked twice at one size, nothing would follow the batch."""
    model = network("y = Reshape (x, s)", {"x": (USUAL_PROBE, 4, 6)}, {"s": np.array([USUAL_PROBE, 24])})
    check(model)


def test_an_open_batch_needs_no_repair() -> None:
    body, _, constants = CASES["shape arithmetic"]
    prepared = prepare(network(body, {"x": ("N", 4, 6)}, constants))
    assert prepared.inputs.batch_is_free
    for batch in (1, 2, 9):
        assert specialise(prepared, batch).infos.shape("y") == (batch, 5)


@pytest.mark.parametrize(
    "body",
    [
        "a = Gather (x, first)  y = Relu (a)",  # one sample of the batch
        "y = ReduceMean <keepdims = 0> (x, zero)",  # the mean of the samples
        "a = ReduceSum <keepdims = 0> (x)  y = Relu (a)",
    ],
)
def test_a_model_that_loses_its_batch_says_so(body: str) -> None:
    model = prepare(network(body, {"x": (1, 4, 6)}, {"first": np.array(0), "zero": np.array([0])}))
    assert model.fixed_batch
    assert specialise(model, 1).infos.batch_size == 1
    with pytest.raises(ModelError, match=r"works at batch size 1 only .* --batch-size 1"):
        specialise(model, 4)


def test_a_constant_that_repeats_a_batch_above_one_runs_at_any() -> None:
    body = "s = Constant <value_ints = [2, 2, 6]> ()  z = ConstantOfShape (s)  y = Concat <axis = 1> (x, z)"
    model = network(body, {"x": (2, 4, 6)})
    check(model)
    assert specialise(prepare(model), 3).infos.shape("y") == (3, 6, 6)


_ASSIGNMENT = """
    b = Expand (zero, full)  i = Unsqueeze (b, last)
    r = Expand (rows, full)  j = Unsqueeze (r, last)
    c = Expand (columns, full)  k = Unsqueeze (c, last)
    places = Concat <axis = -1> (i, j, k)
    s = Reshape (sum, full)
    y = ScatterND (x, places, s)
"""


@pytest.mark.parametrize("rows", [4, 1500])  # two sizes: one table that the walk remembers, one that is too large
def test_an_assignment_to_every_element_is_its_right_side(rows: int) -> None:
    constants: dict[str, npt.NDArray[np.generic]] = {
        "zero": np.zeros((1, 1, 1), dtype=np.int64),
        "rows": np.arange(rows)[:, None],
        "columns": np.arange(600),
        "full": np.array([1, rows, 600]),
        "last": np.array([-1]),
    }
    check(network("sum = Add (x, x) " + _ASSIGNMENT, {"x": (1, rows, 600)}, constants))


def test_an_assignment_in_another_order_fixes_the_batch() -> None:
    constants: dict[str, npt.NDArray[np.generic]] = {
        "zero": np.zeros((1, 1, 1), dtype=np.int64),
        "rows": np.arange(1500)[::-1, None].copy(),
        "columns": np.arange(600),
        "full": np.array([1, 1500, 600]),
        "last": np.array([-1]),
    }
    model = prepare(network("sum = Add (x, x) " + _ASSIGNMENT, {"x": (1, 1500, 600)}, constants))
    assert "ScatterND" in model.fixed_batch


TOKEN = weights(1, 1, 6)
COPIES = {
    "a constant that holds the token twice": ("y = Concat <axis = 1> (tokens, x)", {"tokens": TOKEN.repeat(2, 0)}),
    "an expansion": (
        "s = Constant <value_ints = [2, 1, 6]> ()  t = Expand (token, s)  y = Concat <axis = 1> (t, x)",
        {"token": TOKEN},
    ),
    "a sum with equal rows": ("y = Add (x, rows)", {"rows": weights(1, 4, 6).repeat(2, 0)}),
    "an embedding of one number": (
        "s = Constant <value_ints = [2, 6]> ()  t = Expand (one, s)  m = MatMul (t, w)"
        "  n = Constant <value_ints = [2, 1, 5]> ()  r = Reshape (m, n)  h = MatMul (x, w)  y = Add (h, r)",
        {"one": weights(1, 6), "w": weights(6, 5)},
    ),
}


@pytest.mark.parametrize("batch", [2, 3, 8])
@pytest.mark.parametrize("name", COPIES)
def test_rows_that_are_copies_become_one(name: str, batch: int) -> None:
    body, constants = COPIES[name]

    def at(size: int) -> onnx.ModelProto:
        rows = {key: value[:1].repeat(size, 0) if len(value) == 2 else value for key, value in constants.items()}
        return network(body.replace("[2,", f"[{size},"), {"x": (size, 4, 6)}, rows)

    check(at(batch))
    found, expected = (count(prepare(at(size))) for size in (batch, 1))
    assert (found.params, found.macs) == (expected.params, expected.macs)
    assert specialise(prepare(at(batch)), 5).infos.shape("y")[0] == 5


def test_rows_that_differ_fix_the_batch() -> None:
    model = prepare(network("y = Add (x, rows)", {"x": (2, 4, 6)}, {"rows": weights(2, 4, 6)}))
    assert "Add" in model.fixed_batch


@pytest.mark.parametrize("batch", [1, 2])
def test_a_mask_of_windows_repeats_for_each_sample(batch: int) -> None:
    """Two windows of two tokens: their masks are one constant of so many rows as there are windows."""
    body = f"""
        s = Constant <value_ints = [{2 * batch}, 2, 6]> ()
        a = Reshape (x, s)
        b = Add (a, mask)
        t = Constant <value_ints = [{batch}, 4, 6]> ()
        y = Reshape (b, t)
    """
    mask = np.tile(weights(2, 2, 6), (batch, 1, 1))
    model = network(body, {"x": (batch, 4, 6)}, {"mask": mask})
    check(model)
    assert specialise(prepare(model), 6).infos.shape("y") == (6, 4, 6)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_token_major_attention_at_any_batch(batch: int) -> None:
    body = f"""
        a = Transpose <perm = [1, 0, 2]> (x)
        s = Constant <value_ints = [4, {2 * batch}, 3]> ()
        b = Reshape (a, s)
        c = Transpose <perm = [1, 0, 2]> (b)
        d = Softmax <axis = 1> (c)
        e = Transpose <perm = [1, 0, 2]> (d)
        t = Constant <value_ints = [{4 * batch}, 6]> ()
        f = Reshape (e, t)
        g = MatMul (f, w)
        u = Constant <value_ints = [4, {batch}, 6]> ()
        h = Reshape (g, u)
        y = Transpose <perm = [1, 0, 2]> (h)
    """
    check(network(body, {"x": (batch, 4, 6)}, {"w": weights(6, 6)}))


def test_kinds_that_are_expanded_to_the_batch_are_one_row() -> None:
    body = "t = Gather (types, kinds)  y = Add (x, t)"
    constants = {"types": weights(3, 6), "kinds": np.zeros((2, 4), dtype=np.int64)}
    check(network(body, {"x": (2, 4, 6)}, constants))


def test_rows_that_were_repeated_too_far_above_leave_the_file_its_own_batch() -> None:
    chain = "\n".join(f"a{index + 1} = Neg (a{index})" for index in range(600))
    body = f"""
        s = Constant <value_ints = [2, 4, 1, 1]> ()
        a0 = Expand (t, s)
        {chain}
        c = Conv (x, w)
        y = Add (c, a600)
    """
    constants = {"t": weights(1, 4, 1, 1), "w": weights(4, 3, 3, 3)}
    prepared = prepare(network(body, {"x": (2, 3, 8, 8)}, constants))
    assert "(2, 4, 1, 1)" in prepared.fixed_batch


def test_a_token_that_the_file_has_for_each_sample_becomes_one_row() -> None:
    model = network(
        "t = Concat <axis = 1> (token, x)  y = MatMul (t, w)",
        {"x": (2, 4, 6)},
        {"token": np.repeat(weights(1, 1, 6), 2, axis=0), "w": weights(6, 6)},
    )
    check(model)
    assert not any(node.is_op("Slice") for node in prepare(model).graph.nodes)  # nothing has to choose a row


def test_a_first_state_that_the_file_has_for_each_sample_becomes_one_row() -> None:
    model = network(
        "a, y = GRU <hidden_size = 5> (x, w, r, , , state)",
        {"x": (4, 2, 6)},
        {"w": weights(1, 15, 6), "r": weights(1, 15, 5), "state": np.zeros((1, 2, 5), dtype=np.float32)},
    )
    prepared = prepare(model)
    assert prepared.fixed_batch == ""
    assert specialise(prepared, 3).infos.shape("y") == (1, 3, 5)
