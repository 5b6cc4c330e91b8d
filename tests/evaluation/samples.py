"""Measured and scored architectures whose every number can be worked out, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from aznas_onnx.evaluation import Record, Truth, read_truth
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from tests.searching.fakes import Digits, DigitSpace

ONE_CONVOLUTION = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)
    <float[4, 3, 1, 1] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}> { y = Conv (x, w) }
""")


class BuiltDigits(DigitSpace):
    """Digits with a network, the same for all."""

    def build(self, genotype: Digits) -> onnx.ModelProto:
        return ONE_CONVOLUTION


class SortedDigits(BuiltDigits):
    """Digits whose order means nothing."""

    def canonical(self, genotype: Digits) -> str:
        return "".join(map(str, sorted(genotype)))


class SumScorer:
    """Scores digits by their sum; remembers what it was asked."""

    def __init__(self, *, failing: Sequence[str] = (), interrupt_at: int = -1, version: int = 1) -> None:
        self.asked: list[str] = []
        self.failing = set(failing)
        self.interrupt_at = interrupt_at
        self.version = version

    def describe(self) -> dict[str, object]:
        return {"scorer": "sum", "version": self.version}

    def prepare(self, threads: int | None) -> None:
        pass

    def score(self, genotype: str) -> ProxyScores:
        if len(self.asked) == self.interrupt_at:
            raise KeyboardInterrupt
        self.asked.append(genotype)
        if genotype in self.failing:
            raise ValueError("this one fails")
        total = sum(map(int, genotype))
        proxies = {
            "expressivity": ProxyValue(mean=float(total)),
            "trainability": ProxyValue(mean=None, reason="it is even") if total % 2 == 0 else ProxyValue(mean=-1.5),
            "macs": ProxyValue(mean=100.0 * total),
        }
        return ProxyScores(
            model=genotype, status=Status.OK, proxies=proxies, macs=100 * total, params=7, elapsed_s=0.25
        )


def write_truth(path: Path, rows: dict[str, float], column: str = "accuracy") -> Path:
    path.write_text(f"arch,{column}\n" + "".join(f"{arch},{value}\n" for arch, value in rows.items()))
    return path


def truth_of(tmp_path: Path, rows: dict[str, float]) -> Truth:
    return read_truth(write_truth(tmp_path / "truth.csv", rows))


def record(arch: str, **proxies: float | None) -> Record:
    """A record with these proxies; None for one without a value."""
    values = {
        name: ProxyValue(mean=value) if value is not None else ProxyValue(mean=None, reason="none")
        for name, value in proxies.items()
    }
    return Record(arch=arch, proxies=values, macs=1, params=2, layers=3, elapsed_s=0.5)
