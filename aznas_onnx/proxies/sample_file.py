"""A user's own samples: an ``.npz`` file with an array ``samples``, and ``labels`` where there are classes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aznas_onnx.caches import cached
from aznas_onnx.documents import read_bytes
from aznas_onnx.errors import SettingsError

__all__ = ["GivenSamples", "digest_of", "read_samples"]

_SAMPLES, _LABELS = "samples", "labels"
_MOST_BYTES = 2**31  # of the arrays
_LARGEST_LABEL = 2**31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenSamples:
    """Samples of one shape, and a class for each where the file has them.

    - `values`: float32, samples first.
    - `labels`: int64, one a sample; None without labels.
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one."""
        return self.values.shape[1:]

    def choice(self, seed: int, size: int, number: int = 0) -> npt.NDArray[np.intp]:
        """Return which samples are batch `number` of a seed: random ones, each in one batch, in the file's order.

        A batch behind the last sample is shorter, or empty.
        """
        order = np.random.default_rng(seed).permutation(self.count)
        return np.sort(order[number * size : (number + 1) * size])


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file of samples.

    Raises SettingsError: With one sentence, if it does not hold samples, and labels for them where it has any.
    """
    data = _read(path)
    _parse(path, data)
    return hashlib.sha256(data).hexdigest()


@cached(1, "every network of a run is fed the same file")
def read_samples(path: str, sha256: str) -> GivenSamples:
    """Return the samples of a file; raise SettingsError if its SHA-256 is another one."""
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SettingsError(f"feed {path} is no longer the file that it was (its SHA-256 was {sha256})")
    return _parse(path, data)


def _read(path: str) -> bytes:
    return read_bytes(path, f"feed {path}", most_bytes=_MOST_BYTES)


def _parse(path: str, data: bytes) -> GivenSamples:
    arrays = _arrays(path, data)
    if _SAMPLES not in arrays or not arrays.keys() <= {_SAMPLES, _LABELS}:
        found = ", ".join(map(repr, arrays)) or "none"
        raise SettingsError(f"feed {path} has the arrays {found}; {_SAMPLES!r} is needed, and {_LABELS!r} is accepted")
    values = _values(path, arrays[_SAMPLES])
    labels = None if _LABELS not in arrays else _classes(path, arrays[_LABELS], len(values))
    return GivenSamples(values=values, labels=labels)


def _arrays(path: str, data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of an archive; nothing in it is executed, and objects are refused."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size_bytes = sum(entry.file_size for entry in archive.infolist())
        if size_bytes > _MOST_BYTES:
            raise SettingsError(f"feed {path} has {size_bytes:,} bytes of arrays; at most {_MOST_BYTES:,} are accepted")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {name: np.asarray(stored[name]) for name in stored.files}
    except SettingsError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SettingsError(
            f"feed {path} is no .npz file of plain arrays ({reason}); numpy.savez writes one"
        ) from error


def _values(path: str, found: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    if found.dtype.kind != "f":
        raise SettingsError(
            f"feed {path}: {_SAMPLES} is of {found.dtype}; floats are accepted, scaled as the network expects them"
        )
    if found.ndim < 2 or not found.size:
        shape = "x".join(map(str, found.shape)) or "a single number"
        raise SettingsError(
            f"feed {path}: {_SAMPLES} is {shape}; one or more samples, counted by the first axis, are needed"
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(found, dtype=np.float32)
    if not np.isfinite(values).all():
        raise SettingsError(f"feed {path}: {_SAMPLES} has numbers that are not finite in float32")
    return values


def _classes(path: str, found: npt.NDArray[np.generic], count: int) -> npt.NDArray[np.int64]:
    if found.dtype.kind not in "iu" or found.shape != (count,):
        shape = "x".join(map(str, found.shape)) or "a single number"
        raise SettingsError(
            f"feed {path}: {_LABELS} is {shape} of {found.dtype}; a whole number for each of {count} samples is needed"
        )
    if int(found.min()) < 0 or int(found.max()) >= _LARGEST_LABEL:
        raise SettingsError(f"feed {path}: {_LABELS} go from {found.min()} to {found.max()}; classes count from 0")
    return found.astype(np.int64)
