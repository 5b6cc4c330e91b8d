from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.errors import AznasError
from aznas_onnx.graph import Limits
from aznas_onnx.graph.files import load as loading
from aznas_onnx.graph.files import without_data
from aznas_onnx.graph.files.deserialize import deserialize
from aznas_onnx.graph.files.load import Loaded, load
from aznas_onnx.graph.ir.graph import Constant
from aznas_onnx.graph.ir.stored_data import StoredData
from aznas_onnx.graph.ir.tensors import plain_dtype
from tests.graph.builders import network, save, weights

pytestmark = pytest.mark.skipif(not hasattr(os, "pread"), reason="the system reads files from their start only")

CONSTANTS: dict[str, npt.NDArray[Any]] = {
    "w": weights(4, 3, 3, 3),
    "b": weights(4),
    "v": weights(4, 4, 1, 1).astype(np.float16),
}
DATA = CONSTANTS["w"].tobytes()


def model() -> onnx.ModelProto:
    return network("a = Conv (x, w, b)  f = Cast <to = 1> (v)  y = Conv (a, f)", constants=CONSTANTS)


@pytest.fixture(autouse=True)
def _small_files_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_WORTH_A_WALK_BYTES", 0)
    monkeypatch.setattr(without_data, "_LARGE_BYTES", 16)


def opened(path: Path, *, leaves_data: bool = True) -> Loaded:
    return load(path, Limits(), leaves_data=leaves_data)


def constants(loaded: Loaded) -> dict[str, Constant]:
    graph = deserialize(loaded.model, loaded.folder, "net", Limits(), loaded.nodes, loaded.stored)
    return dict(graph.constants)


def outcome(path: Path, *, leaves_data: bool) -> object:
    """Return the constants of a file, bit by bit, or why it is refused."""
    try:
        found = constants(opened(path, leaves_data=leaves_data))
        return {
            name: (constant.shape, str(constant.dtype), constant.read().tobytes())
            for name, constant in found.items()
            if constant.read is not None
        }
    except AznasError as error:
        return str(error)


def test_large_data_stays_in_the_file(tmp_path: Path) -> None:
    path = save(model(), tmp_path / "net.onnx")
    loaded = opened(path)
    assert loaded.stored.keys() == {"w", "b", "v"}
    assert not any(tensor.raw_data for tensor in loaded.model.graph.initializer)
    found = constants(loaded)
    for name, values in CONSTANTS.items():
        read = found[name].read
        assert isinstance(read, StoredData)
        np.testing.assert_array_equal(read(), values)
        np.testing.assert_array_equal(read.at([0, 2, 3]), values.reshape(-1)[[0, 2, 3]])


def test_distant_numbers_are_read_one_by_one(tmp_path: Path) -> None:
    large = weights(300, 300)
    path = save(network("y = MatMul (x, w)", {"x": (1, 300)}, {"w": large}), tmp_path / "net.onnx")
    (stored,) = opened(path).stored.values()
    np.testing.assert_array_equal(stored.at(range(0, 90_000, 301)), np.diagonal(large))


@pytest.mark.parametrize("size", [0, 2**40], ids=["small data", "small file"])
def test_what_is_small_is_read_at_once(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        *((without_data, "_LARGE_BYTES", 2**14) if not size else (loading, "_WORTH_A_WALK_BYTES", size))
    )
    loaded = opened(save(model(), tmp_path / "net.onnx"))
    assert not loaded.stored
    assert loaded.model == model()


def test_a_file_on_a_machine_of_another_byte_order_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_dtype.cache_clear()
    monkeypatch.setattr(sys, "byteorder", "big")
    loaded = opened(save(model(), tmp_path / "net.onnx"))
    assert not loaded.stored
    assert loaded.model == model()
    plain_dtype.cache_clear()


def _spoiled() -> Iterator[tuple[str, bytes]]:
    made = model()
    whole = made.SerializeToString()
    graph = made.graph.SerializeToString()
    made.ClearField("graph")
    rest = made.SerializeToString()
    place = graph.index(DATA)
    yield "truncated", whole[:-7]
    yield "truncated in the data", whole[: whole.index(DATA) + 50]
    yield "more than one graph", whole + b"\x3a\x04\x2a\x02\x42\x00"
    yield "a graph of the wrong kind", whole + b"\x38\x05"
    yield "a group", whole + b"\x0b\x0c"
    yield "an unknown field of each kind", whole + b"\xf8\x07\x01" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4)
    yield "a size beyond the file", whole + b"\xfa\x07\xff\xff\xff\xff\x07"
    yield "a number without an end", whole + b"\xf8\x07" + b"\xff" * 11
    yield "data that is longer than its tensor", rest + _graph(graph[: place - 2] + b"\xff\xff\x07" + graph[place:])
    yield "a long form of the graph's size", rest + b"\x3a" + _long(len(graph)) + graph


def _graph(content: bytes) -> bytes:
    return b"\x3a" + _long(len(content)) + content


def _long(size: int) -> bytes:
    return bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21 | 128, 0))


@pytest.mark.parametrize("content", [content for _, content in _spoiled()], ids=[name for name, _ in _spoiled()])
def test_odd_files_read_as_without_the_walk(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert outcome(path, leaves_data=True) == outcome(path, leaves_data=False)


def _odd_tensors() -> Iterator[tuple[str, onnx.ModelProto]]:
    for name in ("the same name", "wrong size", "external as well", "packed", "in a branch", "text", "not a type"):
        made = model()
        tensor = made.graph.initializer[0]
        if name == "the same name":
            made.graph.initializer.append(numpy_helper.from_array(weights(4, 3, 3, 3, seed=1), "w"))
        elif name == "wrong size":
            tensor.raw_data = tensor.raw_data[:-4]
        elif name == "external as well":
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="../w.bin")
        elif name == "packed":
            made.graph.initializer.add(name="p", data_type=TensorProto.INT4, dims=[64], raw_data=bytes(range(32)))
        elif name == "in a branch":
            body = helper.make_graph([], "b", [], [], [numpy_helper.from_array(weights(4, 3, 3, 3, seed=2), "w")])
            made.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=body, else_branch=body))
        else:
            tensor.data_type = TensorProto.STRING if name == "text" else 77
        yield name, made


@pytest.mark.parametrize("made", [made for _, made in _odd_tensors()], ids=[name for name, _ in _odd_tensors()])
def test_odd_tensors_read_as_without_the_walk(made: onnx.ModelProto, tmp_path: Path) -> None:
    path = save(made, tmp_path / "net.onnx")
    assert outcome(path, leaves_data=True) == outcome(path, leaves_data=False)


def test_of_data_that_a_tensor_has_twice_the_last_counts(tmp_path: Path) -> None:
    made = model()
    bias = made.graph.initializer[1].SerializeToString()
    graph = made.graph.SerializeToString()
    made.ClearField("graph")
    more = b"\x4a\x10" + bytes(range(16))
    longer = graph.replace(_field(0x2A, bias), _field(0x2A, bias + more))
    assert len(longer) == len(graph) + len(more)
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString() + _graph(longer))
    assert opened(path).stored.keys() == {"w", "v"}
    assert outcome(path, leaves_data=True) == outcome(path, leaves_data=False)


def _field(key: int, content: bytes) -> bytes:
    return bytes((key, len(content))) + content


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=3))
def test_any_file_reads_as_without_the_walk(edits: list[tuple[float, int, bytes]], tmp_path: Path) -> None:
    """Bytes that are inserted, removed or replaced anywhere lead to the same model, or to the same refusal."""
    content = model().SerializeToString()
    for place, removed, added in edits:
        start = int(place * len(content))
        content = content[:start] + added + content[start + removed :]
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert outcome(path, leaves_data=True) == outcome(path, leaves_data=False)


def test_a_file_of_many_fields_is_left_to_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(without_data, "_MOST_FIELDS", 5)
    loaded = opened(save(model(), tmp_path / "net.onnx"))
    assert not loaded.stored
    assert loaded.model == model()


class TestAnOpenFile:
    def test_it_outlives_its_name(self, tmp_path: Path) -> None:
        path = save(model(), tmp_path / "net.onnx")
        loaded = opened(path)
        path.unlink()
        path.write_bytes(b"another")
        assert loaded.stored["w"]().tobytes() == DATA

    @pytest.mark.parametrize("content", [b"short", bytes(10_000)])
    def test_a_change_is_an_error_not_garbage(self, content: bytes, tmp_path: Path) -> None:
        path = save(model(), tmp_path / "net.onnx")
        loaded = opened(path)
        path.write_bytes(content)
        with pytest.raises(AznasError, match="was changed while it was used"):
            loaded.stored["w"]()

    def test_it_closes_with_the_last_who_holds_it(self, tmp_path: Path) -> None:
        path = save(model(), tmp_path / "net.onnx")
        if not Path("/proc/self/fd").is_dir():
            pytest.skip("the system does not list open files")
        loaded = opened(path)
        assert _descriptors(path)
        del loaded
        gc.collect()
        assert not _descriptors(path)


def _descriptors(path: Path) -> list[str]:
    return [str(one) for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one) == str(path.resolve())]
