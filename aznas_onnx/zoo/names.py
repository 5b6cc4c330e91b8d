"""Names of networks: `LIBRARY:NETWORK`, or `LIBRARY:NETWORK@SIZE`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aznas_onnx.errors import SettingsError

__all__ = ["LIBRARIES", "ZooName", "is_name"]

LIBRARIES = ("timm", "torchvision")

_PREFIXES = tuple(f"{library}:" for library in LIBRARIES)
_PARTS = re.compile(
    r"(?P<library>\w+):(?P<network>[A-Za-z0-9][\w.-]*)(?:@(?P<height>\d{1,5})(?:x(?P<width>\d{1,5}))?)?", re.ASCII
)
_SMALLEST, _LARGEST = 16, 2048  # pixels


@dataclass(frozen=True, slots=True)
class ZooName:
    """The name of a network.

    - `library`: One of `LIBRARIES`.
    - `network`: As the library calls it; of timm also with a tag (`resnet50.a1_in1k`), which can change the input size
      and the number of classes.
    - `size`: Height and width of its input; None for the network's own.
    """

    library: str
    network: str
    size: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> ZooName:
        """Read a name; raise SettingsError if it has another form, or a size that no network has."""
        found = _PARTS.fullmatch(text)
        if found is None or found["library"] not in LIBRARIES:
            raise SettingsError(
                f"{text} is no name of a network; timm:resnet50 and torchvision:vit_b_16@224 are examples"
            )
        if found["height"] is None:
            return cls(found["library"], found["network"])
        size = int(found["height"]), int(found["width"] or found["height"])
        if not _SMALLEST <= min(size) <= max(size) <= _LARGEST:
            raise SettingsError(f"{text} has an input of {size[0]}x{size[1]}; {_SMALLEST} to {_LARGEST} is accepted")
        return cls(found["library"], found["network"], size)

    def __str__(self) -> str:
        if self.size is None:
            return f"{self.library}:{self.network}"
        height, width = self.size
        return f"{self.library}:{self.network}@{height}" + ("" if height == width else f"x{width}")


def is_name(text: str) -> bool:
    """Whether a text names a network of a library and no file; `./timm:mine.onnx` is a file."""
    return text.startswith(_PREFIXES)
