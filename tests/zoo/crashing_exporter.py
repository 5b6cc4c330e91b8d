"""Stands in for the exporter: it is killed in `crash`, in the middle of a file, and ends in `complain` and `silent`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def answer(content: dict[str, str]) -> None:
    sys.stdout.write(f"{json.dumps(content)}\n")
    sys.stdout.flush()


def main(folder: str, *names: str) -> None:
    file = Path(folder) / "network.onnx"
    for name in names:
        answer({"begins": name})
        file.write_bytes(b"half" if "crash" in name else b"whole")
        if "crash" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "silent" in name:
            return
        if "complain" in name:
            sys.exit("the library is broken")
        answer({"name": name, "file": str(file), "sized": f"{name}@64"})


if __name__ == "__main__":
    main(*sys.argv[1:])
