"""The verdict of a comparison with ONNX Runtime."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from aznas_onnx.errors import AznasError

__all__ = ["LEAST_VARIATION", "Comparison", "Verdict", "Verification", "VerificationError"]

# Of the largest output. Below it, the rounding of single precision comes near the tolerance.
LEAST_VARIATION = 2e-3


class VerificationError(AznasError, RuntimeError):
    """ONNX Runtime itself cannot run the model, so there is nothing to compare with."""


class Verdict(str, enum.Enum):
    """The verdict of a comparison."""

    AGREES = "agrees"
    DIFFERS = "differs"
    CANNOT_TELL = "cannot tell"  # two samples give nearly the same: a wrong network might, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One output of the converted network beside that of ONNX Runtime.

    Attributes
    ----------
    output
        The tensor.
    difference
        Largest absolute difference (for a quantised file the root mean square, because single elements round to the
        other side), relative to the difference between two samples (root mean square), or to the largest output where
        two samples hardly differ.
    variation
        Difference between two samples, relative to the largest output.
    tolerance
        Largest difference that counts as equal.
    is_evidence
        Whether it can prove that the networks are equal: an integer output that both samples share cannot.
    must_vary
        Whether it is a float output that depends on the samples.
    """

    output: str
    difference: float
    variation: float
    tolerance: float
    is_evidence: bool = True
    must_vary: bool = True

    @property
    def verdict(self) -> Verdict:
        """The verdict of this output alone."""
        if self.must_vary and not self.is_evidence:
            return Verdict.CANNOT_TELL
        within = math.isfinite(self.difference) and self.difference <= self.tolerance
        return Verdict.AGREES if within else Verdict.DIFFERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The difference between the converted network and ONNX Runtime.

    Attributes
    ----------
    outputs
        Each output that was compared.
    batch_size, seed
        Batch size and seed of the comparison.
    precision
        The file's own arithmetic: ``float32``, ``float64``, ``float16``, ``bfloat16`` or, where it is quantised,
        ``int8``. Both sides compute in float32.
    inner
        Those of `outputs` that are not outputs of the network: where samples do not change an output, the last earlier
        tensors that they do change.
    """

    outputs: tuple[Comparison, ...]
    batch_size: int
    seed: int
    precision: str
    inner: tuple[str, ...] = ()

    @property
    def worst(self) -> Comparison:
        """The output with the largest difference, measured by its tolerance; one that shows nothing before all."""
        order = (Verdict.AGREES, Verdict.DIFFERS) if self.verdict is Verdict.DIFFERS else tuple(Verdict)

        def badness(one: Comparison) -> tuple[int, float]:
            excess = one.difference / one.tolerance
            rank = order.index(one.verdict) if one.verdict in order else -1
            return rank, math.inf if math.isnan(excess) else excess

        return max(self.outputs, key=badness)

    @property
    def verdict(self) -> Verdict:
        """Differs where any output does; agrees where all do and two samples give clearly different outputs."""
        verdicts = {one.verdict for one in self.outputs}
        if Verdict.DIFFERS in verdicts:
            return Verdict.DIFFERS
        if Verdict.CANNOT_TELL in verdicts or not any(one.is_evidence for one in self.outputs):
            return Verdict.CANNOT_TELL
        return Verdict.AGREES

    @property
    def agrees(self) -> bool:
        """Whether the comparison shows that both networks compute the same."""
        return self.verdict is Verdict.AGREES

    @property
    def output(self) -> str:
        """Name of the worst output."""
        return self.worst.output

    @property
    def relative_difference(self) -> float:
        """Difference at the worst output."""
        return self.worst.difference

    @property
    def variation(self) -> float:
        """Difference between two samples at the worst output."""
        return self.worst.variation

    @property
    def tolerance(self) -> float:
        """Tolerance of the worst output."""
        return self.worst.tolerance
