"""The contract of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from aznas_onnx.caches import cached
from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Source
from aznas_onnx.spaces.building import build_source

__all__ = ["GenotypeError", "Space", "SpaceOptions", "choose"]

G = TypeVar("G", bound=Hashable)
T = TypeVar("T")


SpaceOptions: TypeAlias = Mapping[str, Any]
"""Keyword arguments of a space's class; those of a user space are its own."""


class GenotypeError(SettingsError):
    """A genotype is not in the space: the message has the value found and the accepted values."""


class Space(ABC, Generic[G]):
    """A set of architectures, each described by a genotype and built as ONNX.

    A genotype is a frozen, hashable value; equal architectures have equal genotypes as far as the notation allows.
    Random choices come from the passed generator alone. A space is cheap to make and has no state but its options, so a
    worker process makes its own.

    A new space implements the abstract methods; the counts have defaults that build the network and count its graph.
    Override them with formulas where possible.

    Parameters
    ----------
    resolution
        Height and width of the input image, or the number of tokens; the space's own default where None.
    num_classes
        Outputs of the classifier, or the vocabulary of a language model; the space's own default where None.

    Raises
    ------
    SettingsError
        If an option is not a positive integer.
    """

    name: ClassVar[str]
    """Name of the space; also the name of the graphs it builds."""

    columns: ClassVar[tuple[str, ...]] = ()
    """Columns of a truth file that together are a genotype; its notation is then a JSON object of them."""

    output_meaning: ClassVar[str] = "logits of the classes"
    """What the output holds, for the card of an exported network."""

    default_resolution: ClassVar[int] = 224
    default_num_classes: ClassVar[int] = 1000

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "build" in vars(cls) and "source" not in vars(cls):
            cls.source = Space.source  # type: ignore[method-assign]  # an inherited one would give the old networks

    def __init__(self, *, resolution: int | None = None, num_classes: int | None = None) -> None:
        self.resolution = self.default_resolution if resolution is None else resolution
        self.num_classes = self.default_num_classes if num_classes is None else num_classes
        self.require_positive("resolution", "num_classes")

    def require_positive(self, *options: str) -> None:
        """Raise SettingsError unless the options, which are attributes, are positive integers."""
        for option in options:
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingsError(f"space {self.name!r}: {option} is {value!r}; a positive integer is needed")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the input: a color image, unless the space overrides it."""
        return (3, self.resolution, self.resolution)

    @property
    def vocabulary(self) -> int | None:
        """Number of token ids where the input is ids; None where it is an image."""
        return None

    def random_input(self, rng: np.random.Generator, count: int) -> npt.NDArray[Any]:
        """Return an input of `count` random samples: normal numbers, or ids of the vocabulary."""
        shape = (count, *self.input_shape)
        if self.vocabulary is None:
            return rng.standard_normal(shape).astype(np.float32)
        return rng.integers(self.vocabulary, size=shape)

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> G:
        """Sample a genotype at random, as the space's authors do."""

    @abstractmethod
    def mutate(self, genotype: G, rng: np.random.Generator, changes: int = 1) -> G:
        """Return a genotype of the space near `genotype`, made by up to `changes` elementary changes."""

    @abstractmethod
    def parse(self, text: str) -> G:
        """Read a genotype in the notation of the field; the inverse of :meth:`format`.

        Raises
        ------
        GenotypeError
            If the text is not a genotype of the space.
        """

    @abstractmethod
    def format(self, genotype: G) -> str:
        """Write a genotype on one line."""

    @abstractmethod
    def validate(self, genotype: object) -> None:
        """Check that an object is a genotype and belongs to the space.

        Raises
        ------
        GenotypeError
            If it does not.
        """

    @abstractmethod
    def build(self, genotype: G) -> onnx.ModelProto:
        """Return the network: valid ONNX of opset 17 or newer with a symbolic batch and no weight data.

        The outputs of the primary blocks stand in the model's metadata
        (:meth:`~aznas_onnx.graph.building.builder.GraphBuilder.declare_block`).

        Raises
        ------
        GenotypeError
            If the genotype does not belong to the space.
        """

    def source(self, genotype: G) -> Source:
        """Return the network to score: the model of :meth:`build`, its typed graph, or the path of its file.

        A space that builds its networks with :class:`~aznas_onnx.graph.building.builder.GraphBuilder` can return
        ``network.graph()`` here where :meth:`build` returns ``network.model()``; a search then reads faster.
        """
        return self.build(genotype)

    def start(self, rng: np.random.Generator) -> G:
        """Return the genotype that an evolutionary search starts from; a random one unless the space names one."""
        return self.sample(rng)

    def macs(self, genotype: G) -> int:
        """Return the multiply-adds of the graph for one sample."""
        return self._counts(genotype)[0]

    def params(self, genotype: G) -> int:
        """Return the number of trainable parameters."""
        return self._counts(genotype)[1]

    def layers(self, genotype: G) -> int:
        """Return the depth for a budget on layers: the number of primary blocks, unless the space overrides it."""
        return self._counts(genotype)[2]

    def paper_flops(self, genotype: G) -> int | None:
        """Return the FLOPs in the convention of the paper's authors, or None where they have none for this space."""
        return None

    def canonical(self, genotype: G) -> str | None:
        """Return a text that is the same for genotypes of one architecture, or None where the space defines none.

        A search scores one genotype for each text, and :func:`aznas_onnx.evaluation.bench` with `unique` keeps one, so
        different networks need different texts.
        """
        return None

    def digest(self, genotype: G) -> str | None:
        """Return a digest of the network where it can change under the same genotype, as in a file; else None."""
        return None

    def _counts(self, genotype: G) -> tuple[int, int, int]:
        """Return multiply-adds, parameters and primary blocks of the built graph."""
        return _count_built(self, genotype)


def choose(values: Sequence[T], rng: np.random.Generator) -> T:
    """Return one of `values` with equal probability; for :meth:`Space.sample` and :meth:`Space.mutate`."""
    return values[int(rng.integers(len(values)))]


@cached(128, "MACs, parameters and blocks of a candidate need one reading")
def _count_built(space: Space[Any], genotype: Any) -> tuple[int, int, int]:
    from aznas_onnx.costs import count
    from aznas_onnx.graph import prepare

    model = prepare(build_source(space, genotype))
    costs = count(model)
    return costs.macs, costs.params, len(model.declared_blocks)
