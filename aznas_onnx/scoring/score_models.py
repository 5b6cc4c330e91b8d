"""Score one or many models to :class:`~aznas_onnx.results.ProxyScores`: a session for each."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import onnx

from aznas_onnx.errors import AznasError, SettingsError
from aznas_onnx.graph import Limits, Model, Source
from aznas_onnx.graph.files.load import source_name
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.scoring.device import resolve_device
from aznas_onnx.scoring.session import Session
from aznas_onnx.scoring.settings import ScoreOptions, ScoreSettings
from aznas_onnx.timing import Clock

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["attempt", "score", "score_many"]

_log = logging.getLogger(__name__)

Scorable: TypeAlias = "Source | Model"
"""A model to score: a path, a model in memory, or a prepared model."""


def score(
    source: Scorable,
    *,
    settings: ScoreSettings | None = None,
    limits: Limits | None = None,
    profile: bool = False,
    **options: Unpack[ScoreOptions],
) -> ProxyScores:
    """Score a model under random weights, fed Gaussian noise unless the settings say otherwise.

    Parameters
    ----------
    source
        Path of an ONNX file, a ModelProto, or a model from :func:`aznas_onnx.graph.prepare`, for which
        `input_shapes`, `cut_at`, `values` and `keep_graph` take no part. Weights are not used.
    settings
        How to score; or give keywords.
    limits
        Limits on a file.
    profile
        Measure the time of each phase. On a GPU that costs time, because each phase then waits for the one before.
    options
        What the attributes of :class:`ScoreSettings` say: `effort` (also ``"auto"``: balanced on a CPU, paper
        elsewhere), `batch_size`, `seeds`, `seed`, `device`, `proxies`, `blocks`, `cut_at`, `keep_graph`,
        `as_published`, `bf16`, `feed`, and `input_shapes` and `values` as mappings.

    Returns
    -------
    ProxyScores
        With status ok. A proxy without a finite value is None, with its reason.

    Raises
    ------
    ModelError
        If the model cannot be read, converted or run.
    SettingsError
        If an argument is not accepted, or the batch does not fit into memory.

    Examples
    --------
    >>> import aznas_onnx as az
    >>> az.score("resnet18.onnx", seeds=3).proxies["trainability"].mean  # doctest: +SKIP
    >>> settings = az.ScoreSettings.of(effort="balanced", seeds=3)
    >>> az.score("resnet18.onnx", settings=settings).macs  # doctest: +SKIP
    """
    settings = ScoreSettings.of(settings, **options).loaded()
    return _score(source, settings, limits, profile=profile)


def score_many(
    sources: Iterable[Scorable],
    *,
    settings: ScoreSettings | None = None,
    limits: Limits | None = None,
    profile: bool = False,
    on_result: Callable[[ProxyScores], None] | None = None,
    **options: Unpack[ScoreOptions],
) -> list[ProxyScores]:
    """Score models one after the other; a failure does not stop the others.

    Parameters
    ----------
    sources
        As :func:`score` takes them.
    on_result
        Called with each result at once.

    Other parameters are those of :func:`score`.

    Returns
    -------
    list of ProxyScores
        In the order of `sources`; status failed, with one sentence as the reason, where a model could not be scored.

    Raises
    ------
    SettingsError
        If an argument is not accepted.
    """
    if isinstance(sources, str | bytes | os.PathLike | onnx.ModelProto | Model | Graph):
        raise SettingsError("score_many takes a list of models; put the model into a list, or call score")
    settings = ScoreSettings.of(settings, **options).loaded()
    resolve_device(settings.device, bf16=settings.bf16)  # one that is not there is no model's fault
    results = []
    for source in sources:
        name = source.source if isinstance(source, Model) else source_name(source)
        result = attempt(name, partial(_score, source, settings, limits, profile=profile))
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


def attempt(name: str, scoring: Callable[[], ProxyScores]) -> ProxyScores:
    """Return the result of a call; where it fails, a failed result of model `name` with one sentence as the reason."""
    started = time.perf_counter()
    try:
        return scoring()
    except AznasError as error:
        reason = str(error)
    except SystemExit as error:  # from a user's proxy, which requests an end
        reason = f"a proxy's code ended the scoring (SystemExit: {error.code})"
    except Exception as error:  # noqa: BLE001 - recorded as this model's failure; a bug here must not lose the others
        _log.debug("scoring %s failed", name, exc_info=True)
        reason = f"internal error ({type(error).__name__}: {str(error).strip() or 'no message'}); please report it"
    return ProxyScores(
        model=name,
        status=Status.FAILED,
        reason=" ".join(reason.split()),
        elapsed_s=time.perf_counter() - started,
    )


def _score(source: Scorable, settings: ScoreSettings, limits: Limits | None, *, profile: bool) -> ProxyScores:
    started = time.perf_counter()
    is_built_here = isinstance(source, Graph)  # and so no surprise
    session = Session(source, settings, limits=limits, checks_demand=not is_built_here, clock=Clock(is_running=profile))
    return replace(session.scores(), elapsed_s=time.perf_counter() - started)
