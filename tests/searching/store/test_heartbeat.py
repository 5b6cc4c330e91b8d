from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from aznas_onnx.searching.store.heartbeat import WriterProcess

posix = pytest.mark.skipif(os.name != "posix", reason="elsewhere only the heartbeat tells")


def test_this_process_is_alive() -> None:
    assert WriterProcess.this().is_alive()


@posix
def test_a_process_that_ended_is_dead_even_before_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = subprocess_identity(child.pid)
        writer = replace(WriterProcess.this(), process=identity)
        assert writer.is_alive()
        child.kill()
        deadline = time.monotonic() + 60
        while writer.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not writer.is_alive()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process started")
def test_a_new_process_with_the_same_id_is_another() -> None:
    assert not replace(WriterProcess.this(), process=f"{os.getpid()}:1").is_alive()


def test_elsewhere_the_heartbeat_decides() -> None:
    away = replace(WriterProcess.this(), host="another-host")
    assert away.is_alive()
    assert not replace(away, seen=time.time() - 1000).is_alive()


def subprocess_identity(pid: int) -> str:
    from aznas_onnx.searching.store.heartbeat import _identity

    identity = _identity(pid)
    assert identity is not None
    return identity
