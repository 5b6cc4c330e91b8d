"""What networks are fed: noise, images with the statistics of photographs, or a user's own samples."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aznas_onnx.documents import JsonObject, table
from aznas_onnx.documents import text as as_text
from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.proxies.sample_file import digest_of, read_samples

if TYPE_CHECKING:
    from aznas_onnx.graph import Model
    from aznas_onnx.proxies.sample_file import GivenSamples

__all__ = ["NATURAL", "NOISE", "Feed"]

NOISE, NATURAL = "noise", "natural"
_ENDING = ".npz"
_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What networks are fed. Two feeds are equal if they give a network equal samples.

    Attributes
    ----------
    kind
        ``"noise"``, ``"natural"``, or ``"file"``.
    path
        Of the user's samples. It can change, and does not count in comparisons.
    sha256
        Of the file at that path.

    Examples
    --------
    >>> from aznas_onnx.proxies.feed import Feed
    >>> Feed.of("natural").text
    'natural'
    """

    kind: str = NOISE
    path: str = field(default="", compare=False)
    sha256: str = ""

    @classmethod
    def of(cls, given: object) -> Feed:
        """Return a feed by its name, or by the path of an ``.npz`` file, which is read and checked.

        Raises SettingsError if it is neither, or the file does not hold samples.
        """
        if isinstance(given, Feed):
            return given
        name = os.fspath(given) if isinstance(given, str | os.PathLike) else given
        if name in (NOISE, NATURAL):
            return cls(kind=str(name))
        if not isinstance(name, str) or not name.endswith(_ENDING):
            raise SettingsError(f"the feed is {given!r}; noise, natural, or the path of an .npz file is accepted")
        return cls(kind="file", path=name, sha256=digest_of(name))

    @property
    def text(self) -> str:
        """What :meth:`of` takes for it."""
        return self.path or self.kind

    @property
    def identity(self) -> str:
        """What decides whether two feeds are equal."""
        return f"SHA-256 {self.sha256}" if self.sha256 else self.kind

    def __str__(self) -> str:
        return f"{self.path} (SHA-256 {self.sha256[:_SHOWN_DIGITS]}...)" if self.sha256 else self.kind

    def as_json(self) -> str | JsonObject:
        """Return the feed as JSON writes it."""
        return {"file": self.path, "sha256": self.sha256} if self.sha256 else self.kind

    @classmethod
    def from_json(cls, stored: object) -> Feed:
        """Read what :meth:`as_json` gave, not the file itself; raise TypeError, ValueError or KeyError if damaged."""
        if stored in (NOISE, NATURAL):
            return cls(kind=str(stored))
        fields = table(stored)
        return cls(kind="file", path=as_text(fields["file"]), sha256=as_text(fields["sha256"]))

    def samples(self) -> GivenSamples | None:
        """Return the user's samples; None where the samples are random.

        Raises SettingsError if the file is no longer what it was.
        """
        return read_samples(self.path, self.sha256) if self.sha256 else None

    def check(self, model: Model, batch_size: int) -> None:
        """Check that a network can be fed so.

        Raises ModelError if its input has another shape than the samples, or is no image.
        Raises SettingsError if there are fewer samples than the batch takes.
        """
        if self.kind == NOISE:
            return
        taken = model.inputs.shape_of_one(model.inputs.primary)
        given = self.samples()
        if given is None:
            if not is_image(taken):
                raise ModelError(
                    f"natural samples are images, and {model.name} takes {_sizes(taken)}; feed it noise or a file"
                )
            return
        if given.shape != taken:
            raise ModelError(
                f"{self.path} has samples of {_sizes(given.shape)}, and {model.name} takes {_sizes(taken)}"
            )
        if given.count < batch_size:
            raise SettingsError(
                f"{self.path} has {given.count} samples, and {model.name} is scored at batch size {batch_size}; "
                "give more samples, or a smaller batch size for all networks"
            )


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a sample of a shape is an image: three axes, two of them of positions."""
    return len(shape) == 3 and min(sorted(shape)[1:]) > 1


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "single numbers"
