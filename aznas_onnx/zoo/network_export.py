"""Build networks with random weights and export them: the process that `cached_export` starts.

    python -m aznas_onnx.zoo.network_export FOLDER NAME...

It writes one JSON object a line: `{"unknown": REASON}`, and nothing else, where a library has no such network; else for
each name `{"begins": NAME}`, and then `{"name", "file", "sized"}` or `{"name", "refused"}`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import onnx
import torch

from aznas_onnx.child_processes import end_with_parent
from aznas_onnx.errors import AznasError, ModelError, SettingsError, UnknownNameError, first_line
from aznas_onnx.runtime import unoptimised_session
from aznas_onnx.zoo.names import LIBRARIES, ZooName

__all__ = ["block_network", "build", "check_known", "export", "own_size"]

_SEED = 0
_MOST_BYTES = 2**31 - 2**24  # of weights: protobuf's limit, less the graph
_USUAL_SIZE = (224, 224)
_SIZE_OPTIONS = {"vit": "image_size", "maxvit": "input_size"}  # of torchvision, by the first word of a name
_WITHOUT_AUXILIARY: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False},
    "inception_v3": {"aux_logits": False, "transform_input": False},
}
_CONNECTING = frozenset(("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"))


def block_network() -> None:
    """Refuse every connection of this process from now on."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in _CONNECTING:
            raise PermissionError("networks are built without access to the internet")

    sys.addaudithook(refuse)


def check_known(name: ZooName) -> None:
    """Raise UnknownNameError, with the nearest names, if the library has no such network."""
    library, network = name.library, name.network
    if network.partition(".")[0] in _networks(library) or _is_deprecated(name):
        return
    elsewhere = [f"{other}:{network}" for other in LIBRARIES if other != library and network in _networks(other)]
    near = (f"{library}:{one}" for one in difflib.get_close_matches(network, _networks(library), n=3))
    similar = (*elsewhere, *near)
    hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
    raise UnknownNameError(f"{library}:{network} is no network of {library}{hint}")


def _networks(library: str) -> Sequence[str]:
    """Return the names of a library's image classifiers; of one that is not installed, none."""
    if importlib.util.find_spec(library) is None:
        return ()
    if library == "timm":
        found: list[str] = importlib.import_module("timm").list_models()
        return found
    models = importlib.import_module("torchvision.models")
    classifiers: list[str] = models.list_models(module=models)
    return classifiers


def _is_deprecated(name: ZooName) -> bool:
    """Whether timm still builds a network of this name, under another."""
    return name.library == "timm" and bool(importlib.import_module("timm").is_model(name.network))


def own_size(name: ZooName) -> tuple[int, int]:
    """Return height and width of the images that the library trained a network on."""
    if name.library == "timm":
        config = importlib.import_module("timm").get_pretrained_cfg(name.network)
        return _USUAL_SIZE if config is None else (config.input_size[1], config.input_size[2])
    weights = {one.name: one for one in importlib.import_module("torchvision.models").get_model_weights(name.network)}
    plain = weights.get("IMAGENET1K_V1")
    size = _USUAL_SIZE[0] if plain is None else int(plain.transforms.keywords["crop_size"])
    return size, size


def build(name: ZooName) -> torch.nn.Module:
    """Build a network for a size, with random weights of a fixed seed; nothing is downloaded.

    Raises what the library does if it has no such tag, or no such network of that size.
    """
    torch.manual_seed(_SEED)
    size = name.size or own_size(name)
    build_it = _of_timm if name.library == "timm" else _of_torchvision
    return build_it(name.network, size).eval()


def _of_timm(network: str, size: tuple[int, int]) -> torch.nn.Module:
    timm = importlib.import_module("timm")
    made: torch.nn.Module
    try:
        made = timm.create_model(network, pretrained=False, exportable=True, img_size=_plain(size))
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        torch.manual_seed(_SEED)  # the attempt may have drawn weights
        made = timm.create_model(network, pretrained=False, exportable=True)
    return made


def _plain(size: tuple[int, int]) -> int | tuple[int, int]:
    return size[0] if size[0] == size[1] else size


def _of_torchvision(network: str, size: tuple[int, int]) -> torch.nn.Module:
    options: dict[str, Any] = {**_WITHOUT_AUXILIARY.get(network, {})}
    option = _SIZE_OPTIONS.get(network.partition("_")[0])
    if option is not None:
        options[option] = size[0] if option == "image_size" else size
    made: torch.nn.Module = importlib.import_module("torchvision.models").get_model(network, weights=None, **options)
    return made


def export(asked: ZooName, path: Path) -> ZooName:
    """Build a network and write it as an ONNX file for one sample, which says in its metadata what it is.

    Returns its name with the size.

    Raises ModelError if it cannot be built or exported.
    """
    try:
        size = asked.size or own_size(asked)
        name = replace(asked, size=size)
        network = build(name)
    except Exception as error:
        raise ModelError(f"{asked} cannot be built: {first_line(error)}") from error
    weights_bytes = sum(one.numel() * one.element_size() for one in network.state_dict().values())
    if weights_bytes > _MOST_BYTES:
        raise ModelError(f"{asked} has {weights_bytes:,} bytes of weights; {_MOST_BYTES:,} are exported at most")
    _write(network, torch.randn(1, 3, *size), path, name)
    metadata = {"aznas.network": str(name), "aznas.libraries": _libraries(name)}
    entries = [onnx.StringStringEntryProto(key=key, value=value) for key, value in metadata.items()]
    with path.open("ab") as stream:  # protobuf reads two messages in a row as one
        stream.write(onnx.ModelProto(metadata_props=entries).SerializeToString())
    return name


def _libraries(name: ZooName) -> str:
    return ", ".join(f"{one} {importlib.import_module(one).__version__}" for one in (name.library, "torch"))


def _write(network: torch.nn.Module, image: torch.Tensor, path: Path, name: ZooName) -> None:
    """Export by TorchScript, which more networks pass, or else by dynamo."""
    try:
        _written(network, image, path, dynamo=False, opset_version=17)
    except Exception as error:
        if importlib.util.find_spec("onnxscript") is None:
            raise SettingsError(f"{name} needs onnxscript to be exported: pip install 'aznas-onnx[zoo]'") from error
        try:
            _written(network, image, path, dynamo=True, opset_version=18, external_data=False)
        except Exception as second:
            reason = min((first_line(one) for one in (error, second)), key=len)
            raise ModelError(f"{name} cannot be exported by PyTorch: {reason}") from second


def _written(network: torch.nn.Module, image: torch.Tensor, path: Path, **options: Any) -> None:
    """Export, and run the file once: TorchScript writes some that cannot run (Expand to a shape that does not fit)."""
    torch.onnx.export(network, (image,), path, input_names=["image"], output_names=["logits"], **options)
    unoptimised_session(path.read_bytes()).run(None, {"image": image.numpy()})


def _attempted(name: str, path: Path) -> dict[str, str]:
    try:
        sized = export(ZooName.parse(name), path)
    except AznasError as error:
        return {"name": name, "refused": str(error)}
    return {"name": name, "file": os.fspath(path), "sized": str(sized)}


def _answers(names: Iterable[str], folder: Path) -> Iterator[dict[str, str]]:
    names = tuple(names)
    try:
        for name in names:
            check_known(ZooName.parse(name))
    except UnknownNameError as error:
        yield {"unknown": str(error)}
        return
    for name in names:
        yield {"begins": name}
        yield _attempted(name, folder / "network.onnx")


def _take_stdout() -> TextIO:
    """Return a stream to stdout, which libraries no longer reach."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _without_processor_limit() -> None:
    """Lift the limit that a gate sets on the process which reads the files."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        highest = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (highest, highest))


def _main(folder: str, *names: str) -> None:
    end_with_parent()
    _without_processor_limit()
    block_network()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)  # more change the last bits of an initialisation
    with _take_stdout() as answers:
        for answer in _answers(names, Path(folder)):
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
