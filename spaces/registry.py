"""The registry of spaces."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from aznas_onnx.errors import AznasError, SettingsError, UnknownNameError
from aznas_onnx.spaces.base import Space, SpaceOptions
from aznas_onnx.spaces.user_spaces import smoke_test
from aznas_onnx.user_modules import RAISED, execute, summary

__all__ = ["BUNDLED", "ENTRY_POINT_GROUP", "SpaceRecord", "get", "records"]

ENTRY_POINT_GROUP = "aznas_onnx.spaces"
_FILE_ATTRIBUTE = "SPACE"  # the name of the space in a user's file

Factory: TypeAlias = "Callable[..., Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceRecord:
    """A known space.

    Attributes
    ----------
    name
        Name for :func:`get`.
    target
        ``module:attribute`` of a class or function that makes the space from its options; imported on request.
    description
        One line.
    """

    name: str
    target: str
    description: str


BUNDLED = (
    SpaceRecord(
        name="nb201",
        target="aznas_onnx.spaces.nb201:NasBench201",
        description="NAS-Bench-201 cells for 32x32 images (15,625 networks)",
    ),
    SpaceRecord(
        name="mbv2",
        target="aznas_onnx.spaces.mbv2:MobileNetV2",
        description="ZenNAS's MobileNetV2 super-blocks for ImageNet",
    ),
    SpaceRecord(
        name="darts",
        target="aznas_onnx.spaces.darts:Darts",
        description="DARTS cells for CIFAR or ImageNet, at the size of NAS-Bench-301 or another",
    ),
    SpaceRecord(
        name="nats-sss",
        target="aznas_onnx.spaces.nats_sss:NatsBenchSize",
        description="NATS-Bench's size space: the five widths of a network for 32x32 images (32,768 networks)",
    ),
    SpaceRecord(
        name="nb101",
        target="aznas_onnx.spaces.nb101:NasBench101",
        description="NAS-Bench-101 cells for 32x32 images (423,624 networks)",
    ),
    SpaceRecord(
        name="transnas-micro",
        target="aznas_onnx.spaces.transnas_micro:TransNasMicro",
        description="TransNAS-Bench-101 cells in its classification networks (4,096 networks)",
    ),
    SpaceRecord(
        name="transnas-macro",
        target="aznas_onnx.spaces.transnas_macro:TransNasMacro",
        description="TransNAS-Bench-101 backbones of residual blocks (3,256 networks)",
    ),
    SpaceRecord(
        name="autoformer-tiny",
        target="aznas_onnx.spaces.autoformer:AutoFormerTiny",
        description="AutoFormer's vision transformers, 12 to 14 layers of 192 to 240 channels",
    ),
    SpaceRecord(
        name="autoformer-small",
        target="aznas_onnx.spaces.autoformer:AutoFormerSmall",
        description="AutoFormer's vision transformers, 12 to 14 layers of 320 to 448 channels",
    ),
    SpaceRecord(
        name="autoformer-base",
        target="aznas_onnx.spaces.autoformer:AutoFormerBase",
        description="AutoFormer's vision transformers, 14 to 16 layers of 528 to 624 channels",
    ),
    SpaceRecord(
        name="nb-macro",
        target="aznas_onnx.spaces.nb_macro:NasBenchMacro",
        description="NAS-Bench-Macro's eight layers for 32x32 images (6,561 networks)",
    ),
    SpaceRecord(
        name="mnasnet",
        target="aznas_onnx.spaces.mnasnet:MnasNet",
        description="MnasNet and EfficientNet stages for ImageNet: expansion, kernel, layers, squeeze-and-excitation",
    ),
    SpaceRecord(
        name="vit",
        target="aznas_onnx.spaces.vit:PlainAutoFormer",
        description="ViT-Bench-101's AutoFormer subnets: no relative positions",
    ),
    SpaceRecord(
        name="pit",
        target="aznas_onnx.spaces.pit:PiT",
        description="ViT-Bench-101's pooling-based vision transformers (1,600 networks)",
    ),
    SpaceRecord(
        name="bert",
        target="aznas_onnx.spaces.bert:BertSpace",
        description="FlexiBERT's encoders for texts, with attention, transforms and dynamic-span convolution",
    ),
    SpaceRecord(
        name="gpt",
        target="aznas_onnx.spaces.gpt:GptSpace",
        description="GPT-2 with free sizes, as in LiteTransformerSearch: decoder-only language models",
    ),
)
"""The spaces that come with this package."""


def records() -> tuple[SpaceRecord, ...]:
    """Return every known space: the bundled ones, then those that installed packages offer by entry point.

    A package cannot replace a bundled space or one that was found before it.
    """
    found = {record.name: record for record in BUNDLED}
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        package = "" if point.dist is None else f" (from {point.dist.name})"
        record = SpaceRecord(name=point.name, target=point.value, description=f"installed space{package}")
        found.setdefault(point.name, record)
    return tuple(found.values())


def get(name: str | os.PathLike[str], **options: Any) -> Space[Any]:
    """Return a search space.

    Parameters
    ----------
    name
        Name of a bundled or installed space, or the path of a Python file (one that ends in ``.py``) whose attribute
        ``SPACE`` is a subclass of :class:`Space` or a function that returns one. The file is executed.
    options
        `resolution`, `num_classes` and other options of the space.

    Raises
    ------
    UnknownNameError
        If no space has that name.
    SettingsError
        If an option is unknown or not accepted, the file cannot be loaded, or the smoke test of a user space fails.

    Examples
    --------
    >>> get("nb201", num_classes=100).num_classes
    100
    """
    text = os.fspath(name)
    factory = _from_file(Path(text)) if text.endswith(".py") else _from_record(_find(text))
    _check_factory(text, factory)
    _check_options(text, factory, options)
    try:
        space = factory(**options)
    except AznasError:
        raise
    except RAISED as error:
        raise SettingsError(f"space {text!r} cannot be made: {summary(error)}") from error
    if not isinstance(space, Space):
        found = type(space).__name__
        raise SettingsError(f"space {text!r} gives a {found}; a subclass of aznas_onnx.spaces.Space is needed")
    smoke_test(space)
    return space


def _find(name: str) -> SpaceRecord:
    for record in BUNDLED:  # reading the entry points of all installed packages takes longer than making a space
        if record.name == name:
            return record
    known = {record.name: record for record in records()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    meant = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
    raise UnknownNameError(f"there is no space {name!r}; {meant} (a space in a file is a path that ends in .py)")


def _from_record(record: SpaceRecord) -> Factory:
    try:
        factory: Factory = metadata.EntryPoint(record.name, record.target, ENTRY_POINT_GROUP).load()
    except RAISED as error:
        raise SettingsError(f"space {record.name!r} fails to load from {record.target}: {summary(error)}") from error
    return factory


def _from_file(path: Path) -> Factory:
    # Two gets of one space share their genotype's class, because a file is executed once.
    factory: Factory | None = getattr(execute(path, "space"), _FILE_ATTRIBUTE, None)
    if not callable(factory):
        raise SettingsError(f"space file {path} defines no space; let its last line be {_FILE_ATTRIBUTE} = YourSpace")
    return factory


def _check_factory(name: str, factory: Factory) -> None:
    """Raise a sentence on the missing methods of a class, before Python raises a traceback."""
    missing = ", ".join(sorted(getattr(factory, "__abstractmethods__", ())))
    if missing:
        raise SettingsError(f"space {name!r}: class {factory.__name__} does not define {missing}")
    if inspect.isclass(factory) and issubclass(factory, Space) and not isinstance(getattr(factory, "name", None), str):
        raise SettingsError(f"space {name!r}: class {factory.__name__} has no name; let it define one as a string")


def _check_options(name: str, factory: Factory, options: SpaceOptions) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # of a class written in C
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        accepted = ", ".join(signature.parameters) or "none"
        raise SettingsError(f"space {name!r}: {error}; options are {accepted}") from error
