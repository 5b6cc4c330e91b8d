from __future__ import annotations

import numpy as np

from aznas_onnx.blocks import BlockKind, find_blocks
from aznas_onnx.graph import prepare
from tests.blocks.sketch import Sketch, found, kinds


def test_a_transformer_has_an_attention_and_an_mlp_block_a_layer() -> None:
    net = Sketch()
    x = net.patches(16)
    for _ in range(3):
        x = net.encoder(x)
    result = find_blocks(net.average_tokens(net.ln(x)))
    assert kinds(result) == {"stem": 1, "attention": 3, "mlp": 3}
    assert result.is_transformer
    assert {block.channel_axis for block in result.blocks} == {2}


def test_a_token_mixing_mlp_is_an_mlp_block() -> None:
    net = Sketch(resolution=16)
    x = net.patches(12)
    for _ in range(2):
        turned = net.op("Transpose", net.ln(x), perm=(0, 2, 1), width=16)
        mixed = net.linear(net.op("Gelu", net.linear(turned, 24)), 16)
        x = net.add(x, net.op("Transpose", mixed, perm=(0, 2, 1), width=12))
        x = net.add(x, net.linear(net.op("Gelu", net.linear(net.ln(x), 24)), 12))
    result = find_blocks(net.average_tokens(x))
    assert kinds(result) == {"stem": 1, "mlp": 4}
    assert result.is_transformer
    assert {net.width[block.output] for block in result.blocks} == {12}


def test_a_hybrid_of_convolutions_and_attention_is_no_transformer() -> None:
    net = Sketch()
    x = net.conv(net.input, 16)
    for _ in range(4):
        x = net.residual(x)
    assert not find_blocks(net.average_tokens(net.encoder(net.tokens(x)))).is_transformer


def test_the_choice_of_the_class_token_ends_the_feature_maps() -> None:
    net = Sketch()
    x = net.patches(16)
    x = net.encoder(x)
    net.net.constant("first", np.array(0))
    token = net.op("Gather", net.ln(x), "first", axis=1)
    hidden = net.relu(net.linear(token, 32))
    model = prepare(net.net.model(net.net.gemm(hidden, "head", 32, 10)), keep_graph=True)
    assert found(model)[-1].output == x


def test_a_class_token_that_is_renewed_at_the_end_makes_no_block() -> None:
    net = Sketch()
    x = net.encoder(net.patches(16))
    last = x
    net.net.constant("first", np.array([0]))
    token = net.op("Gather", x, "first", axis=1)
    for layer in range(2):  # as in CaiT: only the class token attends, and is put back beside the others
        both = net.ln(net.op("Concat", token, x, axis=1))
        query = net.linear(net.op("Gather", both, "first", axis=1), 16)
        scores = net.op("MatMul", query, net.op("Transpose", net.linear(both, 16), perm=(0, 2, 1)))
        mixed = net.op("MatMul", net.op("Softmax", scores), net.linear(both, 16, name=f"value{layer}"), width=16)
        token = net.add(token, net.linear(mixed, 16))
        token = net.add(token, net.linear(net.relu(net.linear(token, 32)), 16))
    x = net.ln(net.op("Concat", token, x, axis=1))
    net.net.constant("zero", np.array(0))
    logits = net.net.gemm(net.op("Gather", x, "zero", axis=1), "head", 16, 10)
    blocks = found(prepare(net.net.model(logits), keep_graph=True))
    assert [block.kind for block in blocks] == [BlockKind.STEM, BlockKind.ATTENTION, BlockKind.MLP]
    assert blocks[-1].output == last


def test_heads_that_follow_each_other_inside_of_a_residual_are_no_blocks() -> None:
    net = Sketch()
    x = net.conv(net.input, 16, 5, 4)
    for layer in range(2):  # as in EfficientViT: each head attends on a quarter of the channels, and feeds the next
        net.net.constant(f"sizes{layer}", np.full(4, 4))
        parts = tuple(f"part{layer}{at}" for at in range(4))
        net.net._add_node("Split", (x, f"sizes{layer}"), parts, f"split{layer}", {"axis": 1})
        done: list[str] = []
        for at, part in enumerate(parts):
            net.width[part] = 4
            tokens = net.tokens(net.add(done[-1], part) if done else part)
            mixed = net.op("Transpose", net.attention(tokens), perm=(0, 2, 1))
            done.append(net.net.reshape(mixed, f"head{layer}{at}", (0, 4, 8, 8)))
            net.width[done[-1]] = 4
        x = net.add(x, net.conv(net.concat(*done), 16, 1, act=False))
    assert kinds(find_blocks(net.classify(x))) == {"stem": 1, "attention": 2}
