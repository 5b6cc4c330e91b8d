"""Baselines from a revision of the repository: `git:REVISION:PATH` is what `git show REVISION:PATH` prints.

Git is started with a list of arguments and never through a shell. A revision is resolved to a commit first, so that no
part of the text can be taken for an option.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from aznas_onnx.errors import AznasError, ModelError

__all__ = ["LocatedFile", "is_in_git", "located"]

_MARK = "git:"
_POINTER_BYTES = 1024
_COMMIT = frozenset("0123456789abcdef")
# No question is asked, no index is refreshed, and messages are in English.
_QUIETLY = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedFile:
    """A model's file: how reports call it, and where it is on the disk."""

    name: str
    path: str

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let the errors inside call the file by its name."""
        try:
            yield
        except AznasError as error:
            if self.name == self.path:
                raise
            raise type(error)(str(error).replace(self.path, self.name)) from error


def is_in_git(text: str) -> bool:
    """Whether the name of a model is that of a file in a revision."""
    return text.startswith(_MARK)


@contextmanager
def located(*names: str) -> Iterator[tuple[LocatedFile, ...]]:
    """Find the files of models; those of revisions are copied to a folder that is removed at the end.

    Raises ModelError if there is no git, no repository, no such revision, or no such file in it.
    """
    if not any(map(is_in_git, names)):
        yield tuple(LocatedFile(name=name, path=name) for name in names)
        return
    with TemporaryDirectory(prefix="aznas-", ignore_cleanup_errors=True) as folder:
        places = [
            _copied(name, Path(folder, str(index))) if is_in_git(name) else name for index, name in enumerate(names)
        ]
        yield tuple(LocatedFile(name=name, path=path) for name, path in zip(names, places, strict=True))


def _copied(name: str, folder: Path) -> str:
    """Copy a file of a revision, and the files beside it that hold its external data, into a new folder."""
    from aznas_onnx.graph.files.load import external_files  # late: it loads onnx, which a policy file does not need

    revision, _, file = name.removeprefix(_MARK).partition(":")
    if not revision or not file or revision.startswith("-") or "\0" in name:
        raise ModelError(f"{name!r} names no file of a revision; write git:REVISION:PATH, git:main:models/m.onnx")
    source = _Revision(name, revision, _commit(name, revision))
    path = folder / PurePosixPath(file).name
    folder.mkdir()
    if not source.copy(file, path):
        raise ModelError(
            f"{name}: revision {revision!r} has no file {file!r}; the path begins at the root of the repository"
        )
    for beside in _inside(external_files(path, name)):
        target = folder / beside
        target.parent.mkdir(parents=True, exist_ok=True)
        source.copy(posixpath.join(posixpath.dirname(file), beside), target)
    return os.fspath(path)


def _inside(names: tuple[str, ...]) -> list[str]:
    """Return the paths that stay in the folder of the model; reading it refuses the others with a sentence."""
    plain = [name for name in names if name and "\\" not in name and "\0" not in name]
    return [name for name in plain if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts]


@dataclass(frozen=True, slots=True)
class _Revision:
    name: str  # of the model, for messages
    revision: str
    commit: str

    def copy(self, file: str, target: Path) -> bool:
        """Write a file of the revision, or what it points to in Git LFS; return whether there is one."""
        with target.open("wb") as output:
            if _git(self.name, "cat-file", "blob", f"{self.commit}:{file}", output=output).returncode:
                output.close()
                target.unlink()
                return False
        if target.stat().st_size <= _POINTER_BYTES:
            self._follow(target)
        return True

    def _follow(self, target: Path) -> None:
        """Replace a pointer by the file that it stands for, where that has been fetched."""
        from aznas_onnx.graph.ir.git_lfs import pointed_object

        digest = pointed_object(target.read_bytes())
        if not digest:
            return
        folder = _git(self.name, "rev-parse", "--git-common-dir").stdout.strip()
        stored = Path(folder, "lfs", "objects", digest[:2], digest[2:4], digest)
        if not stored.is_file():
            remote, _, branch = self.revision.partition("/")
            what = f"git lfs fetch {remote} {branch}" if branch else f"git lfs fetch origin {self.revision}"
            raise ModelError(
                f"{self.name}: {target.name} is a Git LFS pointer there, and its file is not here; "
                f"fetch it with `{what}`"
            )
        shutil.copyfile(stored, target)


def _commit(name: str, revision: str) -> str:
    inside = _git(name, "rev-parse", "--is-inside-work-tree", "--is-bare-repository")
    if inside.returncode:
        raise ModelError(f"{name}: {_complaint(inside)}; start the gate inside the repository")
    found = _git(name, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    commit = found.stdout.strip()
    if found.returncode or not commit or not _COMMIT.issuperset(commit):
        remote, _, branch = revision.partition("/")
        what = f"`git fetch {remote} {branch}`" if branch else "`git fetch`"
        raise ModelError(
            f"{name}: this repository has no revision {revision!r}; {what} may bring it "
            "(GitHub: `fetch-depth: 0` of actions/checkout)"
        )
    return commit


def _git(name: str, *arguments: str, output: IO[bytes] | int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env={**os.environ, **_QUIETLY},
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError as error:
        raise ModelError(f"{name}: git cannot be started: {error.strerror or error}; install it") from error


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the first line of what git says."""
    first = (done.stderr.strip().splitlines() or ["git gives no reason"])[0]
    return first.removeprefix("fatal: ")
