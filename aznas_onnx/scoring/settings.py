"""What a score depends on besides the model: the settings that results and histories carry along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aznas_onnx.errors import SettingsError
from aznas_onnx.graph import Value
from aznas_onnx.proxies import PROXIES
from aznas_onnx.scoring.device import resolve_device
from aznas_onnx.scoring.effort import Effort

__all__ = ["ScoreSettings"]

AUTOMATIC = "auto"
_LARGEST_SEED = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """How to score. Two scores are comparable if their settings are equal.

    Attributes
    ----------
    effort
        How spectral norms are estimated, and the batch size where :meth:`of` is given none.
    batch_size
        Samples in a batch. More are not only less noisy: with few samples in a small feature map the proxies are
        biased, so never compare across batch sizes.
    seeds
        How many times to draw weights, input and gradients.
    seed
        The first seed; the others count up from it.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:INDEX"`` or ``"mps"``.
    proxies
        Names of proxies, or of groups.
    blocks
        Patterns that name the primary blocks; empty to find them.
    input_shapes
        Pairs of an input's name and its shape, for dimensions that a file leaves open.
    cut_at
        Tensors or nodes to end the network at, instead of the file's outputs.
    values
        Pairs of an input's name and what it holds, where it steers the network.
    keep_graph
        Whether to leave normalisation folded where the exporter folded it.
    as_published
        Whether features with a singular covariance have no expressivity, as in the published code, instead of a low
        one. It depends on rounding, so it is for reproducing the paper only.
    """

    effort: Effort = Effort.PAPER
    batch_size: int = Effort.PAPER.batch_size
    seeds: int = 1
    seed: int = 0
    device: str = "auto"
    proxies: tuple[str, ...] = ("az",)
    blocks: tuple[str, ...] = ()
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    cut_at: tuple[str, ...] = ()
    values: tuple[tuple[str, Value], ...] = ()
    keep_graph: bool = False
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"the batch size is {self.batch_size}; 1 or more is accepted")
        if self.seeds < 1:
            raise SettingsError(f"the number of seeds is {self.seeds}; 1 or more is accepted")
        if not 0 <= self.seed <= _LARGEST_SEED - self.seeds:
            raise SettingsError(f"the seed is {self.seed}; 0 to {_LARGEST_SEED - self.seeds:,} is accepted")
        if self.as_published and self.effort is not Effort.PAPER:
            raise SettingsError(f"as_published goes with effort paper only, not with {self.effort.value}")
        if not PROXIES.resolve(self.proxies):
            raise SettingsError("no proxy is asked for; name one or more")

    @classmethod
    def of(
        cls,
        *,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        cut_at: Sequence[str] = (),
        values: Mapping[str, Value] | None = None,
        proxies: Sequence[str] | None = None,
        blocks: Sequence[str] = (),
        effort: str = Effort.PAPER.value,
        batch_size: int | None = None,
        device: str = "auto",
        **others: Any,
    ) -> ScoreSettings:
        """Make settings from the arguments of :func:`aznas_onnx.scoring.score`.

        The effort ``"auto"`` is balanced on a CPU and that of the paper elsewhere.
        """
        level = _effort(effort, device)
        shapes = tuple((name, tuple(shape)) for name, shape in (input_shapes or {}).items())
        return cls(
            effort=level,
            batch_size=level.batch_size if batch_size is None else batch_size,
            device=device,
            input_shapes=shapes,
            cut_at=tuple(cut_at),
            values=tuple((values or {}).items()),
            proxies=tuple(proxies or ("az",)),
            blocks=tuple(blocks),
            **others,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON would write them."""
        given = {"cut_at": list(self.cut_at), "values": dict(self.values)}
        return {
            "effort": self.effort.value,
            "batch_size": self.batch_size,
            "seeds": self.seeds,
            "seed": self.seed,
            "device": self.device,
            "proxies": [proxy.name for proxy in PROXIES.resolve(self.proxies)],
            "blocks": list(self.blocks),
            "input_shapes": {name: list(shape) for name, shape in self.input_shapes},
            "keep_graph": self.keep_graph,
            "as_published": self.as_published,
            **{
                name: value for name, value in given.items() if value
            },  # only then, so that studies from before are resumed
        }


def _effort(name: str, device: str) -> Effort:
    if name == AUTOMATIC:
        return Effort.BALANCED if resolve_device(device).type == "cpu" else Effort.PAPER
    try:
        return Effort(name)
    except ValueError as error:
        accepted = ", ".join([*(effort.value for effort in Effort), AUTOMATIC])
        raise SettingsError(f"effort {name!r} is not one of {accepted}") from error
