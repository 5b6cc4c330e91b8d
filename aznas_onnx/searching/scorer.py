"""Score the candidates of a space: build the network, then score it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from aznas_onnx import scoring
from aznas_onnx.documents import JsonObject
from aznas_onnx.limits import within
from aznas_onnx.proxies import PROXIES, USER_PROXIES
from aznas_onnx.results import ProxyScores
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.spaces import Space, build_source

__all__ = ["ModelScorer"]


class ModelScorer:
    """The scorer that a search uses unless it is given another.

    Parameters
    ----------
    make_space
        Makes the space, in each process once; can be pickled.
    settings
        How to score.
    time_limit
        Seconds that reading, and an estimated pass, may take; None for the usual limits.
    """

    def __init__(
        self, make_space: Callable[[], Space[Any]], settings: ScoreSettings, time_limit: float | None = None
    ) -> None:
        self._make_space = make_space
        self._settings = settings
        self._time_limit = time_limit

    def __reduce__(self) -> tuple[object, ...]:
        """Leave the space behind: the class of one that is a file exists in this process only."""
        return ModelScorer, (self._make_space, self._settings, self._time_limit)

    def describe(self) -> JsonObject:
        """Return the settings of scoring and the size of the images.

        User proxies have their file, direction and a digest of their code. Of the device only the kind counts: two
        processes can score one study on two GPUs.
        """
        settings = self._settings.loaded()
        own = PROXIES.describe_user_proxies(PROXIES.resolve(settings.proxies))
        return {
            **settings.as_json(),
            **(
                {USER_PROXIES: {name: one.as_json() for name, one in own.items()}} if own else {}
            ),  # only then, so that studies from before are resumed
            "device": scoring.resolve_device(settings.device, bf16=settings.bf16).type,
            "resolution": self._space.resolution,
        }

    def prepare(self, threads: int | None) -> None:
        """Load torch and limit its threads."""
        import torch  # noqa: TID251  # loaded when scoring begins, in the process that scores

        if threads is not None:
            torch.set_num_threads(threads)

    def score(self, genotype: str) -> ProxyScores:
        """Build the network and score it."""
        model = build_source(self._space, self._space.parse(genotype))
        scores = scoring.score(model, settings=self._settings, limits=within(self._time_limit))
        return replace(scores, model=genotype)

    @cached_property
    def _space(self) -> Space[Any]:
        return self._make_space()
