from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aznas_onnx import memory
from aznas_onnx.errors import SettingsError
from aznas_onnx.memory import available_bytes, check_memory, in_words

GIB = 2**30
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not say")


def system(root: Path, files: Mapping[str, str]) -> Path:
    everywhere = {"proc/meminfo": "MemTotal:  99 kB\nMemAvailable:    16777216 kB\n", **files}
    for name, text in everywhere.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_groups_the_machine_says_what_there_is(tmp_path: Path) -> None:
    assert available_bytes(system(tmp_path, {})) == 16 * GIB


def test_a_control_group_leaves_what_it_has_not_used_and_what_it_only_caches(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/box\n",
        "sys/fs/cgroup/box/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/box/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/box/memory.stat": f"anon 1\ninactive_file {GIB}\n",
    }
    assert available_bytes(system(tmp_path, files)) == 2 * GIB


@pytest.mark.parametrize("path", ["/a/b", "/", "/of/the/host"])
def test_the_groups_around_count_as_well(tmp_path: Path, path: str) -> None:
    files = {
        "proc/self/cgroup": f"0::{path}\n",
        "sys/fs/cgroup/memory.max": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory.current": "0\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": "0\n",
    }
    assert available_bytes(system(tmp_path, files)) == 3 * GIB


@pytest.mark.parametrize(("limit", "expected"), [(5 * GIB, 4 * GIB), (9223372036854771712, 16 * GIB)])
def test_groups_of_the_first_version_are_read(tmp_path: Path, limit: int, expected: int) -> None:
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{limit}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    }
    assert available_bytes(system(tmp_path, files)) == expected


def test_the_process_own_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = system(tmp_path, {"proc/self/status": "VmSize:  1048576 kB\nVmData:   1024 kB\n"})
    limits = {resource.RLIMIT_AS: (3 * GIB, 3 * GIB)}
    nothing = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits.get(kind, nothing))
    assert available_bytes(root) == 2 * GIB


def test_a_system_that_does_not_say_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_bytes(tmp_path) is None
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    check_memory(10**18, "this", "do that")


def test_what_does_not_fit_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * 10**9)
    check_memory(2 * 10**9, "scoring it", "take less")
    with pytest.raises(SettingsError) as caught:
        check_memory(20_100_000_000, "scoring it", "take less")
    assert str(caught.value) == "scoring it takes about 20.1 GB of memory, and 2.0 GB are available; take less"


def test_sizes_in_words() -> None:
    assert [in_words(size) for size in (5 * 10**6, 1.44e9, 3e12)] == ["5 MB", "1.4 GB", "3.0 TB"]
