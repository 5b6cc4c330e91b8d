"""One suite for every space: the bundled ones, and the example of a space in a file."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from aznas_onnx.costs import count
from aznas_onnx.graph import prepare
from aznas_onnx.graph.building.builder import weight_shapes
from aznas_onnx.graph.ir.declared_blocks import declared_blocks
from aznas_onnx.spaces import GenotypeError, Space, get
from aznas_onnx.spaces.registry import BUNDLED

_ROOT = Path(__file__).resolve().parents[2]
_SPACES = (*(record.name for record in BUNDLED), str(_ROOT / "examples" / "resnet_space.py"))
_RESOLUTION = 64  # every space takes it, and every network is quick to run at it
_CLASSES = 7
_STATISTICS = ("running_mean", "running_var")


@pytest.fixture(params=_SPACES, ids=lambda name: Path(name).stem)
def reference(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def space(reference: str) -> Space[Any]:
    return get(reference, resolution=_RESOLUTION, num_classes=_CLASSES)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def some_genotypes(space: Space[Any]) -> list[Any]:
    rng = generator()
    start = space.start(rng)
    return [start, space.mutate(start, rng), space.sample(rng), space.sample(rng)]


def test_samples_belong_to_the_space_and_differ(space: Space[Any]) -> None:
    rng = generator()
    genotypes = [space.sample(rng) for _ in range(50)]
    for genotype in genotypes:
        space.validate(genotype)
    assert len(set(genotypes)) > 25  # hashable, and not all the same


@pytest.mark.parametrize("changes", [1, 2, 5])
def test_mutation_stays_in_the_space_and_leaves_its_parent(space: Space[Any], changes: int) -> None:
    rng = generator()
    genotype = space.start(rng)
    moved = 0
    for _ in range(60):
        text = space.format(genotype)
        child = space.mutate(genotype, rng, changes)
        space.validate(child)
        assert space.format(genotype) == text
        moved += child != genotype
        genotype = child
    assert moved > 30


def test_random_choices_come_from_the_generator_alone(reference: str) -> None:
    def walk() -> list[str]:
        space, rng = get(reference), generator(5)
        genotypes = [space.start(rng), space.sample(rng), space.sample(rng)]
        genotypes += [space.mutate(genotype, rng, 2) for genotype in genotypes]
        return [space.format(genotype) for genotype in genotypes]

    assert walk() == walk()


def test_the_notation_round_trips_on_one_line(space: Space[Any]) -> None:
    rng = generator()
    genotype = space.start(rng)
    for _ in range(30):
        text = space.format(genotype)
        assert "\n" not in text
        assert space.parse(text) == genotype
        assert hash(space.parse(text)) == hash(genotype)
        assert space.parse(f" {text}\n") == genotype
        genotype = space.mutate(space.sample(rng), rng)


@pytest.mark.parametrize(
    "text", ["", " ", "nonsense", "{}", "[1]", "|", "9" * 5000, "SuperConvK3BNRELU(3,8,2,1)", "1x1", "\0"]
)
def test_what_is_no_genotype_is_refused_in_one_sentence(space: Space[Any], text: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        space.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_damaged_genotype_is_read_as_another_or_refused(space: Space[Any]) -> None:
    rng = generator()
    for _ in range(200):
        text = list(space.format(space.sample(rng)))
        place = int(rng.integers(len(text)))
        text[place : place + int(rng.integers(3))] = rng.choice(list('0123456789|~(){},.[]"+-xK '))
        try:
            space.validate(space.parse("".join(text)))
        except GenotypeError as error:
            assert "\n" not in str(error)  # noqa: PT017 (both outcomes are right)


@pytest.mark.parametrize("thing", [None, "text", 3, (1, 2)])
def test_an_object_of_another_kind_is_refused(space: Space[Any], thing: object) -> None:
    with pytest.raises(GenotypeError):
        space.validate(thing)
    with pytest.raises(GenotypeError):
        space.build(thing)


def test_networks_are_valid_onnx_with_a_symbolic_batch(space: Space[Any]) -> None:
    for genotype in some_genotypes(space):
        model = space.build(genotype)
        onnx.checker.check_model(model, full_check=True)
        assert model.graph.name == space.name
        assert {entry.domain for entry in model.opset_import} == {""}
        assert model.opset_import[0].version >= 17
        (samples,) = model.graph.input
        kind = onnx.TensorProto.FLOAT if space.vocabulary is None else onnx.TensorProto.INT64
        assert samples.type.tensor_type.elem_type == kind
        dims = samples.type.tensor_type.shape.dim
        assert dims[0].dim_param
        assert tuple(dim.dim_value for dim in dims[1:]) == space.input_shape


def test_networks_run(space: Space[Any]) -> None:
    import onnxruntime

    model = space.build(space.start(generator()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (output,) = session.run(None, {model.graph.input[0].name: space.random_input(generator(batch), batch)})
        assert output.shape == (batch, _CLASSES)


def test_blocks_are_declared_in_dataflow_order(space: Space[Any]) -> None:
    for genotype in some_genotypes(space):
        model = space.build(genotype)
        blocks = declared_blocks({entry.key: entry.value for entry in model.metadata_props})
        made = [name for node in model.graph.node for name in node.output]
        places = [made.index(name) for name in blocks]
        assert len(blocks) > 1
        assert places == sorted(set(places))


def test_counts_are_those_of_the_built_network(space: Space[Any]) -> None:
    for genotype in some_genotypes(space):
        model = space.build(genotype)
        weights = weight_shapes(model)
        trainable = [shape for name, shape in weights.items() if not name.endswith(_STATISTICS)]
        assert space.params(genotype) == sum(math.prod(shape) for shape in trainable)
        prepared = prepare(model)
        changes = [change for change in prepared.changes if not change.startswith("scored from the embedded tokens on")]
        assert (changes, prepared.warnings) == ([], ())  # it is canonical as it is
        assert len(prepared.changes) == (space.vocabulary is not None)
        assert prepared.fixed_batch == ""
        costs = count(prepared)
        assert not costs.unsupported
        assert (space.macs(genotype), space.params(genotype)) == (costs.macs, costs.params)
        read_faster = count(prepare(space.source(genotype)))
        assert (read_faster.macs, read_faster.params) == (costs.macs, costs.params)
        assert space.layers(genotype) >= 1


def test_building_allocates_no_weights(reference: str) -> None:
    space = get(reference)  # at its full size
    genotype = space.start(generator())
    space.build(genotype)  # what is cached once
    tracemalloc.start()
    model = space.build(genotype)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert weight_shapes(model).keys().isdisjoint(tensor.name for tensor in model.graph.initializer)
    assert model.ByteSize() < min(4 * space.params(genotype), 600_000)
    assert peak_bytes < 4_000_000


def test_building_twice_gives_the_same_bytes(space: Space[Any]) -> None:
    genotype = space.sample(generator())
    again = type(space)(resolution=space.resolution, num_classes=space.num_classes)
    first, second = space.build(genotype), again.build(again.parse(space.format(genotype)))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
