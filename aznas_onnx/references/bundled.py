"""The bundled reference sets, and the lookup of a reference set by name."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from importlib import resources

from aznas_onnx.errors import UnknownNameError
from aznas_onnx.references.reference_set import ReferenceSet

__all__ = ["BUNDLED", "BundledReference", "find_reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledReference:
    """A reference set that ships: its name, content, and the arguments of `aznas reference build` that made it."""

    name: str
    description: str
    arguments: str

    @property
    def command(self) -> str:
        """The command that made the file."""
        return f'aznas reference build -o {self.name}.json --description "{self.description}" {self.arguments}'


_FAST = "--effort fast --device cpu"

BUNDLED = (
    BundledReference(
        name="nb201",
        description="NAS-Bench-201 cells at 32x32, drawn evenly",
        arguments=f"--space nb201 --sample 256 {_FAST}",
    ),
    BundledReference(
        name="mbv2-450M",
        description="ZenNAS's MobileNetV2 space at 224x224, 300M to 450M MACs, at most 14 layers",
        arguments=f"--space mbv2 --flops 300M:450M --layers :14 --sample 96 {_FAST}",
    ),
    BundledReference(
        name="mbv2-600M",
        description="ZenNAS's MobileNetV2 space at 224x224, 400M to 600M MACs, at most 14 layers",
        arguments=f"--space mbv2 --flops 400M:600M --layers :14 --sample 96 {_FAST}",
    ),
    BundledReference(
        name="mbv2-1000M",
        description="ZenNAS's MobileNetV2 space at 224x224, 667M to 1G MACs, at most 16 layers",
        arguments=f"--space mbv2 --flops 667M:1G --layers :16 --sample 96 {_FAST}",
    ),
    BundledReference(
        name="autoformer-tiny",
        description="AutoFormer-Tiny at 224x224, 4M to 6.2M parameters",
        arguments=f"--space autoformer-tiny --params 4M:6.2M --sample 96 {_FAST}",
    ),
    BundledReference(
        name="autoformer-small",
        description="AutoFormer-Small at 224x224, 21M to 24M parameters",
        arguments=f"--space autoformer-small --params 21M:24M --sample 64 {_FAST}",
    ),
    BundledReference(
        name="autoformer-base",
        description="AutoFormer-Base at 224x224, 52M to 56.5M parameters",
        arguments=f"--space autoformer-base --params 52M:56.5M --sample 40 {_FAST}",
    ),
)
"""The reference sets of the package. Slow networks have smaller sets."""


def find_reference(reference: str | os.PathLike[str]) -> ReferenceSet:
    """Return a reference set by the name of a bundled one, or by the path of a file.

    Raises
    ------
    UnknownNameError
        If it is neither.
    SettingsError
        If the file is not a reference set.

    Examples
    --------
    >>> find_reference("nb201").settings.input_shape
    (3, 32, 32)
    """
    text = os.fspath(reference)
    if text in {bundled.name for bundled in BUNDLED}:
        stored = resources.files("aznas_onnx.references") / "data" / f"{text}.json"
        return ReferenceSet.parse(stored.read_text(encoding="utf-8"), text)
    if os.path.lexists(text) or text.endswith(".json"):
        return ReferenceSet.read(text)
    names = [bundled.name for bundled in BUNDLED]
    close = difflib.get_close_matches(text, names, n=2, cutoff=0.4)
    meant = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
    raise UnknownNameError(
        f"there is no reference set {text!r}; {meant} (a file of your own is a path ending in .json)"
    )
