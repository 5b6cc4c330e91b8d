"""One scored architecture, and its line in a scores file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from aznas_onnx.documents import JsonObject, finite, text, whole
from aznas_onnx.results import ProxyScores, ProxyValue, Status

__all__ = ["Record", "decode", "encode", "make_record"]

_RESERVED = (
    "arch",
    "failed",
    "macs",
    "params",
    "layers",
    "stderr",
    "per_seed",
    "missing",
    "inapplicable",
    "seconds",
    "sha256",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A scored architecture.

    - `arch`: Its genotype.
    - `reason`: Why it could not be scored; None where it was.
    - `proxies`: By name; empty where it failed.
    - `macs`, `params`, `layers`: Multiply-adds of one sample, trainable parameters, operators with weights; None where
      it failed.
    - `elapsed_s`: Wall-clock seconds of building and scoring.
    - `digest`: Of the network's file; None for a network of a space.
    """

    arch: str
    reason: str | None = None
    proxies: Mapping[str, ProxyValue] = field(default_factory=lambda: MappingProxyType({}))
    macs: int | None = None
    params: int | None = None
    layers: int | None = None
    elapsed_s: float = 0.0
    digest: str | None = None


def make_record(scores: ProxyScores, layers: int | None, digest: str | None = None) -> Record:
    """Make a record of what scoring gave."""
    if scores.status is Status.FAILED:
        reason = scores.reason or "no reason given"
        return Record(arch=scores.model, reason=reason, elapsed_s=scores.elapsed_s, digest=digest)
    return Record(
        arch=scores.model,
        proxies=scores.proxies,
        macs=scores.macs,
        params=scores.params,
        layers=layers,
        elapsed_s=scores.elapsed_s,
        digest=digest,
    )


def encode(record: Record) -> JsonObject:
    """Return a record as JSON values: one key a proxy, null where it has no value, with the reason in ``missing``."""
    if record.reason is not None:
        return {"arch": record.arch, "failed": record.reason, "seconds": round(record.elapsed_s, 4)}
    values = record.proxies
    fields: dict[str, Any] = {"arch": record.arch}
    fields |= {name: value.mean for name, value in values.items() if name not in _RESERVED}
    fields |= {"macs": record.macs, "params": record.params, "layers": record.layers}
    fields["seconds"] = round(record.elapsed_s, 4)
    optional: dict[str, Any] = {
        "sha256": record.digest,
        "stderr": {name: value.stderr for name, value in values.items() if value.stderr is not None},
        "per_seed": {name: _plain(value) for name, value in values.items() if name != "macs" and _is_many(value)},
        "missing": {name: value.reason for name, value in values.items() if value.mean is None},
        "inapplicable": [name for name, value in values.items() if not value.applies],
    }
    fields |= {key: found for key, found in optional.items() if found}
    # Proxies with the name of a count: the graph's count and that of the space or the file can differ.
    clashing = {name: value.mean for name, value in values.items() if name in _RESERVED and name != "macs"}
    if clashing:
        fields["values"] = clashing
    if "macs" not in values or clashing:
        fields["proxies"] = list(values)
    return fields


def decode(fields: JsonObject) -> Record:
    """Read back what :func:`encode` wrote; raise KeyError, TypeError or ValueError if it is something else."""
    if not isinstance(fields["arch"], str):
        raise TypeError("arch is not a text")
    if "failed" in fields:
        return Record(arch=fields["arch"], reason=text(fields["failed"]), elapsed_s=finite(fields["seconds"]))
    names = fields.get("proxies") or [*(name for name in fields if name not in _NOT_PROXIES), "macs"]
    return Record(
        arch=fields["arch"],
        proxies={name: _value(name, fields) for name in names},
        macs=_count(fields["macs"]),
        params=_count(fields["params"]),
        layers=_count(fields["layers"]),
        elapsed_s=finite(fields["seconds"]),
        digest=None if "sha256" not in fields else text(fields["sha256"]),
    )


def _count(value: Any) -> int | None:
    return None if value is None else whole(value)


_NOT_PROXIES = frozenset((*_RESERVED, "proxies", "values", "schema", "settings", "selection", "software"))


def _is_many(value: ProxyValue) -> bool:
    return len(value.per_seed) > 1


def _plain(value: ProxyValue) -> list[float | None]:
    return [one if math.isfinite(one) else None for one in value.per_seed]


def _value(name: str, fields: JsonObject) -> ProxyValue:
    clashing = fields.get("values", {})
    mean = clashing[name] if name in clashing else fields[name]
    per_seed = fields.get("per_seed", {}).get(name, ())
    stderr = fields.get("stderr", {}).get(name)
    return ProxyValue(
        mean=None if mean is None else finite(mean),
        stderr=None if stderr is None else finite(stderr),
        per_seed=tuple(-math.inf if value is None else finite(value) for value in per_seed),
        reason=text(fields["missing"][name]) if mean is None else None,
        applies=name not in fields.get("inapplicable", ()),
    )
