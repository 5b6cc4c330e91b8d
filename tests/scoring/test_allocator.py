"""What the C library is told about freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from aznas_onnx.scoring import allocator
from aznas_onnx.scoring.allocator import keep_freed_memory

SMALL, LARGE = 2**20, 2**28


class Recorder:
    """Stands for the C library."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, option: int, value: int) -> int:
        assert -(2**31) <= value < 2**31  # the call takes an int
        self.options[option] = value
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trimmed += 1
        return 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(allocator, "_glibc", lambda: recorder)
    return recorder


def test_the_blocks_of_small_maps_are_all_kept(library: Recorder) -> None:
    keep_freed_memory(SMALL)
    assert library.options[allocator._M_MMAP_MAX] == 0
    assert library.trimmed == 0


def test_large_maps_are_the_kernels_and_get_what_was_kept(library: Recorder) -> None:
    keep_freed_memory(SMALL)
    keep_freed_memory(LARGE)
    assert library.options[allocator._M_MMAP_MAX] == 65536
    assert library.trimmed == 1


def test_what_the_user_says_is_left_alone(library: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    keep_freed_memory(SMALL)
    assert allocator._M_MMAP_MAX not in library.options


def test_elsewhere_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    keep_freed_memory(LARGE)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_large_tensor_is_not_cleared_again() -> None:
    """The effect itself: filling a freed block of 64 MiB again touches pages that are there."""
    code = f"""
import resource, torch
from aznas_onnx.scoring.allocator import keep_freed_memory
keep_freed_memory({SMALL})
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**24).fill_(1.0)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of 16,384 pages
