from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import prepare
from aznas_onnx.graph.building.builder import weight_shapes
from aznas_onnx.initialise import plan_weights
from aznas_onnx.scoring import score
from aznas_onnx.spaces import GenotypeError
from aznas_onnx.spaces.bert import BertEncoder, BertLayer, BertSpace
from aznas_onnx.spaces.token_mixing import TokenMixing
from tests.spaces.torch_reference import Weights, largest_difference

OPERATIONS = (("SA", "SDP"), ("SA", "WMA"), ("LT", "DFT"), ("LT", "DCT"), ("DSC", 5), ("DSC", 9))


def written(width: int, *operations: tuple[str, Any], heads: int = 2, hidden: int = 512, layers: int = 1) -> str:
    """Return the notation of a network that has equal layers but for their operations."""
    sizes = {"num_operation_heads": heads, "feed_forward_dimension": hidden, "num_feed_forward": layers}
    encoder = [{"operation_type": kind, "operation_parameter": parameter, **sizes} for kind, parameter in operations]
    return json.dumps({"hidden_size": width, "encoder_layers": encoder}, separators=(",", ":"))


TWO = written(128, ("SA", "SDP"), ("LT", "DFT"))


def test_counts_by_hand() -> None:
    space, tokens = BertSpace(resolution=16), 16
    embedding = (30_522 + 512 + 2 + 2) * 128  # words, positions, types, and scale and shift of the normalisation
    attention = 4 * (128 * 128 + 128) + 2 * 128
    transform = 2 * (128 * 128 + 128) + 2 * 128
    forward = 128 * 512 + 512 + 512 * 128 + 128 + 2 * 128
    genotype = space.parse(TWO)
    assert space.params(genotype) == embedding + attention + transform + 2 * forward + 2 * 128 + 2
    per_token = 4 * 128 * 128 + 2 * 128 * 128 + 2 * 2 * 128 * 512
    transforms = 2 * (2 * tokens * tokens * 64 + 2 * tokens * 64 * 64)  # of both heads
    assert space.macs(genotype) == tokens * per_token + 2 * tokens * tokens * 128 + transforms + 128 * 2
    assert space.layers(genotype) == 2


# Parameters of the operation, the projection behind it and its normalisation in a layer of 256 with 4 heads.
PARAMETERS = {
    ("SA", "SDP"): 263_168 + 512,
    ("SA", "WMA"): 263_168 + 65_536 + 512,
    ("LT", "DFT"): 131_584 + 512,
    ("LT", "DCT"): 131_584 + 512,
    ("DSC", 5): 4 * 32_896 + 256 * 5 + 32_896 + 129 * 2 * 5 + 65_792 + 512,
    ("DSC", 9): 4 * 32_896 + 256 * 9 + 32_896 + 129 * 2 * 9 + 65_792 + 512,
}


@pytest.mark.parametrize(("operation", "expected"), PARAMETERS.items())
def test_parameters_of_each_operation(operation: tuple[str, Any], expected: int) -> None:
    space = BertSpace()
    embedding = 31_038 * 128 + 129 * 256
    forward = 2 * (257 * 1024 + 2 * 1025 * 1024 + 1025 * 256 + 512)
    genotype = space.parse(written(256, operation, operation, heads=4, hidden=1024, layers=3))
    assert space.params(genotype) - embedding - forward - 257 * 2 == 2 * expected


@pytest.mark.parametrize("width", [128, 256])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_network_computes_and_counts_what_its_definition_does(width: int, operation: tuple[str, Any]) -> None:
    space = BertSpace(resolution=24, num_classes=5)
    text = written(width, operation, ("SA", "SDP"), heads=4, layers=3)
    genotype = space.parse(text)
    ids = space.random_input(np.random.default_rng(0), 2)
    counted: list[int] = []

    def forward(ids: torch.Tensor, weights: Weights) -> torch.Tensor:
        with FlopCounterMode(display=False) as counter:
            output = reference(ids, weights, text)
        counted.append(counter.get_total_flops() // (2 * len(ids)))
        return output

    assert largest_difference(space.build(genotype), forward, ids) < 1e-4
    tokens, part = 24, width // 4
    products = {"DFT": 2, "DCT": 1}.get(operation[1], 0)  # torch counts no operations of a fast transform
    assert space.macs(genotype) == counted[0] + products * tokens * width * (tokens + part)


def test_trained_networks_are_those_of_dot_products_with_a_first_feed_forward_layer_of_four_times_the_width() -> None:
    named, trained = BertSpace(num_classes=3), BertSpace(num_classes=3, networks="trained")
    text = written(256, ("DSC", 9), ("LT", "DCT"), heads=4, hidden=512, layers=3)
    shapes = weight_shapes(trained.build(trained.parse(text)))
    forward = [shapes[f"encoder.layer.1.intermediate.{index}.weight"] for index in range(3)]
    assert forward == [(256, 1024), (1024, 512), (512, 512)]
    assert shapes["encoder.layer.1.output.dense.weight"] == (512, 256)
    dot_products = named.parse(written(256, ("SA", "SDP"), ("SA", "SDP"), heads=4, hidden=1024, layers=1))
    same = trained.parse(written(256, ("DSC", 9), ("LT", "DCT"), heads=4, hidden=512, layers=1))
    assert trained.params(same) == named.params(dot_products)
    assert trained.macs(same) == named.macs(dot_products)
    first, second = trained.build(same), named.build(dot_products)
    assert [node.op_type for node in first.graph.node] == [node.op_type for node in second.graph.node]


def test_counts_of_trained_networks_are_those_of_the_graph() -> None:
    space, rng = BertSpace(resolution=16, networks="trained"), np.random.default_rng(0)
    for _ in range(5):
        genotype = space.sample(rng)
        shapes = weight_shapes(space.build(genotype))
        assert space.params(genotype) == sum(math.prod(shape) for shape in shapes.values())


def test_genotypes_of_one_trained_network_have_one_text() -> None:
    named, trained = BertSpace(), BertSpace(networks="trained")
    texts = [
        written(128, operation, ("SA", "SDP"), hidden=hidden) for operation in OPERATIONS for hidden in (512, 1024)
    ]
    assert {named.canonical(named.parse(text)) for text in texts} == set(texts)
    assert {trained.canonical(trained.parse(text)) for text in texts} == {written(128, *[("SA", "SDP")] * 2)}
    deep = [written(128, *[("LT", "DFT")] * 2, hidden=hidden, layers=3) for hidden in (512, 1024)]
    assert len({trained.canonical(trained.parse(text)) for text in deep}) == 2


def test_another_choice_of_networks_is_refused() -> None:
    with pytest.raises(SettingsError, match="networks is 'both'; named and trained are accepted"):
        BertSpace(networks="both")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWO[:-1], "is JSON with hidden_size, encoder_layers, such as"),
        (TWO.replace('"hidden_size":128,', ""), "with exactly hidden_size, encoder_layers"),
        (TWO.replace("128", "192"), "hidden_size is '192'; accepted are 128, 256"),
        (TWO.replace("128", "128.0"), "hidden_size is '128.0'"),
        (written(128, ("SA", "SDP")), "encoder_layers has a length of '1'; accepted are 2, 4"),
        ('{"hidden_size":128,"encoder_layers":7}', "encoder_layers is '7'; a list of layers is needed"),
        (TWO.replace("SDP", "DFT"), "an operation is 'SA DFT'; accepted are SA SDP, SA WMA, LT DFT"),
        (TWO.replace('"SDP"', "[1]"), "an operation is 'SA [1]'"),
        (TWO.replace('_heads":2', '_heads":3'), "num_operation_heads is '3'; accepted are 2, 4"),
        (TWO.replace("512", "true"), "feed_forward_dimension is 'True'; accepted are 512, 1024"),
        (TWO.replace('"num_feed_forward":1', '"num":1'), "one such as"),
    ],
)
def test_notation_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        BertSpace().parse(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_layers_can_be_the_text_of_a_cell() -> None:
    space = BertSpace()
    row = {key: value if key == "hidden_size" else json.dumps(value) for key, value in json.loads(TWO).items()}
    assert space.parse(json.dumps(row)) == space.parse(TWO)
    assert space.columns == ("hidden_size", "encoder_layers")


def test_a_mutation_changes_one_gene() -> None:
    space, rng = BertSpace(), np.random.default_rng(0)
    genotype = space.parse(TWO)
    changed: Counter[str] = Counter()
    for _ in range(400):
        child = space.mutate(genotype, rng)
        if child.hidden_size != genotype.hidden_size:
            changed["width"] += 1
        elif len(child.layers) != len(genotype.layers):
            assert child.layers[:2] == genotype.layers
            changed["depth"] += 1
        else:
            (pair,) = ((a, b) for a, b in zip(genotype.layers, child.layers, strict=True) if a != b)
            (gene,) = (gene for gene in BertLayer.__slots__ if getattr(pair[0], gene) != getattr(pair[1], gene))
            changed[gene] += 1
    assert changed.keys() == {"width", "depth", *BertLayer.__slots__}


def test_transforms_are_no_weights() -> None:
    space = BertSpace(resolution=16)
    graph = prepare(space.build(space.parse(written(128, ("LT", "DFT"), ("LT", "DCT")))))
    planned = plan_weights(graph.graph, graph.infos, is_transformer=True)
    assert {"dft.tokens", "dft.64", "dct.tokens", "dct.64"} <= graph.graph.constants.keys() - planned.keys()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_scored_as_a_transformer_without_warnings(operation: tuple[str, Any]) -> None:
    space = BertSpace(resolution=16)
    found = score(space.build(space.parse(written(128, operation, operation))), effort="fast", device="cpu")
    assert found.warnings == ()
    assert found.proxies["progressivity"].mean is None
    assert "transformers" in found.proxies["progressivity"].reason
    for name in ("expressivity", "trainability", "macs"):
        assert found.proxies[name].mean is not None


def test_every_row_of_the_benchmark_is_read_and_written_alike(shared: Path) -> None:
    space = BertSpace()
    with (shared / "truth" / "flexibert_glue.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 300
    for row in rows:
        genotype = space.parse(json.dumps({column: row[column] for column in space.columns}))
        assert (
            space.format(genotype) == f'{{"hidden_size":{row["hidden_size"]},"encoder_layers":{row["encoder_layers"]}}}'
        )
        assert isinstance(genotype, BertEncoder)
        assert {layer.mixing for layer in genotype.layers} <= set(TokenMixing)
        shapes = weight_shapes(space.build(genotype))
        assert space.params(genotype) == sum(math.prod(shape) for shape in shapes.values())


def reference(ids: torch.Tensor, weights: Weights, text: str) -> torch.Tensor:
    """Return the class scores of a network, written from the operations' definitions with torch and scipy."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        name = f"{name}.LayerNorm"
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    def table(name: str) -> torch.Tensor:
        return weights[f"embeddings.{name}_embeddings.weight"]

    def attended(x: torch.Tensor, query: torch.Tensor, name: str, heads: int) -> torch.Tensor:
        parts = [y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (query, linear(x, f"{name}.key"))]
        value = linear(x, f"{name}.value").unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = parts[0] @ parts[1].mT / math.sqrt(value.shape[-1])
        return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)

    def mixed(x: torch.Tensor, name: str, kind: str, parameter: Any, heads: int) -> torch.Tensor:
        if kind == "SA":
            query = linear(x, f"{name}.query")
            return attended(x, query @ weights[f"{name}.weight"] if parameter == "WMA" else query, name, heads)
        if kind == "LT":
            parts = linear(x, f"{name}.input").unflatten(-1, (heads, -1)).transpose(1, 2)
            if parameter == "DFT":
                return torch.fft.fft2(parts).real.transpose(1, 2).flatten(2)
            transformed = scipy.fft.dctn(parts.numpy(), type=2, axes=(2, 3))
            return torch.from_numpy(transformed).transpose(1, 2).flatten(2)
        query, layer = linear(x, f"{name}.query"), f"{name}.key_conv_attn_layer"
        separable = F.conv1d(x.mT, weights[f"{layer}.depthwise.weight"], padding=parameter // 2, groups=x.shape[-1])
        kernels = linear(linear(separable.mT, f"{layer}.pointwise") * query, f"{name}.conv_kernel_layer")
        kernels = kernels.unflatten(-1, (heads // 2, parameter)).softmax(-1)
        values = F.pad(linear(x, f"{name}.conv_out_layer"), (0, 0, parameter // 2, parameter // 2))
        windows = values.unfold(1, parameter, 1).unflatten(2, (heads // 2, -1))
        convolved = torch.einsum("bthdk,bthk->bthd", windows, kernels).flatten(2)
        return torch.cat([attended(x, query, name, heads // 2), convolved], dim=-1)

    fields = json.loads(text)
    x = norm(table("word")[ids] + table("position")[: ids.shape[1]] + table("token_type")[0], "embeddings")
    if fields["hidden_size"] != 128:
        x = linear(x, "embeddings_project")
    for index, layer in enumerate(fields["encoder_layers"]):
        name, heads = f"encoder.layer.{index}", layer["num_operation_heads"]
        operation = layer["operation_type"], layer["operation_parameter"]
        y = linear(mixed(x, f"{name}.attention.self", *operation, heads), f"{name}.attention.output.dense")
        x = norm(x + y, f"{name}.attention.output")
        y = x
        for number in range(layer["num_feed_forward"]):
            y = F.gelu(linear(y, f"{name}.intermediate.{number}"))
        x = norm(x + linear(y, f"{name}.output.dense"), f"{name}.output")
    return x[:, 0] @ weights["classifier.weight"].T + weights["classifier.bias"]
