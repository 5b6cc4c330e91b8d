"""Load and check a ModelProto, without reading files outside the model's folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import onnx
from google.protobuf.message import DecodeError

from aznas_onnx.caches import cached
from aznas_onnx.errors import ModelError
from aznas_onnx.graph.files.cut import cut
from aznas_onnx.graph.files.interface import Interface, declared_interface
from aznas_onnx.graph.files.without_data import Outline, keep_in_file, outline_of
from aznas_onnx.graph.ir.git_lfs import FETCH_IT, pointed_object
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.node_cache import CachedNode, decode_nodes
from aznas_onnx.graph.ir.stored_data import OpenFile, StoredData
from aznas_onnx.graph.ir.tensors import (
    MOST_AXES,
    check_tensor,
    function_tensors,
    is_external,
    is_missing,
    location_of,
    node_tensors,
    own_tensors,
    size_bytes,
)
from aznas_onnx.graph.ir.toposort import subgraphs, toposort
from aznas_onnx.graph.ir.utf8 import check_text
from aznas_onnx.limits import Limits
from aznas_onnx.zoo import file_of

__all__ = ["Document", "Source", "external_files", "load", "source_name", "subgraphs"]

_OPERANDS = 16  # limit on names per node, on average; plain nodes are small
_OUTLINE_BYTES = 1024  # tensors up to this size are shown to the checker
_WORTH_A_WALK_BYTES = 2**20  # of a file; a smaller one is read as fast

Document: TypeAlias = "str | os.PathLike[str] | onnx.ModelProto"
"""A file, the name of a network of timm or torchvision, or a model in memory."""

Source: TypeAlias = "Document | Graph"
"""A file, a model in memory, or the typed graph of a network that a :class:`GraphBuilder` built."""


def source_name(source: Source | Loaded) -> str:
    """Return how messages call `source`: the path as given, or the graph's name."""
    if isinstance(source, (Graph, Loaded)):
        return source.name
    if isinstance(source, onnx.ModelProto):
        return source.graph.name or "model"
    return os.fspath(source)


class Loaded(NamedTuple):
    """A checked model.

    - `model`: With external data on disk, and its nodes in topological order.
    - `folder`: The folder of external data; None for a model in memory.
    - `nodes`: Its decoded nodes, where they are plain.
    - `name`: How messages call it.
    - `stored`: Data of initialisers that is in the file and not in `model`, by their names.
    - `warnings`: Warnings for the user.
    - `data_files`: Files in `folder` that hold external data, as the model names them.
    - `interface`: What the whole file takes and returns, also where `model` ends earlier.
    """

    model: onnx.ModelProto
    folder: Path | None
    nodes: Sequence[CachedNode | None]
    name: str
    stored: Mapping[str, StoredData]
    warnings: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()
    interface: Interface = Interface()


def load(source: Document, limits: Limits, *, cut_at: Sequence[str] = (), leaves_data: bool = False) -> Loaded:
    """Read and check a model.

    - `source`: Path of an ONNX file, the name of a network (:mod:`aznas_onnx.zoo`), or a model in memory.
    - `limits`: Limits on the file.
    - `cut_at`: Tensors or nodes that end the model, instead of its outputs. Later nodes are not checked.
    - `leaves_data`: Whether the data of large initialisers may stay in the file.

    Raises ModelError if the file cannot be read, is not an ONNX model, is not valid ONNX, or exceeds the limits.
    Raises SettingsError if it has none of the names of `cut_at`.
    """
    name = source_name(source)
    stored: Mapping[str, StoredData] = {}
    if isinstance(source, onnx.ModelProto):
        model, folder = source, None
    else:
        path = file_of(source)
        content = _read(path, limits, leaves_data=leaves_data)
        model, folder = _parse(content.content if isinstance(content, Outline) else content, name), path.parent
        if isinstance(content, Outline):
            stored = keep_in_file(model, content)
    interface = declared_interface(model)
    unknown: tuple[str, ...] = ()
    if cut_at:
        model, unknown = cut(model, cut_at)
    nodes = decode_nodes(model.graph.node)
    _check_outline(model, nodes, name, limits)
    check_text(model, _not_plain(model, nodes))
    data_files, missing = _check_tensors(model, nodes, name, folder, limits, stored)
    ordered = toposort(model, nodes)
    if ordered is not model:
        nodes = decode_nodes(ordered.graph.node)
    _check(ordered, nodes, name, stored)
    warnings = missing + tuple(f"--cut-at names {entry!r}, which this network does not have" for entry in unknown)
    return Loaded(ordered, folder, nodes, name, stored, warnings, data_files, interface)


def external_files(path: Path, name: str) -> tuple[str, ...]:
    """Return the files that hold the external data of a model, as it names them, without looking for them.

    Raises ModelError if the file is no ONNX model; the message calls it `name`.
    """
    model = _parse(path.read_bytes(), name)
    tensors = (tensor for node in model.graph.node for tensor in node_tensors(node))
    found = (*own_tensors(model.graph), *tensors, *function_tensors(model))
    return tuple(dict.fromkeys(location_of(tensor) for tensor in found if is_external(tensor)))


def _read(path: Path, limits: Limits, *, leaves_data: bool) -> bytes | Outline:
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a directory; give the .onnx file itself")
        size_bytes = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path} is not a regular file; give an .onnx file")
        if size_bytes > limits.file_bytes:
            raise ModelError(
                f"{path} is {size_bytes:,} bytes, above the limit of {limits.file_bytes:,}; "
                "store its weights as external data or raise the limit"
            )
        outline = None
        if leaves_data and size_bytes >= _WORTH_A_WALK_BYTES and hasattr(os, "pread"):
            outline = outline_of(OpenFile(path))
        return path.read_bytes() if outline is None else outline
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{str(path)!r} is no path: {error}") from error  # it has a null character


def _parse(content: bytes, name: str) -> onnx.ModelProto:
    if not content:
        raise ModelError(f"{name} is empty; an ONNX model was expected")
    if pointed_object(content) is not None:
        raise ModelError(f"{name} is a Git LFS pointer and not the model itself; {FETCH_IT}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(
            f"{name} is not an ONNX file, or is truncated (it does not parse as a protobuf model)"
        ) from error
    return model


def _check_outline(model: onnx.ModelProto, plain: Sequence[CachedNode | None], name: str, limits: Limits) -> None:
    if not model.HasField("graph") or not model.opset_import:
        raise ModelError(f"{name} is not an ONNX model: it has no graph or names no operator set")
    if not model.graph.node:
        raise ModelError(f"{name} has an empty graph: there is no node to score")
    if not model.graph.output:
        raise ModelError(f"{name} has no output: there is nothing to score")
    nodes = len(plain) + sum(_count_inside(node) for node in _not_plain(model, plain))
    if nodes > limits.nodes:
        raise ModelError(f"{name} has {nodes:,} nodes, above the limit of {limits.nodes:,}")
    operands = sum(len(node.input) + len(node.output) for node in _not_plain(model, plain))
    if operands > _OPERANDS * limits.nodes:
        raise ModelError(
            f"{name}: its nodes name {operands:,} tensors, above the limit of {_OPERANDS * limits.nodes:,}"
        )
    for value in (*model.graph.input, *model.graph.output):
        axes = len(value.type.tensor_type.shape.dim)
        if axes > MOST_AXES:
            raise ModelError(
                f"{name}: input or output {value.name!r} has {axes:,} axes, "
                f"but at most {MOST_AXES} can be computed with"
            )
    if len(model.graph.input) > limits.inputs:  # old files list their initialisers there, too
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = sum(value.name not in constants for value in model.graph.input)
        if inputs > limits.inputs:
            raise ModelError(f"{name} has {inputs:,} inputs, above the limit of {limits.inputs:,}")
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= newest:
            raise ModelError(
                f"{name} is written for opset {entry.version}, but the installed onnx package knows 1 to {newest}; "
                "upgrade it, or export the model with one of those"
            )


def _not_plain(model: onnx.ModelProto, plain: Sequence[CachedNode | None]) -> list[onnx.NodeProto]:
    """Return the nodes that can have graphs inside."""
    return [node for node, known in zip(model.graph.node, plain, strict=True) if known is None]


def _count_inside(node: onnx.NodeProto) -> int:
    """Return the number of nodes in branches and loop bodies."""
    return sum(1 + _count_inside(inner) for graph in subgraphs(node) for inner in graph.node)


def _check_tensors(
    model: onnx.ModelProto,
    plain: Sequence[CachedNode | None],
    name: str,
    folder: Path | None,
    limits: Limits,
    stored: Mapping[str, StoredData],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check the size and place of every tensor's data.

    Returns: The files outside the model's own that hold some, and a warning for each that is not there.
    """
    data_files: dict[str, None] = {}
    missing: Counter[str] = Counter()
    total_bytes = 0
    initialisers = len(model.graph.initializer)
    for count, tensor in enumerate(_tensors(model, plain)):
        if count >= limits.constants:
            raise ModelError(f"{name} has more than {limits.constants:,} constants, which is the limit")
        total_bytes += tensor if isinstance(tensor, int) else size_bytes(tensor)
        if total_bytes > limits.weight_bytes:
            raise ModelError(f"{name}: its constants take more than the limit of {limits.weight_bytes:,} bytes")
        if isinstance(tensor, int):
            continue
        if is_missing(tensor, folder):
            missing[location_of(tensor)] += 1
            continue
        check_tensor(tensor, folder, stored.get(tensor.name) if count < initialisers else None)
        if is_external(tensor):
            data_files[location_of(tensor)] = None
    return tuple(data_files), tuple(
        f"external data {location!r} is not there: its float tensors, {number:,} of them, are judged by their shapes"
        for location, number in missing.items()
    )


def _tensors(model: onnx.ModelProto, plain: Sequence[CachedNode | None]) -> Iterator[onnx.TensorProto | int]:
    """Yield every tensor of a model; of those that have been checked, in plain nodes, the bytes that they take."""
    yield from own_tensors(model.graph)
    for node, known in zip(model.graph.node, plain, strict=True):
        yield from node_tensors(node) if known is None else known.tensor_bytes
    yield from function_tensors(model)


def _check(
    model: onnx.ModelProto, plain: Sequence[CachedNode | None], name: str, stored: Mapping[str, StoredData]
) -> None:
    """Run the ONNX checker; its objection becomes one sentence."""
    outline = _outline(model, plain, stored)
    try:
        onnx.checker.check_model(outline)
    except onnx.checker.ValidationError as error:
        raise _checker_error(str(error), name) from error
    except (ValueError, UnicodeDecodeError, RuntimeError) as error:
        raise ModelError(f"{name} is not valid ONNX: {_first_sentence(str(error))}") from error


def _outline(
    model: onnx.ModelProto, plain: Sequence[CachedNode | None], stored: Mapping[str, StoredData]
) -> onnx.ModelProto:
    """Copy a model with its large and its external tensors as inputs.

    The checker serialises the model, and with weights that takes most of the time of reading it. Of a tensor it only
    checks the size of the data, which :func:`check_tensor` has done.
    """
    outline = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    for field, value in model.ListFields():
        if field.name in ("opset_import", "functions"):
            getattr(outline, field.name).extend(value)
    graph = outline.graph
    graph.name = "graph"  # the checker requires a name
    for field, value in model.graph.ListFields():
        if field.name in ("node", "input", "output", "sparse_initializer"):
            getattr(graph, field.name).extend(value)
    _name_graphs(node for node, known in zip(graph.node, plain, strict=True) if known is None)
    version = _standard_version(model.opset_import)
    if model.functions or any(node is None or _is_foreign(node, version) for node in plain):
        _name_foreign(outline)
    _complete_types(graph)
    inputs = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if not is_external(tensor) and tensor.name not in stored and len(tensor.raw_data) <= _OUTLINE_BYTES:
            graph.initializer.append(tensor)
            continue
        if tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return outline


def _complete_types(graph: onnx.GraphProto) -> None:
    """Fill in optional parts that the checker requires: shapes, and the types of outputs."""
    for value in graph.output:
        if not value.HasField("type"):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()


def _name_graphs(nodes: Iterable[onnx.NodeProto]) -> None:
    """Name branches and bodies that have no name; the checker requires one."""
    for node in nodes:
        for graph in subgraphs(node):
            graph.name = graph.name or "graph"
            _name_graphs(graph.node)


def _name_foreign(outline: onnx.ModelProto) -> None:
    """Move unknown operators of the standard domain to another domain, where the checker accepts them.

    ONNX Runtime's fusions write operators of later opsets, and it accepts them in files of any opset; tf2onnx leaves
    unknown TensorFlow operators. Shape inference accepts or rejects them.
    """
    scopes = [(outline.opset_import, outline.graph.node)]
    scopes.extend((function.opset_import, function.node) for function in outline.functions)
    for imports, nodes in scopes:
        version = _standard_version(imports)
        if _rename(nodes, version) and not any(entry.domain == "com.microsoft" for entry in imports):
            imports.add(domain="com.microsoft", version=1)


def _standard_version(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    return next((entry.version for entry in imports if entry.domain in ("", "ai.onnx")), 1)


def _is_foreign(node: onnx.NodeProto | CachedNode, version: int) -> bool:
    return node.domain in ("", "ai.onnx") and not _has(node.op_type, version)


@cached(4096, "needed for every node")
def _has(op_type: str, version: int) -> bool:
    return onnx.defs.has(op_type, version, "")


def _rename(nodes: Iterable[onnx.NodeProto], version: int) -> bool:
    found = False
    for node in nodes:
        if _is_foreign(node, version):
            node.domain = "com.microsoft"
            found = True
        for graph in subgraphs(node):
            found = _rename(graph.node, version) or found
    return found


def _checker_error(text: str, name: str) -> ModelError:
    if "topologically sorted" in text:
        read = re.search(r"input '(.*?)' of node", text)
        through = f" through {read.group(1)!r}" if read else ""
        return ModelError(f"{name} is not valid ONNX: its nodes form a cycle{through}, or read what nothing makes")
    return ModelError(f"{name} is not valid ONNX: {_first_sentence(text)}")


def _first_sentence(text: str) -> str:
    """Shorten a checker message to its first line; the rest is a dump of the node."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "the checker gives no reason")
    return line if len(line) <= 300 else line[:297] + "..."
