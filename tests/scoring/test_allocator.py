"""The settings of the C library for freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from aznas_onnx.scoring import allocator
from aznas_onnx.scoring.allocator import freed_memory_kept

SMALL, MEDIUM, LARGE = 2**20, 2**26, 2**28


class Recorder:
    """Stands for the C library."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}
        self.trimmed = 0
        self.cached_bytes = 2**29

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
    monkeypatch.setattr(allocator, "_cached_bytes", lambda library: library.cached_bytes)
    return recorder


def test_up_to_32_mib_blocks_are_kept_for_good(library: Recorder) -> None:
    with freed_memory_kept(SMALL):
        assert library.options == {allocator._M_MMAP_THRESHOLD: 2**25, allocator._M_TRIM_THRESHOLD: 2**30}
    assert library.trimmed == 0


def test_up_to_128_mib_all_are_kept_for_a_while(library: Recorder) -> None:
    with freed_memory_kept(MEDIUM):
        assert library.options[allocator._M_MMAP_MAX] == 0
        assert library.trimmed == 0
    assert library.options[allocator._M_MMAP_MAX] == 65536
    assert library.options[allocator._M_TRIM_THRESHOLD] == 2**30
    assert library.trimmed == 0


def test_larger_ones_are_the_kernels(library: Recorder) -> None:
    with freed_memory_kept(LARGE):
        assert allocator._M_MMAP_MAX not in library.options
    assert library.trimmed == 1


def test_more_than_a_gibibyte_is_released(library: Recorder) -> None:
    library.cached_bytes = 2**30 + 1
    with freed_memory_kept(MEDIUM):
        pass
    assert library.trimmed == 1


def test_an_error_leaves_nothing_changed(library: Recorder) -> None:
    with pytest.raises(RuntimeError), freed_memory_kept(MEDIUM):
        raise RuntimeError
    assert library.options[allocator._M_MMAP_MAX] == 65536


def test_what_the_user_says_is_left_alone(library: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    with freed_memory_kept(MEDIUM):
        assert allocator._M_MMAP_MAX not in library.options


def test_elsewhere_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    called = []
    monkeypatch.setattr(allocator, "_set", lambda *arguments: called.append(arguments))
    with freed_memory_kept(LARGE):
        assert called == []
    assert called == []


FAULTS = """
import resource, torch
from aznas_onnx.scoring.allocator import freed_memory_kept

def faults(elements):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(elements).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def outcome(code: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", FAULTS + code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_large_tensor_is_not_cleared_again() -> None:
    """Filling a freed block of 64 MiB again touches pages that are there, also in a later context."""
    code = f"""
first = faults(2**24)
with freed_memory_kept({MEDIUM}):
    kept = min(faults(2**24) for _ in range(8))  # an aligned block does not always fit where one was
with freed_memory_kept({MEDIUM}):
    later = min(faults(2**24) for _ in range(8))
print(first, kept, later)
"""
    first, kept, later = outcome(code)
    assert 4 * kept < first  # 16,384 pages, or 32 large ones
    assert 4 * later < first


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_larger_cache_is_released() -> None:
    code = f"""
with freed_memory_kept({MEDIUM}):
    tensors = [torch.ones(2**24) for _ in range(24)]
    top = torch.ones(2**10)
    del tensors
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(resident() // 2**20)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("it reads /proc")
    (resident_mib,) = outcome(code)
    assert resident_mib < 1024  # of 1,536 MiB that were freed below a block in use
