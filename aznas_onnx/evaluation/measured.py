"""Scored architectures beside their measurements, and the table of their proxies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.truth import Truth
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.ranking import rank
from aznas_onnx.results import ProxyScores, Status

__all__ = ["Measured", "measured", "proxy_table"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Scored architectures with their measurements, one entry for each group that an architecture is measured in.

    - `records`: In the order of the measurements, so that the order of scoring decides nothing.
    - `values`: (n_records, n_columns).
    - `groups`: (n_records,) number of the group; None for one.
    - `sizes`: (n_records,) as the measurements have them; None where they have none.
    """

    records: tuple[Record, ...]
    values: Floats
    groups: npt.NDArray[np.int64] | None
    sizes: Floats | None


def measured(records: Iterable[Record], truth: Truth) -> Measured:
    """Return the scored ones of some records with their measurements.

    Raises SettingsError if one was not measured.
    """
    by_arch = {record.arch: record for record in records if record.reason is None}
    known = set(truth.archs)
    for arch in by_arch:
        if arch not in known:
            raise SettingsError(f"{arch} is scored, and the measurements do not list it")
    rows = [row for row, arch in enumerate(truth.archs) if arch in by_arch]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(truth.groups))}
    groups = np.array([numbers[truth.groups[row]] for row in rows], dtype=np.int64) if truth.groups else None
    return Measured(
        records=tuple(by_arch[truth.archs[row]] for row in rows),
        values=truth.values[rows],
        groups=groups,
        sizes=None if truth.sizes is None else truth.sizes[rows],
    )


def proxy_table(
    scored: Sequence[Record],
    weights: Mapping[str, float] | None = None,
    directions: Mapping[str, Direction] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...], Floats]:
    """Return the proxies that all records have, warnings on the others, and their values; none of weight 0.

    Returns
    -------
    tuple
        Names, warnings, and (n_records, n_proxies) values: higher is better, minus infinity for none.

    Raises
    ------
    SettingsError
        If no proxy is left.
    """
    known = [ProxyScores(model=one.arch, status=Status.OK, proxies=one.proxies) for one in scored]
    ranking = rank(known, weights=weights, directions=directions)
    if not ranking.proxies:
        raise SettingsError(f"no proxy can be compared over all architectures: {'; '.join(ranking.warnings)}")
    signs = {name: PROXIES.sign(name, directions or {}) for name in ranking.proxies}
    rows = [[_value(record, name, signs[name]) for name in ranking.proxies] for record in scored]
    return ranking.proxies, ranking.warnings, np.array(rows, dtype=np.float64)


def _value(record: Record, name: str, sign: int) -> float:
    mean = record.proxies[name].mean
    return -np.inf if mean is None else sign * mean
