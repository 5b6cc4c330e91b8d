"""ONNX Runtime is loaded without its telemetry: no internet socket, and nothing in the home folder."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# A filter for the kernel: a process that opens a socket of the internet is killed, whichever code of it does.
GUARDED = """
import ctypes, struct
SOCKET = {"x86_64": 41, "aarch64": 198}[MACHINE]
ALLOW, KILL = 0x7FFF0000, 0x80000000
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
program = [  # operation, lines to skip if equal, lines to skip if not, operand
    (LOAD, 0, 0, 0), (IF_EQUAL, 0, 3, SOCKET),  # offset 0: number of the system call
    (LOAD, 0, 0, 16), (IF_EQUAL, 2, 0, 2), (IF_EQUAL, 1, 0, 10),  # offset 16: its first argument, AF_INET or AF_INET6
    (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL),
]
code = b"".join(struct.pack("HBBI", *line) for line in program)
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(code)
header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
if libc.prctl(22, 2, header, 0, 0):  # a filter of system calls
    print("no filter")
    raise SystemExit(0)
"""
RUN = """
import onnx
from aznas_onnx.latency import Stopwatch
model = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["" : 17]>
    g (float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }''')
assert Stopwatch(model).measure().ms > 0
import time
time.sleep(0.5)
print("done")
"""


def run_guarded(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    guarded = GUARDED.replace("MACHINE", repr(platform.machine())) + code
    return subprocess.run(
        [sys.executable, "-c", guarded],
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="a Linux filter")
def test_neither_a_socket_of_the_internet_nor_a_file_at_home(tmp_path: Path) -> None:
    opened = run_guarded("import socket; socket.socket(); print('open')", tmp_path)
    if "no filter" in opened.stdout:
        pytest.skip("this kernel takes no filter")
    assert opened.returncode != 0, "the guard itself must work"
    assert "open" not in opened.stdout
    done = run_guarded(RUN, tmp_path)
    assert done.stdout.splitlines() == ["done"], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_module_imports_it(repository: Path) -> None:
    found = []
    for folder in ("aznas_onnx", "cli", "spaces"):
        for path in (repository / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [path.name for name in names if name.partition(".")[0] == "onnxruntime"]
    assert found == ["runtime.py"]
