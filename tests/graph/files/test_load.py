from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aznas_onnx.errors import ModelError, UnsupportedOperatorError
from aznas_onnx.graph import Limits, prepare
from aznas_onnx.graph.files.load import load, source_name
from tests.graph.builders import network, save, weights

CONV = {"w": weights(4, 3, 3, 3)}


def conv() -> onnx.ModelProto:
    return network("y = Conv (x, w)", constants=CONV)


def with_external(location: str | None, **entries: str) -> onnx.ModelProto:
    """Return a model whose weight of 432 bytes lies in another file."""
    model = conv()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {**({} if location is None else {"location": location}), **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def test_a_path_and_a_model_in_memory_read_alike(tmp_path: Path) -> None:
    path = save(conv(), tmp_path / "net.onnx")
    assert load(path, Limits())[0] == load(conv(), Limits())[0] == load(str(path), Limits())[0]
    assert load(path, Limits())[1] == tmp_path
    assert load(conv(), Limits())[1] is None
    assert (source_name(path), source_name(conv())) == (str(path), "g")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"Dear reader, this is no model.\n" * 100, "is not an ONNX file, or is truncated"),
        (b'{"graph": []}', "is not an ONNX file, or is truncated"),
        (b"<html><body>404</body></html>", "is not an ONNX file, or is truncated"),
        (b"PK\x03\x04" + bytes(range(256)), "is not an ONNX file, or is truncated"),
        (bytes(1000), "is not an ONNX file, or is truncated"),
        (conv().SerializeToString()[:200], "is not an ONNX file, or is truncated"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "it has no graph or names no operator set"),
    ],
    ids=["empty", "text", "json", "html", "zip", "zeros", "truncated", "no-graph"],
)
def test_a_file_that_is_no_model(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason) as raised:
        prepare(path)
    assert str(raised.value).startswith(str(path))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 46830571\n"
WHAT_TO_DO = r"fetch the file with `git lfs pull` \(GitHub: `lfs: true` of actions/checkout\)$"


def test_a_git_lfs_pointer_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(POINTER)
    with pytest.raises(ModelError, match=rf"net\.onnx is a Git LFS pointer and not the model itself; {WHAT_TO_DO}"):
        prepare(path)


def test_a_model_cut_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    content = conv().SerializeToString()
    path = tmp_path / "net.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            prepare(path)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a directory"):
        prepare(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        prepare(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="is no path"):
        prepare("net\0.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        prepare("n" * 5000)
    with pytest.raises(ModelError, match="is not a regular file"):
        prepare(os.devnull)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = save(conv(), tmp_path / "net.onnx")
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        prepare(path)


def test_a_model_without_nodes_or_outputs() -> None:
    model = conv()
    del model.graph.node[:]
    with pytest.raises(ModelError, match="empty graph"):
        prepare(model)
    model = conv()
    del model.graph.output[:]
    with pytest.raises(ModelError, match="no output"):
        prepare(model)


def test_limits_name_the_bound(tmp_path: Path) -> None:
    path = save(conv(), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="above the limit of 100"):
        prepare(path, limits=Limits(file_bytes=100))
    with pytest.raises(ModelError, match="more than the limit of 400 bytes"):
        prepare(path, limits=Limits(weight_bytes=400))
    with pytest.raises(ModelError, match="2 nodes, above the limit of 1"):
        prepare(network("a = Relu (x)  y = Relu (a)"), limits=Limits(nodes=1))
    with pytest.raises(ModelError, match="more than 1 constants"):
        prepare(
            network("y = Clip (x, a, b)", constants={"a": np.float32(0), "b": np.float32(6)}),
            limits=Limits(constants=1),
        )


def test_nodes_of_branches_count() -> None:
    body = """
        y = If (c) <
            then_branch = t () => (float[1,3,8,8] a) { b = Relu (x)  a = Relu (b) },
            else_branch = e () => (float[1,3,8,8] d) { d = Relu (x) }
        >
    """
    model = network(body, constants={"c": np.array(True)})
    with pytest.raises(ModelError, match=r"has 4 nodes"):
        prepare(model, limits=Limits(nodes=3))


def test_an_unknown_operator_is_named() -> None:
    model = network("a = Relu (x)  y = Frobnicate (a)")
    model.graph.node[1].name = "there"
    with pytest.raises(UnsupportedOperatorError, match=r"'there' has operator Frobnicate.*export the model again"):
        prepare(model)
    model = network("y = some.vendor.Fancy (x)")
    model.opset_import.append(helper.make_opsetid("some.vendor", 1))
    with pytest.raises(UnsupportedOperatorError, match=r"some\.vendor::Fancy"):
        prepare(model)


@pytest.mark.parametrize("version", [0, -1, 999, 2**40])
def test_an_unknown_opset(version: int) -> None:
    model = conv()
    model.opset_import[0].version = version
    with pytest.raises(ModelError, match=rf"opset {version}, but .* knows 1 to"):
        prepare(model)


def _duplicate_initialiser(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _duplicate_output(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[1].output[0]


def _wrong_attribute_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("group", "two"))


def _attribute_twice(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.extend([helper.make_attribute("group", 1)] * 2)


def _missing_operand(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[1:]


def _missing_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def _untyped_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].ClearField("type")


@pytest.mark.parametrize(
    "spoil",
    [_duplicate_initialiser, _duplicate_output, _cycle, _wrong_attribute_type, _attribute_twice,
     _missing_operand, _missing_output, _untyped_input],
)  # fmt: skip
def test_an_invalid_graph(spoil: object) -> None:
    model = network("a = Conv (x, w)  y = Relu (a)", constants=CONV)
    assert callable(spoil)
    spoil(model)
    with pytest.raises(ModelError, match="g is not valid ONNX: ") as raised:
        prepare(model)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rows", [4, 400])
def test_a_tensor_of_the_wrong_size(rows: int) -> None:
    model = network("y = Conv (x, w)", constants={"w": weights(rows, 3, 3, 3)})
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:-4]
    with pytest.raises(ModelError, match=f"tensor 'w' has {rows * 108 - 4:,} bytes .* needs {rows * 108:,}"):
        prepare(model)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dims": [-4, 3, 3, 3]}, "negative dimension"),
        ({"dims": [2**40, 2**40, 3, 3]}, "more than the limit"),
        ({"data_type": 77}, "unknown data type 77"),
        ({"data_type": 0}, "unknown data type 0"),
    ],
)
def test_an_impossible_tensor(change: dict[str, Any], reason: str) -> None:
    model = conv()
    for name, value in change.items():
        model.graph.initializer[0].ClearField(name)
        model.graph.initializer[0].MergeFrom(TensorProto(**{name: value}))
    with pytest.raises(ModelError, match=reason):
        prepare(model)


def test_shapes_of_inputs_and_outputs_may_be_left_open() -> None:
    model = conv()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="unknown on every axis"):
        prepare(model)
    prepared = prepare(model, input_shapes={"x": (1, 3, 8, 8)})
    assert prepared.inputs.batch_is_free
    assert prepared.infos.shape("y") == (2, 4, 6, 6)


class TestExternalData:
    def refuse(self, model: onnx.ModelProto, folder: Path, reason: str) -> None:
        path = save(model, folder / "net.onnx")
        with pytest.raises(ModelError, match=reason):
            prepare(path)

    def test_it_is_read_from_the_models_folder(self, tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(b"head" + CONV["w"].tobytes() + b"tail")
        path = save(with_external("w.bin", offset="4"), tmp_path / "net.onnx")
        prepared = prepare(path, keep_graph=True)
        constant = prepared.graph.constants["w"]
        assert constant.read is not None
        np.testing.assert_array_equal(constant.read(), CONV["w"])

    def test_it_may_lie_in_a_folder_below(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "w.bin").write_bytes(CONV["w"].tobytes())
        prepare(save(with_external("data/w.bin", length="432"), tmp_path / "net.onnx"))

    @pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "data/../../w.bin", "", None])
    def test_it_may_not_lie_outside(self, location: str | None, tmp_path: Path) -> None:
        folder = tmp_path / "models"
        (folder / "data").mkdir(parents=True)
        (tmp_path / "w.bin").write_bytes(CONV["w"].tobytes())
        self.refuse(with_external(location), folder, "points outside the model's folder")

    def test_a_link_may_not_lead_outside(self, tmp_path: Path) -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        (tmp_path / "w.bin").write_bytes(CONV["w"].tobytes())
        (folder / "w.bin").symlink_to(tmp_path / "w.bin")
        (folder / "up").symlink_to(tmp_path)
        self.refuse(with_external("w.bin"), folder, "points outside the model's folder")
        self.refuse(with_external("up/w.bin"), folder, "points outside the model's folder")

    @pytest.mark.parametrize("content", [None, POINTER], ids=["absent", "pointer"])
    def test_of_a_weight_the_shape_is_enough(self, content: bytes | None, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "w.bin").write_bytes(content)
        model = prepare(save(with_external("w.bin"), tmp_path / "net.onnx"))
        assert model.graph.constants["w"].shape == CONV["w"].shape
        assert model.warnings == (
            "external data 'w.bin' is not there: its float tensors, 1 of them, are judged by their shapes",
        )
        assert model.data_files == ()
        (tmp_path / "w.bin").write_bytes(CONV["w"].tobytes())
        assert prepare(tmp_path / "net.onnx").data_files == ("w.bin",)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (None, "'target' does not exist; keep the data file beside the model"),
            (POINTER, rf"'target' is a Git LFS pointer and not the data itself; {WHAT_TO_DO}"),
        ],
        ids=["absent", "pointer"],
    )
    def test_what_a_shape_is_computed_from_must_be_there(
        self, content: bytes | None, reason: str, tmp_path: Path
    ) -> None:
        if content is not None:
            (tmp_path / "s.bin").write_bytes(content)
        model = network("y = Reshape (x, target)", constants={"target": np.array([2, -1])})
        (tensor,) = model.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="s.bin")
        self.refuse(model, tmp_path, reason)

    @pytest.mark.parametrize("location", [".", "nul\0"])
    def test_it_must_be_a_file(self, location: str, tmp_path: Path) -> None:
        self.refuse(with_external(location), tmp_path, "is no file|cannot be found")

    @pytest.mark.parametrize(
        ("entries", "reason"),
        [
            ({"offset": "100"}, "is truncated: 432 bytes at offset 100 are needed"),
            ({"length": "400"}, "is truncated"),
            ({"offset": "99999999999999999"}, "is truncated"),
            ({"offset": "-4"}, "no size"),
            ({"offset": "four"}, "no size"),
            ({"offset": "٤"}, "no size"),
            ({"length": "9" * 5000}, "no size"),
        ],
    )
    def test_its_place_must_fit(self, entries: dict[str, str], reason: str, tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(CONV["w"].tobytes())
        self.refuse(with_external("w.bin", **entries), tmp_path, reason)

    def test_a_model_in_memory_has_no_folder(self) -> None:
        with pytest.raises(ModelError, match="give the model's path instead"):
            prepare(with_external("w.bin"))

    def test_attributes_and_sparse_tensors_are_looked_at_too(self, tmp_path: Path) -> None:
        tensor = numpy_helper.from_array(np.array([1.0], np.float32), "v")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../v.bin")
        model = network("a = Constant <value_float = 1.0> ()  y = Add (x, a)")
        del model.graph.node[0].attribute[:]
        model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))
        self.refuse(model, tmp_path, "points outside the model's folder")
        model = network("y = Add (x, v)")
        indices = numpy_helper.from_array(np.array([0]), "i")
        model.graph.sparse_initializer.add(values=tensor, indices=indices, dims=[8])
        self.refuse(model, tmp_path, "points outside the model's folder")

    def test_a_file_that_shrinks_later_is_an_error_not_garbage(self, tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(CONV["w"].tobytes())
        prepared = prepare(save(with_external("w.bin"), tmp_path / "net.onnx"), keep_graph=True)
        (tmp_path / "w.bin").write_bytes(b"short")
        read = prepared.graph.constants["w"].read
        assert read is not None
        with pytest.raises(ModelError, match="is truncated"):
            read()

    def test_four_bit_weights_take_half_a_byte(self, tmp_path: Path) -> None:
        model = network(
            "wf = DequantizeLinear (w, scale)  y = Conv (x, wf)", constants={"scale": np.float32(0.1)}, opset=21
        )
        (tmp_path / "w.bin").write_bytes(bytes(range(54)))
        tensor = model.graph.initializer.add(name="w", data_type=TensorProto.INT4, dims=[4, 3, 3, 3])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        assert prepare(save(model, tmp_path / "net.onnx")).infos.shape("y") == (1, 4, 6, 6)


def test_messages_print_on_one_line_and_name_the_model() -> None:
    model = network("y = Relu (x)")
    model.graph.node[0].op_type = "Bad\n\x1b[31m\0" + "R" * 5000
    with pytest.raises(UnsupportedOperatorError) as raised:
        prepare(model)
    text = str(raised.value)
    assert text.startswith("g: ")
    assert text.isprintable()
    assert len(text) <= 1000


@pytest.mark.parametrize("opset", [12, 16, 18])
@pytest.mark.parametrize(
    ("operator", "standard"),
    [("LayerNormalization", "LayerNormalization"), ("SimplifiedLayerNormalization", "RMSNormalization")],
)
def test_normalisation_that_onnx_runtime_fused_in_the_standard_domain(operator: str, standard: str, opset: int) -> None:
    body = f"a = {operator} <axis = -1> (x, w)  y = Relu (a)"
    model = network(body, {"x": (1, 3, 8)}, {"w": weights(8)}, opset=opset)
    before = model.SerializeToString()
    prepared = prepare(model)
    assert [node.op_type for node in prepared.graph.nodes] == [standard, "Relu"]
    assert model.SerializeToString() == before


def test_an_unknown_operator_is_named_beside_one_of_onnx_runtime() -> None:
    body = "a = LayerNormalization <axis = -1> (x, w)  y = Fancy (a)"
    with pytest.raises(UnsupportedOperatorError, match=r"operator Fancy, which ONNX does not have in opset 13; "):
        prepare(network(body, constants={"w": weights(8)}, opset=13))
