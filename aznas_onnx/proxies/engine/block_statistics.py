"""Statistics of a pass: matrices on the device, then numbers on the device, then Python numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from aznas_onnx.blocks.types import Block
from aznas_onnx.proxies.engine.eigenvalues import solvable, spectra
from aznas_onnx.proxies.engine.evidence import BlockEvidence
from aznas_onnx.proxies.engine.moments import covariance, entropy, jacobian_gram, squared_norm
from aznas_onnx.proxies.engine.positions import match

__all__ = ["BlockStatistics"]

Tensor = torch.Tensor
_PENDING_BYTES = 2**26  # of matrices that wait for their spectra


class _Number(NamedTuple):
    """A 0-d tensor, and which field of which block's evidence it is."""

    block: int
    field: str
    value: Tensor


class _Covariance(NamedTuple):
    block: int
    matrix: Tensor
    is_of_samples: bool


class _Gram(NamedTuple):
    block: int
    matrix: Tensor
    signal: Tensor | None


class BlockStatistics:
    """Collects the measurements of one pass without waiting for the device until :meth:`finish`.

    - `debias`: Whether to take the noise of few samples out of spectral norms; False is as published.
    """

    def __init__(self, *, debias: bool = False) -> None:
        self._debias = debias
        self._covariances: list[_Covariance] = []
        self._grams: list[_Gram] = []
        self._numbers: list[_Number] = []
        self._unmeasured: dict[int, str] = {}
        self._joined: dict[int, str] = {}
        self._directions: dict[int, int] = {}

    def add_features(self, block: Block, features: Tensor) -> None:
        """Measure the covariance of a block's output."""
        matrix = covariance(_as_samples(block, features))
        is_of_samples = matrix.shape[0] != features.shape[block.channel_axis]
        self._numbers.append(_Number(block.index, "variance", matrix.diagonal().sum()))
        self._directions[block.index] = matrix.shape[0]
        self._covariances.append(_Covariance(block.index, solvable(matrix), is_of_samples))
        self._reduce_if_large()

    def add_gradient(self, previous: Block, block: Block, g_in: Tensor, g_out: Tensor) -> None:
        """Measure a block's Jacobian from its output gradient and its input gradient."""
        rank_in, rank_out = g_in.dim(), g_out.dim()
        g_in, g_out = _as_samples(previous, g_in), _as_samples(block, g_out)
        if g_in.shape[0] != g_out.shape[0]:  # patches that became samples, as in MobileViT
            became = f"{g_in.shape[0]} become {g_out.shape[0]}"
            self.skip(block, f"the samples of block {block.name!r} cannot be matched ({became})")
            return
        grid_in, grid_out = tuple(g_in.shape[1:-1]), tuple(g_out.shape[1:-1])
        are_tokens = previous.channel_axis == rank_in - 1 and block.channel_axis == rank_out - 1
        matching = match(grid_in, grid_out, are_tokens=are_tokens)
        if matching is None:
            sizes = ["x".join(map(str, grid)) for grid in (grid_in, grid_out)]
            self.skip(block, f"the positions of block {block.name!r} cannot be matched ({sizes[0]} become {sizes[1]})")
            return
        gram = jacobian_gram(g_in, g_out, matching, with_signal=self._debias)
        self._numbers.append(_Number(block.index, "is_identity", gram.is_identity))
        self._grams.append(_Gram(block.index, gram.matrix, gram.signal))
        self._reduce_if_large()

    def add_joined(self, previous: Block, block: Block, before: Tensor, after: Tensor) -> None:
        """Compare the outputs of two blocks, the second of which also reads what others made of the samples.

        Where gradients pass unchanged and the outputs differ, it adds the end of another path to its input (TNT adds
        what it has computed on pixels to its tokens), and its Jacobian says nothing of what it computes.
        """
        if before.shape == after.shape:
            self._numbers.append(_Number(block.index, "differs", (before != after).any()))
            self._joined[block.index] = (
                f"block {block.name!r} adds to the output of block {previous.name!r} what does not depend on it"
            )

    def add_zero_gradient(self, block: Block, device: torch.device) -> None:
        """Record that nothing passes through a block."""
        self._numbers.append(_Number(block.index, "sigma", torch.zeros((), device=device)))

    def skip(self, block: Block, reason: str) -> None:
        """Record why a block's Jacobian is not measured."""
        self._unmeasured[block.index] = reason

    def finish(self, blocks: Sequence[Block]) -> tuple[BlockEvidence, ...]:
        """Bring everything to the host, in one transfer."""
        self._reduce()
        found: dict[int, dict[str, float]] = {block.index: {} for block in blocks}
        device = self._numbers[0].value.device if self._numbers else torch.device("cpu")
        values = [number.value.to(device, torch.float32) for number in self._numbers]
        for number, value in zip(self._numbers, torch.stack(values).tolist() if values else (), strict=True):
            found[number.block][number.field] = value
        return tuple(self._evidence(block, found[block.index]) for block in blocks)

    def _evidence(self, block: Block, numbers: Mapping[str, float]) -> BlockEvidence:
        is_identity = bool(numbers.get("is_identity", 0.0))
        is_joint = is_identity and bool(numbers.get("differs", 0.0))
        return BlockEvidence(
            name=block.name,
            entropy=numbers.get("entropy"),
            is_singular=bool(numbers.get("is_singular", 0.0)),
            directions=self._directions.get(block.index),
            variance=numbers.get("variance"),
            sigma=None if is_joint else numbers.get("sigma"),
            is_identity=is_identity and not is_joint,
            unmeasured=self._joined[block.index] if is_joint else self._unmeasured.get(block.index, ""),
        )

    def _matrices(self) -> list[Tensor]:
        return [entry.matrix for entry in self._covariances] + [entry.matrix for entry in self._grams]

    def _reduce_if_large(self) -> None:
        """Free the matrices of a very wide or deep network early, although that waits for the device."""
        matrices = self._matrices()
        if sum(matrix.numel() * matrix.element_size() for matrix in matrices) > _PENDING_BYTES:
            self._reduce()

    def _reduce(self) -> None:
        """Replace the matrices by numbers, still on the device; matrices of one size are solved together."""
        found = spectra(self._matrices())
        for entry, spectrum in zip(self._covariances, found, strict=False):
            value, is_singular = entropy(spectrum)
            self._numbers.append(_Number(entry.block, "entropy", value))
            if not entry.is_of_samples:  # that matrix has an eigenvalue 0 by its making: the samples are centred
                self._numbers.append(_Number(entry.block, "is_singular", is_singular))
        for gram, spectrum in zip(self._grams, found[len(self._covariances) :], strict=True):
            square = squared_norm(spectrum)
            if gram.signal is not None:
                square = square * gram.signal
            self._numbers.append(_Number(gram.block, "sigma", square.sqrt()))
        self._covariances.clear()
        self._grams.clear()


def _as_samples(block: Block, tensor: Tensor) -> Tensor:
    """Return a tensor of a block's feature map with the batch in front and the channels at the end.

    It is float32. Where the batch stood behind it is copied in that order: sums are then those of the same network with
    it in front.
    """
    arranged = tensor.float().movedim((block.batch_axis, block.channel_axis), (0, -1))
    return arranged.contiguous() if block.batch_axis else arranged
