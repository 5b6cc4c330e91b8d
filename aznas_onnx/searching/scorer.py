"""Score the candidates of a space: build the network, then score it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from aznas_onnx.proxies import PROXIES, USER_PROXIES, describe_user_proxies
from aznas_onnx.results import ProxyScores
from aznas_onnx.spaces import Space, build_source

__all__ = ["ModelScorer"]


class ModelScorer:
    """The scorer that a search uses unless it is given another.

    Parameters
    ----------
    make_space
        Makes the space, in each process once; can be pickled.
    options
        Keyword arguments of :func:`aznas_onnx.scoring.score`.
    """

    def __init__(self, make_space: Callable[[], Space[Any]], options: Mapping[str, Any]) -> None:
        self._make_space = make_space
        self._options = dict(options)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the space behind: the class of one that is a file exists in this process only."""
        return {"_make_space": self._make_space, "_options": self._options}

    def describe(self) -> Mapping[str, Any]:
        """Return the options of scoring, their defaults filled in, and the size of the images.

        Of proxies that are not built in it says where they are, which way they point and what their code is.
        Of the device only the kind counts: two processes may score one study on two GPUs.
        """
        from aznas_onnx.scoring import ScoreSettings, resolve_device

        settings = ScoreSettings.of(**self._options).loaded()
        described = settings.as_json()
        own = describe_user_proxies(PROXIES.resolve(settings.proxies), PROXIES)
        if own:  # only then, so that studies from before are resumed
            described[USER_PROXIES] = own
        described["device"] = resolve_device(described["device"]).type
        described["resolution"] = self._space.resolution
        return described

    def prepare(self, threads: int | None) -> None:
        """Load torch and limit its threads."""
        import torch  # noqa: TID251  # loaded when scoring begins, in the process that scores

        if threads is not None:
            torch.set_num_threads(threads)

    def score(self, genotype: str) -> ProxyScores:
        """Build the network and score it."""
        from aznas_onnx.scoring import score

        model = build_source(self._space, self._space.parse(genotype))
        return replace(score(model, **self._options), model=genotype)

    @cached_property
    def _space(self) -> Space[Any]:
        return self._make_space()
