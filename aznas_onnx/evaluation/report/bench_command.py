"""The command that reproduces a scores file."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath

from aznas_onnx import spaces
from aznas_onnx.errors import AznasError
from aznas_onnx.evaluation.sample_archs import choose_archs
from aznas_onnx.evaluation.scorefile import Scores
from aznas_onnx.evaluation.truth import Truth
from aznas_onnx.proxies import PROXIES, USER_PROXIES, StoredProxy
from aznas_onnx.proxies.feed import Feed
from aznas_onnx.scoring import METHOD_VERSION, other_method
from aznas_onnx.searching.stored_settings import StoredScoring
from aznas_onnx.spaces import NetworkFiles

__all__ = ["bench_command", "run_label"]

_NAMES = {"seed": "score-seed"}  # where an option is not called as the setting
_USUAL = {"seed": 0, "seeds": 1}
_UNSAID = ("resolution", "proxies", "input_shapes", "blocks", "method", "feed", USER_PROXIES)


def bench_command(scores: Scores, *, truth: Path, measured: Truth, path: Path, archs: Collection[str]) -> str:
    """Return the `aznas bench` command that scores the same architectures in the same way.

    Folders are left out: they differ between machines. Where no command samples exactly these architectures, because
    several wrote the file, a comment says so.

    - `truth`, `measured`: The file with the measurements, and its content.
    - `path`: The scores file.
    - `archs`: Its measured architectures.
    """
    seed, unique = scores.selection.seed, scores.selection.unique
    words = ["aznas", "bench", _space(scores), "--truth", truth.name]
    if len(archs) < len(measured.archs):
        words += ["--sample", str(len(archs)), "--seed", str(seed)]
    if unique:
        words.append("--unique")
    words += [*_scoring_words(scores.settings.scoring), *_space_words(scores), "-o", path.name]
    command = shlex.join(words)
    if scores.method != METHOD_VERSION:
        return f"{command}  # the file's scores are {other_method(scores.method)}"
    if not _selects(scores, measured, seed, unique, archs):
        return f"{command}  # the file holds other architectures"
    return command


def run_label(scores: Scores, given: str | None = None) -> str:
    """Return the given label, or the settings in a few words; with the version of the method where it is another."""
    parts = [given] if given else list(_distinguishing_settings(scores))
    if scores.method != METHOD_VERSION:
        parts.append(f"scoring method {scores.method}")
    return ", ".join(parts) or "scores"


def _distinguishing_settings(scores: Scores) -> Iterator[str]:
    scoring = scores.settings.scoring
    if scoring.effort:
        yield scoring.effort
    if scoring.batch_size:
        yield f"batch {scoring.batch_size}"
    if scoring.feed != Feed():
        yield f"fed {PurePath(scoring.feed.text).name}"
    if (scoring.seeds or 1) > 1:
        yield f"{scoring.seeds} seeds"
    if scores.selection.unique:
        yield "unique cells"


def _space(scores: Scores) -> str:
    if scores.settings.space.name == NetworkFiles.name:
        return "*.onnx"
    reference = scores.settings.space.reference or scores.settings.space.name
    return f"./{Path(reference).name}" if reference.endswith(".py") else reference


def _selects(scores: Scores, measured: Truth, seed: int, unique: bool, archs: Collection[str]) -> bool:
    """Whether seed and uniqueness select these architectures; True where that cannot be found out."""
    space = scores.settings.space
    try:
        made = spaces.get(space.reference or space.name, **space.options)
        return set(choose_archs(measured.archs, made, sample=len(archs), seed=seed, unique=unique)) == set(archs)
    except AznasError:  # a space in a file that is not here
        return True


def _scoring_words(scoring: StoredScoring) -> Iterator[str]:
    for key, value in scoring.document.items():
        option = f"--{_NAMES.get(key, key).replace('_', '-')}"
        if key in _UNSAID or value is None or value is False or value == _USUAL.get(key):
            continue
        yield from (option,) if value is True else (option, str(value))
    if scoring.feed != Feed():
        yield from ("--feed", PurePath(scoring.feed.text).name)
    usual = tuple(proxy.name for proxy in PROXIES.resolve(["az"]))
    if scoring.proxies is not None and scoring.proxies != usual:
        yield from ("--proxies", ",".join(_proxy(name, scoring.user_proxies.get(name)) for name in scoring.proxies))


def _proxy(name: str, own: StoredProxy | None) -> str:
    """Return what loads a proxy: its file without its folders, where it has one."""
    if own is None or own.reference is None:
        return name
    file, _, attribute = own.reference.rpartition(":")
    return f"{PurePath(file).name}:{attribute}"


def _space_words(scores: Scores) -> Iterator[str]:
    """Yield the options of the space that are not its defaults."""
    space = scores.settings.space
    try:
        usual = spaces.get(space.reference or space.name)
    except AznasError:  # a file that is not here
        usual = None
    for key, option in (("resolution", "--resolution"), ("num_classes", "--classes")):
        value = space.options.get(key)
        if value is not None and value != getattr(usual, key, None):
            yield from (option, str(value))
