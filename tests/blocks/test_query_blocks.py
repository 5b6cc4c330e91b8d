"""Streams that the samples enter by attention: learned queries, and decoders of another input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from aznas_onnx.blocks import Blocks, find_blocks
from aznas_onnx.graph import prepare
from tests.graph.builders import network, weights

TOKENS, QUERIES, WIDTH = 20, 6, 8
EXPANDED = """
    sx = Shape <start = 0, end = 1> (x)
    sq = Concat <axis = 0> (sx, size)
    q0 = Expand (latents, sq)
"""


def attention(name: str, asked: str, asking: str, stream: str, *, norm: bool = False) -> str:
    """Attention of `asking` to `asked`, added to `stream`; the result has the name given."""
    total = f"{name}t" if norm else name
    text = f"""
        {name}q = MatMul ({asking}, {name}wq)
        {name}k = MatMul ({asked}, {name}wk)
        {name}v = MatMul ({asked}, {name}wv)
        {name}kt = Transpose <perm = [0, 2, 1]> ({name}k)
        {name}s = MatMul ({name}q, {name}kt)
        {name}p = Softmax ({name}s)
        {name}o = MatMul ({name}p, {name}v)
        {name}w = MatMul ({name}o, {name}wo)
        {total} = Add ({stream}, {name}w)
    """
    return text + (f"{name} = LayerNormalization ({total}, {name}g)" if norm else "")


def mlp(name: str, stream: str, *, norm: bool = False) -> str:
    total = f"{name}t" if norm else name
    text = f"{name}u = MatMul ({stream}, {name}up)  {name}r = Relu ({name}u)  {name}d = MatMul ({name}r, {name}down)"
    return f"{text}  {total} = Add ({stream}, {name}d)  " + (
        f"{name} = LayerNormalization ({total}, {name}g)" if norm else ""
    )


def parameters(*names: str) -> dict[str, npt.NDArray[np.generic]]:
    """Weights of attention and MLP of these names, and what all networks here have."""
    found: dict[str, npt.NDArray[np.generic]] = {
        "w": weights(5, WIDTH),
        "out": weights(WIDTH, 3),
        "latents": weights(1, QUERIES, WIDTH),
        "size": np.array([QUERIES, WIDTH]),
    }
    for at, name in enumerate(names):
        found |= {f"{name}w{one}": weights(WIDTH, WIDTH, seed=10 * at + i) for i, one in enumerate("qkvo")}
        found |= {f"{name}up": weights(WIDTH, 12, seed=at), f"{name}down": weights(12, WIDTH, seed=at)}
        found[f"{name}g"] = weights(WIDTH, seed=at)
    return found


def blocks_of(body: str, *names: str, inputs: Mapping[str, Sequence[int | str | None]] | None = None) -> Blocks:
    shapes = {"x": ("n", TOKENS, 5)} if inputs is None else inputs
    return find_blocks(prepare(network(body, shapes, parameters(*names))))


def found(blocks: Blocks) -> list[tuple[str, str]]:
    return [(block.kind.value, block.output) for block in blocks.blocks]


def test_queries_expanded_to_the_batch_begin_a_stream_of_attention_and_mlp() -> None:
    body = f"{EXPANDED} t = MatMul (x, w)"
    stream = "q0"
    for at in "ab":
        body += attention(at, "t", stream, stream) + mlp(f"{at}m", at)
        stream = f"{at}m"
    blocks = blocks_of(f"{body} y = MatMul ({stream}, out)", "a", "am", "b", "bm")
    assert found(blocks) == [("stem", "t"), ("attention", "a"), ("mlp", "am"), ("attention", "b"), ("mlp", "bm")]
    assert " attend to " in blocks.blocks[1].reason


@pytest.mark.parametrize("begin", ["q0", "n0"])
def test_what_queries_do_among_themselves_first_belongs_to_the_block_that_the_samples_enter(begin: str) -> None:
    body = f"{EXPANDED} t = MatMul (x, w)  n0 = LayerNormalization (q0, ag)"
    body += attention("a", begin, begin, "q0", norm=True) + attention("b", "t", "a", "a", norm=True)
    body += (
        mlp("c", "b", norm=True) + attention("d", "c", "c", "c", norm=True) + attention("e", "t", "d", "d", norm=True)
    )
    blocks = blocks_of(f"{body} y = MatMul (e, out)", "a", "b", "c", "d", "e")
    kinds = [("stem", "t"), ("attention", "b"), ("mlp", "c"), ("attention", "d"), ("attention", "e")]
    assert found(blocks) == kinds
    assert any(node.startswith("Softmax") for node in blocks.blocks[1].nodes)


def test_a_decoder_of_another_input_is_entered_in_the_same_way() -> None:
    body = "t = MatMul (x, w)  z = MatMul (u, w)" + attention("a", "t", "t", "t") + mlp("b", "a")
    body += attention("c", "z", "z", "z") + attention("d", "b", "c", "c") + mlp("e", "d")
    inputs = {"x": ("n", TOKENS, 5), "u": ("n", QUERIES, 5)}
    blocks = blocks_of(f"{body} y = MatMul (e, out)", "a", "b", "c", "d", "e", inputs=inputs)
    assert found(blocks) == [("stem", "t"), ("attention", "a"), ("mlp", "b"), ("attention", "d"), ("mlp", "e")]


def test_positions_that_are_added_to_tokens_begin_no_stream() -> None:
    body = "t0 = MatMul (x, w)  t = Add (t0, place)" + attention("a", "t", "t", "t") + mlp("b", "a")
    model = network(
        f"{body} y = MatMul (b, out)",
        {"x": ("n", TOKENS, 5)},
        {**parameters("a", "b"), "place": weights(TOKENS, WIDTH)},
    )
    assert found(find_blocks(prepare(model))) == [("stem", "t"), ("attention", "a"), ("mlp", "b")]


def test_keys_and_values_that_one_layer_makes_belong_to_the_attention() -> None:
    body = f"""{EXPANDED}
        t = MatMul (x, w)
        aq = MatMul (q0, awq)
        both = MatMul (t, packed)
        ak, av = Split <axis = 2, num_outputs = 2> (both)
        akt = Transpose <perm = [0, 2, 1]> (ak)
        as = MatMul (aq, akt)
        ap = Softmax (as)
        ao = MatMul (ap, av)
        a = Add (q0, ao)
        {mlp("b", "a")}
        y = MatMul (b, out)
    """
    constants = {**parameters("a", "b"), "packed": weights(WIDTH, 2 * WIDTH)}
    model = prepare(network(body, {"x": ("n", TOKENS, 5)}, constants))
    assert found(find_blocks(model)) == [("stem", "t"), ("attention", "a"), ("mlp", "b")]


def test_rows_of_samples_and_queries_together_end_a_block_as_samples() -> None:
    body = f"""
        {EXPANDED} t = MatMul (x, w)
        {attention("a", "t", "q0", "q0")}
        rows = Reshape (a, flat)
        g = MatMul (rows, aup)
        r = Relu (g)
        d = MatMul (r, adown)
        s = Add (rows, d)
        back = Reshape (s, parted)
        {attention("c", "t", "back", "back")}
        y = MatMul (c, out)
    """
    shapes = {"flat": np.array([-1, WIDTH]), "parted": np.array([-1, QUERIES, WIDTH])}
    model = prepare(network(body, {"x": ("n", TOKENS, 5)}, {**parameters("a", "c"), **shapes}))
    blocks = find_blocks(model)
    assert found(blocks) == [("stem", "t"), ("attention", "a"), ("mlp", "back"), ("attention", "c")]
