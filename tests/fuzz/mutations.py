"""Mutations of model files, from single bits to whole structures. Everything follows from the generator given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.seeds import SEEDS

__all__ = ["mutant"]

_Rng: TypeAlias = np.random.Generator
_ByteMutation: TypeAlias = Callable[[bytes, _Rng], bytes]
_ModelMutation: TypeAlias = Callable[[onnx.ModelProto, _Rng], None]

# Sizes and values that break things: signs, overflows, products that do not fit anywhere.
_ABSURD = (0, -1, -2, 1, 2, 3, 7, 13, 255, 65536, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
_OPERATORS = (
    "Add Mul MatMul Conv ConvTranspose Gemm Reshape Expand Tile Concat Split Slice Pad Resize Gather GatherND "
    "ScatterND ConstantOfShape Range OneHot Transpose Squeeze Unsqueeze Flatten Softmax LayerNormalization "
    "BatchNormalization InstanceNormalization MaxPool AveragePool GlobalAveragePool ReduceMean ReduceSum ArgMax TopK "
    "CumSum NonZero Where Cast LSTM GRU Einsum If Loop Scan Identity Dropout Shape Size Upsample DepthToSpace "
    "SpaceToDepth GridSample RoiAlign Trilu SequenceConstruct SequenceAt Optional QuantizeLinear DequantizeLinear "
    "QLinearConv ConvInteger NonMaxSuppression Compress Unique StringNormalizer RandomNormal Bernoulli EyeLike Det "
    "Hardmax LRN PRelu Pow Mod Xor Attention RotaryEmbedding Nonsense "
).split()


def mutant(seed: int) -> tuple[str, bytes]:
    """Return what was done, and the file that came of it."""
    rng = np.random.default_rng([2024, seed])
    name = _pick(sorted(SEEDS), rng)
    content = SEEDS[name]
    done = [name]
    for _ in range(int(rng.integers(1, 3))):
        if rng.random() < 0.12:  # most files do not survive one of these, and the others should get far
            change = _pick(_BYTE_MUTATIONS, rng)
            content = change(content, rng)
        else:
            change = _pick(_MODEL_MUTATIONS, rng)
            content = _through_model(content, change, rng)
        done.append(change.__name__)
    return " + ".join(done), content


def _pick(choices: Sequence[object], rng: _Rng):
    return choices[int(rng.integers(len(choices)))]


def _through_model(content: bytes, change: _ModelMutation, rng: _Rng) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
        change(model, rng)
        return model.SerializeToString(deterministic=True)
    except (DecodeError, IndexError, TypeError, ValueError):  # an earlier mutation left nothing to change here
        return content


# Bytes


def flip_bits(content: bytes, rng: _Rng) -> bytes:
    changed = bytearray(content)
    for position in rng.integers(0, max(1, len(changed)), int(rng.integers(1, 9))):
        if changed:
            changed[int(position)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite_bytes(content: bytes, rng: _Rng) -> bytes:
    changed = bytearray(content)
    if changed:
        start = int(rng.integers(len(changed)))
        length = int(rng.integers(1, 17))
        changed[start : start + length] = rng.integers(0, 256, length).astype(np.uint8).tobytes()
    return bytes(changed)


def truncate(content: bytes, rng: _Rng) -> bytes:
    return content[: int(rng.integers(0, len(content) + 1))]


def drop_bytes(content: bytes, rng: _Rng) -> bytes:
    start = int(rng.integers(0, len(content) + 1))
    return content[:start] + content[start + int(rng.integers(1, 65)) :]


def repeat_bytes(content: bytes, rng: _Rng) -> bytes:
    start = int(rng.integers(0, len(content) + 1))
    piece = content[start : start + int(rng.integers(1, 257))]
    return content[:start] + piece * int(rng.integers(1, 5)) + content[start:]


def append_noise(content: bytes, rng: _Rng) -> bytes:
    return content + rng.integers(0, 256, int(rng.integers(1, 65))).astype(np.uint8).tobytes()


def splice(content: bytes, rng: _Rng) -> bytes:
    other = SEEDS[_pick(sorted(SEEDS), rng)]
    return content[: int(rng.integers(0, len(content) + 1))] + other[int(rng.integers(0, len(other))) :]


_BYTE_MUTATIONS: Sequence[_ByteMutation] = (
    flip_bits,
    overwrite_bytes,
    truncate,
    drop_bytes,
    repeat_bytes,
    append_noise,
    splice,
)

# Structure


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return all nodes, those of bodies and functions included."""
    found: list[onnx.NodeProto] = []
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting and len(found) < 1000:
        node = waiting.pop()
        found.append(node)
        for attribute in node.attribute:
            waiting.extend(attribute.g.node)
    return found


def _some_node(model: onnx.ModelProto, rng: _Rng) -> onnx.NodeProto:
    node: onnx.NodeProto = _pick(_nodes(model), rng)
    return node


def _names(model: onnx.ModelProto) -> list[str]:
    names = [name for node in _nodes(model) for name in (*node.input, *node.output)]
    return [
        *names,
        *(value.name for value in model.graph.input),
        *(t.name for t in model.graph.initializer),
        "",
        "nowhere",
    ]


def shuffle_nodes(model: onnx.ModelProto, rng: _Rng) -> None:
    nodes = [model.graph.node[int(i)] for i in rng.permutation(len(model.graph.node))]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def drop_node(model: onnx.ModelProto, rng: _Rng) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def repeat_node(model: onnx.ModelProto, rng: _Rng) -> None:
    model.graph.node.append(_pick(model.graph.node, rng))


def repeat_chain(model: onnx.ModelProto, rng: _Rng) -> None:
    """Feed a node its own output, many times over: sizes that double and double."""
    node: onnx.NodeProto = _pick(model.graph.node, rng)
    output = node.output[0]
    for index in range(int(rng.integers(2, 70))):
        copy = model.graph.node.add()
        copy.CopyFrom(node)
        copy.name = f"again{index}"
        copy.input[:] = [output if name == node.input[0] else name for name in node.input]
        output = f"{node.output[0]}_again{index}"
        copy.output[0] = output
        for other in range(1, len(copy.output)):
            copy.output[other] = f"{output}_{other}"
    model.graph.output[0].name = output


def rewire_input(model: onnx.ModelProto, rng: _Rng) -> None:
    """Let a node read another tensor; one that exists before it, as a rule."""
    if rng.random() < 0.2:
        node = _some_node(model, rng)
        node.input[int(rng.integers(len(node.input)))] = _pick(_names(model), rng)
        return
    position = int(rng.integers(len(model.graph.node)))
    node = model.graph.node[position]
    before = [name for earlier in model.graph.node[:position] for name in earlier.output]
    before += [value.name for value in (*model.graph.input, *model.graph.initializer)]
    node.input[int(rng.integers(len(node.input)))] = _pick(before, rng)


def rename_output(model: onnx.ModelProto, rng: _Rng) -> None:
    node = _some_node(model, rng)
    node.output[int(rng.integers(len(node.output)))] = _pick(_names(model), rng)


def add_or_drop_operand(model: onnx.ModelProto, rng: _Rng) -> None:
    node = _some_node(model, rng)
    if rng.random() < 0.5:
        node.input.append(_pick(_names(model), rng))
    else:
        del node.input[int(rng.integers(len(node.input))) :]


def change_operator(model: onnx.ModelProto, rng: _Rng) -> None:
    node = _some_node(model, rng)
    node.op_type = _pick(_OPERATORS, rng)
    if rng.random() < 0.5:
        del node.attribute[:]
    if rng.random() < 0.1:
        node.domain = _pick(("com.microsoft", "ai.onnx.ml", "f", "nowhere"), rng)


def change_attribute(model: onnx.ModelProto, rng: _Rng) -> None:
    attributes = [attribute for node in _nodes(model) for attribute in node.attribute]
    attribute: onnx.AttributeProto = _pick(attributes, rng)
    value = int(_pick(_ABSURD, rng))
    kind = onnx.AttributeProto
    if attribute.type == kind.INT:
        attribute.i = value
    elif attribute.type == kind.INTS and attribute.ints:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = value
    elif attribute.type == kind.INTS:
        attribute.ints.append(value)
    elif attribute.type == kind.FLOAT:
        attribute.f = float(_pick((0.0, -1.0, float("nan"), float("inf"), 1e38), rng))
    elif attribute.type == kind.TENSOR:
        _change_tensor(attribute.t, rng)
    else:
        attribute.type = int(rng.integers(0, 15))  # type: ignore[assignment]


def drop_or_add_attribute(model: onnx.ModelProto, rng: _Rng) -> None:
    node = _some_node(model, rng)
    if node.attribute and rng.random() < 0.5:
        del node.attribute[int(rng.integers(len(node.attribute)))]
        return
    name = _pick(
        ("axis", "axes", "perm", "group", "strides", "pads", "kernel_shape", "to", "mode", "keepdims", "body"), rng
    )
    value = _pick((0, [1, 2], "text", 1.5, numpy_helper.from_array(np.array([1, 2], np.float32)), -9, [2**40] * 4), rng)
    node.attribute.append(helper.make_attribute(name, value))


def _change_tensor(tensor: TensorProto, rng: _Rng) -> None:
    roll = rng.random()
    if roll < 0.35 and tensor.data_type == TensorProto.INT64:
        values = numpy_helper.to_array(tensor).copy().reshape(-1)
        if values.size:
            values[int(rng.integers(values.size))] = _pick(_ABSURD, rng)
        tensor.CopyFrom(numpy_helper.from_array(values.reshape(tuple(tensor.dims)), tensor.name))
    elif roll < 0.5 and tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = int(_pick(_ABSURD, rng))
    elif roll < 0.6:
        tensor.data_type = int(rng.integers(0, 30))
    elif roll < 0.7:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=_pick(("../x", "/etc/passwd", "w.bin", "", "a\0b"), rng))
    else:
        shape = [int(size) for size in rng.integers(0, 6, int(rng.integers(0, 5)))]
        kind = _pick((np.float32, np.int64, np.bool_, np.float16, np.int8), rng)
        tensor.CopyFrom(numpy_helper.from_array(np.zeros(shape, dtype=kind), tensor.name))


def change_initialiser(model: onnx.ModelProto, rng: _Rng) -> None:
    _change_tensor(_pick(model.graph.initializer, rng), rng)


def drop_or_repeat_initialiser(model: onnx.ModelProto, rng: _Rng) -> None:
    index = int(rng.integers(len(model.graph.initializer)))
    if rng.random() < 0.5:
        del model.graph.initializer[index]
    else:
        model.graph.initializer.append(model.graph.initializer[index])


def change_input(model: onnx.ModelProto, rng: _Rng) -> None:
    tensor = _pick(model.graph.input, rng).type.tensor_type
    roll = rng.random()
    if roll < 0.5 and tensor.shape.dim:
        tensor.shape.dim[int(rng.integers(len(tensor.shape.dim)))].dim_value = int(_pick(_ABSURD, rng))
    elif roll < 0.65 and tensor.shape.dim:
        tensor.shape.dim[int(rng.integers(len(tensor.shape.dim)))].dim_param = "q"
    elif roll < 0.8:
        tensor.elem_type = int(rng.integers(0, 30))
    elif roll < 0.9:
        tensor.shape.dim.add(dim_value=int(_pick(_ABSURD, rng)))
    else:
        tensor.ClearField("shape")


def change_opset(model: onnx.ModelProto, rng: _Rng) -> None:
    model.opset_import[0].version = int(
        _pick((1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 17, 19, 21, 23, 25, *_ABSURD), rng)
    )


def change_metadata(model: onnx.ModelProto, rng: _Rng) -> None:
    text = _pick(
        ('["b"', "[1, 2]", '["nowhere"]', "{}", "[" * 5000, "NaN", '["b", "b"]', "9" * 5000, '["x"]', '[""]'), rng
    )
    del model.metadata_props[:]
    model.metadata_props.add(key="aznas.blocks", value=text)


def nest(model: onnx.ModelProto, rng: _Rng) -> None:
    """Wrap the nodes in branches of branches."""
    condition = numpy_helper.from_array(np.array(bool(rng.integers(2))), "nest_condition")
    model.graph.initializer.append(condition)
    output = onnx.ValueInfoProto.FromString(model.graph.output[0].SerializeToString())
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    for _ in range(int(_pick((1, 2, 3, 5, 45), rng))):
        branch = onnx.GraphProto(name="nested", node=nodes, output=[output])
        nodes = [helper.make_node("If", ["nest_condition"], [output.name], then_branch=branch, else_branch=branch)]
        if sum(node.ByteSize() for node in nodes) > 2**22:
            break
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.output[1:]


def call_functions(model: onnx.ModelProto, rng: _Rng) -> None:
    """Add functions that call each other twice, and perhaps themselves."""
    depth = int(rng.integers(1, 40))
    opsets = [helper.make_opsetid("", model.opset_import[0].version), helper.make_opsetid("bomb", 1)]
    for index in range(depth):
        inner = f"F{index - 1}" if index else ("F0" if rng.random() < 0.2 else "")
        first = (
            helper.make_node(inner, ["a"], ["t"], domain="bomb") if inner else helper.make_node("Relu", ["a"], ["t"])
        )
        second = (
            helper.make_node(inner, ["t"], ["b"], domain="bomb") if inner else helper.make_node("Neg", ["t"], ["b"])
        )
        model.functions.append(helper.make_function("bomb", f"F{index}", ["a"], ["b"], [first, second], opsets))
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    model.graph.node.append(helper.make_node(f"F{depth - 1}", [model.graph.output[0].name], ["bombed"], domain="bomb"))
    model.graph.output[0].name = "bombed"


def loop_around(model: onnx.ModelProto, rng: _Rng) -> None:
    """Run the whole graph in a loop, too often."""
    trips = int(_pick((0, 1, 2, 50, 10**5, 10**12, -1), rng))
    source, target = model.graph.input[0], model.graph.output[0]
    body = onnx.GraphProto(name="body")
    body.node.add(op_type="Identity", input=["loop_in"], output=["loop_out"])
    body.node.extend(model.graph.node)
    body.input.append(helper.make_tensor_value_info("loop_i", TensorProto.INT64, []))
    body.input.append(helper.make_tensor_value_info("loop_in", TensorProto.BOOL, []))
    body.input.append(helper.make_tensor_value_info(source.name, TensorProto.FLOAT, None))
    body.output.append(helper.make_tensor_value_info("loop_out", TensorProto.BOOL, []))
    body.output.append(helper.make_tensor_value_info(target.name, TensorProto.FLOAT, None))
    model.graph.initializer.append(numpy_helper.from_array(np.array(trips), "trips"))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Loop", ["trips", "", "outer"], ["looped"], body=body))
    source.name, target.name = "outer", "looped"
    del model.graph.output[1:]


def spoil_names(model: onnx.ModelProto, rng: _Rng) -> None:
    name = _pick(("", "\n\x1b[31m", "n" * 100_000, "\u202e", "'; --", "same"), rng)
    for node in _nodes(model):
        node.name = name
    if rng.random() < 0.5:
        _some_node(model, rng).op_type = name or "?"


_MODEL_MUTATIONS: Sequence[_ModelMutation] = (
    shuffle_nodes,
    drop_node,
    repeat_node,
    repeat_chain,
    rewire_input,
    rewire_input,
    rewire_input,
    rename_output,
    add_or_drop_operand,
    change_operator,
    change_operator,
    change_attribute,
    change_attribute,
    change_attribute,
    drop_or_add_attribute,
    change_initialiser,
    change_initialiser,
    change_initialiser,
    drop_or_repeat_initialiser,
    change_input,
    change_input,
    change_opset,
    change_metadata,
    nest,
    call_functions,
    loop_around,
    spoil_names,
)
