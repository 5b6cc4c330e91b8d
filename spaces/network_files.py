"""ONNX files as a space: a closed pool of networks, each with the name of its file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from aznas_onnx.errors import ModelError, SettingsError
from aznas_onnx.graph import Source
from aznas_onnx.graph.files.load import load
from aznas_onnx.limits import Limits
from aznas_onnx.spaces.base import GenotypeError, Space, choose
from aznas_onnx.spaces.building import quote
from aznas_onnx.zoo import file_of

__all__ = ["NetworkFiles"]

_PART_BYTES = 2**20


class NetworkFiles(Space[str]):
    """Networks in files; a genotype is the name of a file without its folder and ending.

    Parameters
    ----------
    files
        Paths of ONNX files, or names of networks of timm and torchvision, by name.

    Raises
    ------
    SettingsError
        If there is no file.
    """

    name = "networks"

    def __init__(self, files: Iterable[tuple[str, Path]]) -> None:
        super().__init__()
        self.resolution = 0  # each file has its own
        self._paths = dict(files)
        if not self._paths:
            raise SettingsError("no network is given; one ONNX file or more are needed")

    @classmethod
    def of(cls, paths: Iterable[str | os.PathLike[str]]) -> NetworkFiles:
        """Name files by their names without ending.

        Raises
        ------
        SettingsError
            If two files have the same name, or there is no file.
        """
        found: dict[str, Path] = {}
        for path in map(Path, paths):
            name = path.name.removesuffix(".onnx")
            if found.setdefault(name, path) != path:
                raise SettingsError(f"{found[name]} and {path} have the same name {name!r}; give one of them another")
        return cls(found.items())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the networks, in the order given."""
        return tuple(self._paths)

    def sample(self, rng: np.random.Generator) -> str:
        return choose(self.names, rng)

    def mutate(self, genotype: str, rng: np.random.Generator, changes: int = 1) -> str:
        self.validate(genotype)
        return choose([name for name in self.names if name != genotype] or self.names, rng)

    def parse(self, text: str) -> str:
        name = text.strip()
        self.validate(name)
        return name

    def format(self, genotype: str) -> str:
        self.validate(genotype)
        return genotype

    def validate(self, genotype: object) -> None:
        if genotype not in self._paths:
            raise GenotypeError(f"there is no file of network {quote(str(genotype))}; there is {quote(self.names[0])}")

    def build(self, genotype: str) -> onnx.ModelProto:
        """Return the network, without the data of large weights."""
        self.validate(genotype)
        return load(self._paths[genotype], Limits(), leaves_data=True).model

    def source(self, genotype: str) -> Source:
        self.validate(genotype)
        return self._paths[genotype]

    def digest(self, genotype: str) -> str:
        self.validate(genotype)
        try:
            found = hashlib.sha256()
            with file_of(self._paths[genotype]).open("rb") as stream:
                while part := stream.read(_PART_BYTES):
                    found.update(part)
            return found.hexdigest()
        except OSError as error:
            raise ModelError(f"{self._paths[genotype]} cannot be read: {error.strerror or error}") from error
