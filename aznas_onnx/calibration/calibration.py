"""A calibration: networks with a measured value, and the settings that they were scored with.

The label-free scores stay label-free; a calibration is what they are compared with where somebody has measured.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aznas_onnx.caches import cached
from aznas_onnx.calibration.network_traits import NETWORK_TRAITS, TRAIT_SCALES
from aznas_onnx.calibration.regression import Covariance, Regression
from aznas_onnx.documents import JsonObject, finite, parse_json, read_text, table, text, whole
from aznas_onnx.errors import SettingsError
from aznas_onnx.scoring import METHOD_VERSION, ScoreOptions, other_method

__all__ = ["BUNDLED_CALIBRATIONS", "Calibration", "MeasuredNetwork", "find_calibration"]

BUNDLED_CALIBRATIONS = ("imagenet",)
_SCHEMA = "aznas.calibration/1"
_FEWEST = 8
_DIGITS = 6
_START = 4096  # characters, among which a calibration has its schema


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredNetwork:
    """A network with a measured value.

    - `name`: Of the network.
    - `family`: Networks of one family have a part of their value in common that no trait tells.
    - `recipe`: How it was trained; likewise.
    - `value`: As measured.
    - `macs`, `params`: Multiply-adds of one sample, and trainable parameters.
    - `traits`: In the order of :data:`~aznas_onnx.calibration.network_traits.NETWORK_TRAITS`.
    """

    name: str
    family: str
    recipe: str
    value: float
    macs: int
    params: int
    traits: tuple[float, ...]

    def as_json(self) -> JsonObject:
        """Return it as JSON values."""
        return {
            "network": self.name,
            "family": self.family,
            "recipe": self.recipe,
            "value": self.value,
            "macs": self.macs,
            "params": self.params,
            "traits": [float(f"{one:.{_DIGITS}g}") for one in self.traits],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> MeasuredNetwork:
        """Read back what :meth:`as_json` wrote."""
        traits = data["traits"]
        if not isinstance(traits, list) or len(traits) != len(NETWORK_TRAITS):
            raise ValueError(f"{len(NETWORK_TRAITS)} traits are needed")
        return cls(
            name=text(data["network"]),
            family=text(data["family"]),
            recipe=text(data["recipe"]),
            value=finite(data["value"]),
            macs=whole(data["macs"]),
            params=whole(data["params"]),
            traits=tuple(map(finite, traits)),
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Measured networks, and what follows for others.

    Attributes
    ----------
    name
        Of the calibration.
    measure
        What was measured, with its unit: ``ImageNet top-1 accuracy in percent``.
    recipe
        The recipe that estimates are for.
    effort, batch_size
        That the networks were scored with.
    networks
        The measured networks.
    covariance
        Of the regression.
    interval_scale
        Standard deviations of the regression on either side of a 90 % interval; from families that were left out.
    method
        Version of the scoring method.
    """

    name: str
    measure: str
    recipe: str
    effort: str
    batch_size: int
    networks: tuple[MeasuredNetwork, ...]
    covariance: Covariance = field(default_factory=Covariance)
    interval_scale: float = 1.645
    method: int = METHOD_VERSION

    def __post_init__(self) -> None:
        if len(self.networks) < _FEWEST:
            raise SettingsError(
                f"calibration {self.name!r} has {len(self.networks)} networks; {_FEWEST} or more are needed"
            )

    @cached_property
    def regression(self) -> Regression:
        """The regression on its networks."""
        return Regression(
            traits=np.array([one.traits for one in self.networks]),
            scales=np.array(TRAIT_SCALES),
            values=np.array([one.value for one in self.networks]),
            recipes=np.array([one.recipe for one in self.networks]),
            families=np.array([one.family for one in self.networks]),
            covariance=self.covariance,
        )

    @cached_property
    def plain_values(self) -> npt.NDArray[np.float64]:
        """(n_networks,): the value that each network would have under :attr:`recipe`, its own family's effect kept."""
        own = self.regression
        return own.predict(own.traits, [self.recipe] * len(self.networks), list(own.families)).mean

    def options(self) -> ScoreOptions:
        """Return the options of scoring that compare with it."""
        return {"effort": self.effort, "batch_size": self.batch_size}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, one network a line."""
        head = {
            "schema": _SCHEMA,
            "name": self.name,
            "measure": self.measure,
            "recipe": self.recipe,
            "method": self.method,
            "effort": self.effort,
            "batch_size": self.batch_size,
            "covariance": self.covariance.as_json(),
            "interval_scale": self.interval_scale,
            "traits": list(NETWORK_TRAITS),
        }
        lines = ",\n".join(json.dumps(one.as_json()) for one in self.networks)
        start = json.dumps(head, indent=1)[:-2]
        Path(path).write_text(f'{start},\n "networks": [\n{lines}\n]}}\n', encoding="utf-8")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read a calibration from a file; raise SettingsError if it is none."""
        return cls.parse(read_text(Path(path), "a calibration"), os.fspath(path))

    @classmethod
    def parse(cls, content: str, name: str) -> Calibration:
        """Read a calibration from text.

        - `name`: For messages.
        """
        data = parse_json(content, name)
        if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
            raise SettingsError(f"{name} is no calibration of this version; it has no schema {_SCHEMA}")
        try:
            found = cls._of(data)
        except KeyError as error:
            raise SettingsError(f"{name} is damaged: it has no {error}") from error
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{name} is damaged: {error}") from error
        if found.method != METHOD_VERSION:
            raise SettingsError(f"{name} {other_method(found.method)}")
        return found

    @classmethod
    def _of(cls, data: JsonObject) -> Calibration:
        if tuple(data["traits"]) != NETWORK_TRAITS:
            raise ValueError("its traits are not those of this version")
        return cls(
            name=text(data["name"]),
            measure=text(data["measure"]),
            recipe=text(data["recipe"]),
            effort=text(data["effort"]),
            batch_size=whole(data["batch_size"]),
            networks=tuple(MeasuredNetwork.from_json(table(one)) for one in data["networks"]),
            covariance=Covariance.from_json(table(data["covariance"])),
            interval_scale=finite(data["interval_scale"]),
            method=whole(data["method"]),
        )


@cached(len(BUNDLED_CALIBRATIONS), "a gate of several models reads it for each, and inverts its covariance")
def _bundled(name: str) -> Calibration:
    stored = resources.files("aznas_onnx.calibration") / "data" / f"{name}.json"
    return Calibration.parse(stored.read_text(encoding="utf-8"), name)


def find_calibration(reference: str | os.PathLike[str]) -> Calibration | None:
    """Return a calibration by the name of a bundled one, or by the path of a file; None for another kind of file."""
    name = os.fspath(reference)
    if name in BUNDLED_CALIBRATIONS:
        return _bundled(name)
    return Calibration.read(name) if _is_calibration(name) else None


def _is_calibration(path: str) -> bool:
    """Whether a file begins as :meth:`Calibration.write` begins; false where it cannot be read."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return f'"{_SCHEMA}"' in file.read(_START)
    except (OSError, ValueError):
        return False
