"""The input size and batch size under which scores compare."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph import Limits, Model
from aznas_onnx.scoring import ScoreSettings

__all__ = ["NetworksToScore", "SampleInput"]

Path = str | os.PathLike[str]
_KEPT_BYTES = 2**29  # of networks that wait to be scored
_NODE_BYTES = 2**12  # of one that waits, beside its constants


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleInput:
    """The input of a network with the samples.

    - `shape`: Of one sample.
    - `only_batch`: The only batch size that the network works at, if there is one.
    """

    shape: tuple[int, ...]
    only_batch: int | None = None

    @classmethod
    def of(cls, model: Model) -> SampleInput:
        """Return the input of a network that was read."""
        plan = model.inputs
        return cls(shape=plan.sample_shape, only_batch=plan.declared_batch if model.fixed_batch else None)

    def refuse_other_batch(self, batch_size: int, *, of: str) -> None:
        """Refuse a network that would be scored at its own batch size and not at this one.

        Raises SettingsError: Names it and the remedy.
        """
        if self.only_batch not in (None, batch_size):
            raise SettingsError(
                f"{of} works at batch size {self.only_batch} only, and the reference is scored at {batch_size}; "
                f"export it with an open batch, or build a reference set at batch size {self.only_batch}"
            )


class NetworksToScore:
    """Networks whose inputs are compared before the first is scored.

    A network that was read for that is scored as it was read, and not read again, as long as those that wait take
    512 MiB together at most.

    - `sources`: Paths.
    - `settings`, `limits`: How they are read.
    """

    def __init__(self, sources: Sequence[Path], settings: ScoreSettings, limits: Limits | None = None) -> None:
        self._sources = sources
        self._settings = settings
        self._limits = limits
        self._waiting: dict[str, Model] = {}
        self._left_bytes = _KEPT_BYTES

    def inputs(self) -> Iterator[tuple[str, SampleInput]]:
        """Yield path and input of each network; unreadable ones are left out, and scoring reports the reason."""
        for path in [os.fspath(source) for source in self._sources]:
            try:
                model = self._settings.read(path, self._limits)
            except ModelError:
                continue
            size_bytes = _size_bytes(model)
            if size_bytes <= self._left_bytes and path not in self._waiting:
                self._waiting[path] = model
                self._left_bytes -= size_bytes
            yield path, SampleInput.of(model)

    def common_input_shape(self) -> tuple[int, ...]:
        """Return the shape of one sample that all networks take.

        Raises SettingsError if their inputs differ, or one works at another batch size only.
        """
        kinds: dict[tuple[int, ...], str] = {}
        for name, found in self.inputs():
            found.refuse_other_batch(self._settings.batch_size, of=name)
            kinds.setdefault(found.shape, name)
        if len(kinds) > 1:
            sizes = " and ".join(f"{'x'.join(map(str, shape))} ({name})" for shape, name in list(kinds.items())[:2])
            raise SettingsError(f"the networks of a reference set must have one input size, and these have {sizes}")
        return next(iter(kinds), ())

    def __iter__(self) -> Iterator[Path | Model]:
        """Yield each network once, as it was read where it waits."""
        for source in self._sources:
            yield self._waiting.pop(os.fspath(source), source)


def _size_bytes(model: Model) -> int:
    held = (one for one in model.graph.constants.values() if one.read is not None and one.origin is None)
    return sum(one.elements * one.dtype.itemsize for one in held) + _NODE_BYTES * len(model.graph.nodes)
