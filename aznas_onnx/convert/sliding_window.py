"""The geometry of sliding windows, shared by convolutions and pooling."""

from __future__ import annotations

from dataclasses import dataclass

from aznas_onnx.graph.shapes.pool_sizes import count_windows

__all__ = ["Window", "to_torch_pads"]


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the spatial axes; each tuple has one entry an axis, `begin` and `end` are the pads."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    ceil: bool = False

    @property
    def is_symmetric(self) -> bool:
        """Whether the pads are the same on both sides, so that a torch operator can do the padding."""
        return self.begin == self.end and min(self.begin, default=0) >= 0

    @property
    def torch_pads(self) -> list[int]:
        """The pads in the order of ``F.pad``: last axis first, begin before end."""
        return to_torch_pads(self.begin, self.end)

    def output_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of windows on each axis of an input with these spatial sizes."""
        return tuple(self._count(axis, size) for axis, size in enumerate(sizes))

    def _count(self, axis: int, size: int) -> int:
        return count_windows(
            size,
            kernel=self.kernel[axis],
            stride=self.strides[axis],
            dilation=self.dilations[axis],
            begin=self.begin[axis],
            end=self.end[axis],
            ceil=self.ceil,
        )

    def covering_pads(self, sizes: tuple[int, ...]) -> list[int]:
        """Return pads, in the order of ``F.pad``, after which exactly the windows of `output_sizes` fit."""
        end = []
        for axis, (size, count) in enumerate(zip(sizes, self.output_sizes(sizes), strict=True)):
            extent = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            end.append((count - 1) * self.strides[axis] + extent - size - self.begin[axis])
        return to_torch_pads(self.begin, tuple(end))


def to_torch_pads(begin: tuple[int, ...], end: tuple[int, ...]) -> list[int]:
    """Return pads in the order of ``F.pad``: last axis first, begin before end."""
    return [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]
