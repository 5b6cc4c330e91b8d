"""From the name of a network to its file in the cache.

A process of its own builds and exports: it has no network access, its random state is fresh, so that a file is the same
each time, and this process needs no torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

from aznas_onnx.cache_folder import FOLDER_VARIABLE, cache_folder
from aznas_onnx.caches import register_cache
from aznas_onnx.documents import JsonObject
from aznas_onnx.errors import ModelError, SettingsError, UnknownNameError
from aznas_onnx.zoo.names import ZooName, is_name

__all__ = ["export_missing", "exported", "file_of"]

_FORM = 1  # of the exported files: another one is exported anew
_EXPORTER = "aznas_onnx.zoo.network_export"

_refused: dict[str, str] = {}
register_cache(
    f"{__name__}.exported",
    None,
    "a network that cannot be exported would be built again to say so",
    size=lambda: len(_refused),
    clear=_refused.clear,
)


def file_of(path: str | os.PathLike[str]) -> Path:
    """Return the file of a path, or of the name of a network; raise what :func:`exported` does."""
    text = os.fspath(path)
    return exported(text) if is_name(text) else Path(text)


def exported(name: str) -> Path:
    """Return the file of a network, which is built and exported where the cache has none.

    Parameters
    ----------
    name
        `LIBRARY:NETWORK` or `LIBRARY:NETWORK@SIZE`, such as ``"timm:vit_small_patch16_224@224"``. Without a size it is
        the network's own.

    Returns
    -------
    Path
        An ONNX file for one sample, with random weights of a fixed seed. Its name in the cache has the versions of the
        libraries.

    Raises
    ------
    UnknownNameError
        If the library has no such network; the message names similar ones.
    SettingsError
        If the name has another form, the library is not installed, or the cache cannot be written.
    ModelError
        If the network cannot be built at that size, or not exported.

    Examples
    --------
    >>> from aznas_onnx.zoo import exported
    >>> exported("torchvision:resnet18@224").name  # doctest: +SKIP
    'resnet18@224.onnx'
    """
    export_missing([name])
    if name in _refused:
        raise ModelError(_refused[name])
    return _place_of(ZooName.parse(name))


def export_missing(names: Iterable[str], on_network: Callable[[str], None] | None = None) -> None:
    """Export each named network that the cache does not have, all in one process.

    A network that cannot be exported does not stop the others: :func:`exported` raises the reason.

    Parameters
    ----------
    names
        As for :func:`exported`.
    on_network
        Called with each name before that network is built.

    Raises
    ------
    UnknownNameError, SettingsError
        As :func:`exported`, before anything is built.
    """
    files = {name: _place_of(ZooName.parse(name)) for name in names}
    missing = [name for name, file in files.items() if name not in _refused and not file.is_file()]
    if not missing:
        return
    folder = files[missing[0]].parent.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while missing:
            with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as beside:
                _export(missing, Path(beside).absolute(), files, on_network or (lambda name: None))
            left = [name for name in missing if name not in _refused and not files[name].is_file()]
            if left == missing:
                raise ModelError(f"{left[0]} cannot be exported: the process that builds it ended without an answer")
            missing = left
    except OSError as error:
        raise SettingsError(
            f"{missing[0]} cannot be kept in {folder}: {error.strerror or error}; "
            f"name another folder with the environment variable {FOLDER_VARIABLE}"
        ) from error


def _place_of(name: ZooName) -> Path:
    """Return where the cache has a network; raise SettingsError if its library is not installed."""
    versions = "_".join(f"{package}-{_version(package, name)}" for package in (name.library, "torch"))
    return cache_folder() / "zoo" / f"{versions}_{_FORM}" / f"{str(name).partition(':')[2]}.onnx"


def _version(package: str, name: ZooName) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise SettingsError(
            f"{name} is built by {package}, which is not installed: pip install 'aznas-onnx[zoo]'"
        ) from error


def _export(names: Sequence[str], beside: Path, files: dict[str, Path], tell: Callable[[str], None]) -> None:
    """Let a process export networks to a folder, and move each to its place once it is complete.

    If it crashes, the network that it was building is noted as refused, and the later ones are left.
    """
    begun = ""
    complaints = beside / "stderr"
    with complaints.open("wb") as stderr, _process(names, beside, stderr) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                answer: JsonObject = json.loads(line)
                if "unknown" in answer:
                    raise UnknownNameError(str(answer["unknown"]))
                if "begins" in answer:
                    begun = str(answer["begins"])
                    tell(begun)
                else:
                    _keep(answer, files)
            status = process.wait()
        finally:
            process.kill()
    if status == 0:
        return
    cause = _last_line(complaints) if status > 0 else f"signal {-status}, most likely for lack of memory"
    reason = f"{begun or names[0]} cannot be exported: the process that builds it ended with {cause}"
    if not begun:
        raise ModelError(reason)
    _refused[begun] = reason


def _process(names: Sequence[str], beside: Path, stderr: IO[bytes]) -> subprocess.Popen[str]:
    """Start the exporter in an empty folder, so that it finds no Python files but those that this process would."""
    search = os.pathsep.join(os.fspath(Path(entry).absolute()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", _EXPORTER, os.fspath(beside), *names],
        cwd=beside,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "PYTHONPATH": search, "HF_HUB_OFFLINE": "1"},
        encoding="utf-8",
    )


def _last_line(file: Path) -> str:
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def _keep(answer: JsonObject, files: dict[str, Path]) -> None:
    """Move an exported file to its places, or note why there is none."""
    name = str(answer["name"])
    if "refused" in answer:
        _refused[name] = str(answer["refused"])
        return
    source, own_size = Path(str(answer["file"])), ZooName.parse(str(answer["sized"]))
    file, sized = files[name], _place_of(own_size)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file != sized:
        _link(source, sized)
    source.replace(file)


def _link(source: Path, target: Path) -> None:
    """Let another name lead to a file, where the system can; else that name is exported when it is asked for."""
    try:
        target.hardlink_to(source)
    except (OSError, NotImplementedError):
        return
