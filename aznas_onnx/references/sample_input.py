"""The input size and batch size under which scores compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph import Limits, Source, prepare
from aznas_onnx.scoring import ScoreSettings

__all__ = ["SampleInput", "common_input_shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleInput:
    """The input of a network with the samples.

    Attributes
    ----------
    shape
        Of one sample.
    only_batch
        The only batch size that the network works at, if there is one.
    """

    shape: tuple[int, ...]
    only_batch: int | None = None

    @classmethod
    def of(cls, source: Source, settings: ScoreSettings, limits: Limits | None) -> SampleInput:
        """Read a network as it would be scored; raise ModelError if it cannot be read."""
        model = prepare(
            source,
            input_shapes=dict(settings.input_shapes),
            cut_at=settings.cut_at,
            values=dict(settings.values),
            keep_graph=settings.keep_graph,
            limits=limits,
        )
        plan = model.inputs
        return cls(shape=plan.sample_shape, only_batch=plan.declared_batch if model.fixed_batch else None)

    def refuse_other_batch(self, batch_size: int, *, of: str) -> None:
        """Refuse a network that would be scored at its own batch size and not at this one.

        Raises
        ------
        SettingsError
            Names it and the remedy.
        """
        if self.only_batch not in (None, batch_size):
            raise SettingsError(
                f"{of} works at batch size {self.only_batch} only, and the reference is scored at {batch_size}; "
                f"export it with an open batch, or build a reference at batch size {self.only_batch}"
            )


def common_input_shape(
    sources: Iterable[tuple[str, Source]], settings: ScoreSettings, limits: Limits | None
) -> tuple[int, ...]:
    """Return the shape of one sample that all networks take; those that cannot be read are left to scoring.

    Raises SettingsError if their inputs differ, or one works at another batch size only.
    """
    kinds: dict[tuple[int, ...], str] = {}
    for name, source in sources:
        try:
            found = SampleInput.of(source, settings, limits)
        except ModelError:  # scoring gives the reason why it cannot be read
            continue
        found.refuse_other_batch(settings.batch_size, of=name)
        kinds.setdefault(found.shape, name)
    if len(kinds) > 1:
        told = " and ".join(f"{'x'.join(map(str, shape))} ({name})" for shape, name in list(kinds.items())[:2])
        raise SettingsError(f"the networks of a reference must have one input size, and these have {told}")
    return next(iter(kinds), ())
