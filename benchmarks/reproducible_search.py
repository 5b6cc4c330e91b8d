"""Run the same search twice, and once more with kills: the winners are equal byte by byte.

    python benchmarks/reproducible_search.py                     nb201, 300 networks; three searches of some minutes
    python benchmarks/reproducible_search.py --iterations 40 --search-options "--resolution 8 --batch-size 8"

Runs the command as anybody would: `aznas search`, then `aznas export`. The third search is ended with SIGKILL a few
times and continued with `--resume`. Compared are the files of the winner, and every candidate that was scored on the
way to it, apart from how long that took. Ends with status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aznas_onnx.searching import Study, StudyError

AZNAS = (sys.executable, "-m", "aznas_onnx")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--space", default="nb201")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--search-options", default="", help="more options of `aznas search`, in one argument")
    parser.add_argument("--folder", type=Path, help="keep what is made here; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        command = [*AZNAS, "search", "--space", arguments.space, "--seed", str(arguments.seed)]
        command += ["--iterations", str(arguments.iterations), *shlex.split(arguments.search_options), "--db"]
        first, second, killed = (folder / f"{name}.db" for name in ("first", "second", "killed"))
        for path in (first, second):
            run(path.stem, [*command, str(path)])
        interrupted([*command, str(killed), "--resume"], killed, arguments.iterations, arguments.kills)
        run(killed.stem, [*command, str(killed), "--resume"])
        return report(*(fingerprint(path) for path in (first, second, killed)))


def run(name: str, command: list[str]) -> None:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def interrupted(command: list[str], path: Path, iterations: int, kills: int) -> None:
    """Start a search again and again, and kill it when it has come a bit further."""
    for kill in range(1, kills + 1):
        wanted = iterations * kill // (kills + 1)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and n_trials(path) < wanted:
            time.sleep(0.05)
        process.kill()
        process.wait()
        print(f"{path.stem}: killed with {n_trials(path)} of {iterations} candidates", flush=True)


def n_trials(path: Path) -> int:
    try:
        return len(Study.open(path).trials)
    except StudyError:  # not there yet
        return 0


def fingerprint(path: Path) -> dict[str, str]:
    """Return digests of the history and of every file of the exported winner."""
    winners = path.with_suffix("")
    run(f"{path.stem}, export", [*AZNAS, "export", str(path), "-o", str(winners)])
    trials = [(trial.proposal, trial.status, trial.proxies) for trial in Study.open(path).trials]
    digests = {"all candidates": hashlib.sha256(repr(trials).encode()).hexdigest()}
    for file in sorted(winners.rglob("*.*")):
        digests[file.relative_to(winners).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def report(first: dict[str, str], second: dict[str, str], killed: dict[str, str]) -> int:
    print(f"\n{'':30} {'run once':16} {'run again':10} killed")
    for name in sorted({*first, *second, *killed}):
        digest = first.get(name)
        again, resumed = ("same" if other.get(name) == digest else "DIFFERS" for other in (second, killed))
        print(f"{name:30} {(digest or 'none')[:16]:16} {again:10} {resumed}")
    return int(not first == second == killed)


if __name__ == "__main__":
    sys.exit(main())
