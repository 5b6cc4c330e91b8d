"""Eigenvalues of symmetric matrices: many small ones together, wide ones by the faster library.

LAPACK runs on one thread. Several wait for each other after every column: on idle cores that gains a little; where
something else runs on them, one such wait takes a time slice, and a matrix of width 1,024 took 8 seconds instead of
0.08.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from aznas_onnx.caches import cached

__all__ = ["solvable", "spectra"]

Tensor = torch.Tensor
_WIDE = 256  # from here on scipy's library is faster, and a stack costs more than it saves
_PREFIXES = ("scipy_", "")  # of the names in scipy's own OpenBLAS, and in that of a distribution
_lock = threading.Lock()  # of the numbers of threads, which belong to the process


def spectra(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return the eigenvalues of symmetric matrices, ascending; only the lower triangles are read.

    A matrix that is not finite has NaN eigenvalues instead of an error, so that the other blocks keep their results.
    """
    found: dict[int, Tensor] = {}
    groups: dict[tuple[int, int], list[int]] = {}
    for index, matrix in enumerate(matrices):
        is_alone = matrix.shape[0] >= _WIDE and matrix.device.type == "cpu"
        groups.setdefault((matrix.shape[0], index if is_alone else -1), []).append(index)
    library = _openblas() if any(index >= 0 for _, index in groups) else None
    with _one_thread(library):
        for (_, alone), members in groups.items():
            if alone >= 0:
                found[alone] = _of_wide(matrices[alone], library)
            else:
                stack = torch.stack([matrices[index] for index in members])
                found.update(zip(members, _of_stack(stack), strict=True))
    return [found[index] for index in range(len(matrices))]


def solvable(matrix: Tensor) -> Tensor:
    """Move a matrix to where it can be factorised: torch cannot do that on Apple's GPUs."""
    return matrix.cpu() if matrix.device.type == "mps" else matrix


def _of_stack(stack: Tensor) -> Tensor:
    is_finite = _trace(stack).isfinite()
    stack.masked_fill_(~is_finite[:, None, None], 0.0)
    return torch.where(is_finite[:, None], _of_finite(stack), torch.nan)


def _of_wide(matrix: Tensor, library: _Threads | None) -> Tensor:
    if not bool(_trace(matrix).isfinite()):
        return matrix.new_full(matrix.shape[:1], torch.nan)
    if library is None or matrix.dtype != torch.float32:
        return _of_finite(matrix)
    from scipy.linalg import eigvalsh

    transposed = matrix.numpy().T  # in its memory order
    return torch.from_numpy(eigvalsh(transposed, lower=False, driver="evd", check_finite=False))


def _of_finite(matrices: Tensor) -> Tensor:
    """Return the eigenvalues by torch, which reads a transpose as it lies in memory; on a CPU that saves a tenth."""
    values: Tensor = torch.linalg.eigvalsh(matrices.mT, UPLO="U")
    return values


def _trace(matrices: Tensor) -> Tensor:
    """Return the sum of the diagonal, which bounds a Gram matrix."""
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


class _Threads(NamedTuple):
    """The number of threads of a library."""

    get: Callable[[], int]
    set: Callable[[int], object]


@cached(1, "one library a process")
def _openblas() -> _Threads | None:
    """Return the threads of scipy's OpenBLAS; None where scipy has another library, or where its threads cannot be set.

    At width 1,024 it takes 38 ms where MKL takes 57, at 512 6.5 against 9.1 (AMD EPYC of the fourth generation).
    """
    from scipy.linalg import lapack

    try:
        library = ctypes.CDLL(lapack._flapack.__file__)
    except (AttributeError, OSError):
        return None
    for prefix in _PREFIXES:
        try:
            return _Threads(*(getattr(library, f"{prefix}openblas_{verb}_num_threads") for verb in ("get", "set")))
        except AttributeError:
            continue
    return None


@contextmanager
def _one_thread(library: _Threads | None) -> Iterator[None]:
    """Factorise on one thread, in torch and in scipy's library."""
    torchs = _Threads(torch.get_num_threads, torch.set_num_threads)
    with _lock:
        several = [(threads, threads.get()) for threads in (torchs, *filter(None, [library])) if threads.get() > 1]
        try:
            for threads, _ in several:
                threads.set(1)
            yield
        finally:
            for threads, count in several:
                threads.set(count)
