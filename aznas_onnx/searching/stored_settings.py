"""The settings that decide whether stored scores compare: of a study and of a scores file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from aznas_onnx.documents import JsonObject, table
from aznas_onnx.proxies import USER_PROXIES, Direction, StoredProxy
from aznas_onnx.proxies.feed import NOISE, Feed
from aznas_onnx.scoring import method_of
from aznas_onnx.searching.space_reference import StoredSpace

__all__ = ["StoredScoring", "StoredSettings", "differences", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScoring:
    """How stored scores were computed.

    A custom scorer may describe itself by other keys, so every field but the method has a default.

    - `method`: The version of the scoring method.
    - `effort`, `batch_size`, `seeds`, `resolution`, `proxies`: As in the settings of scoring; None if not described.
    - `user_proxies`: The proxies that are not built in, by name.
    - `feed`: What networks are fed; noise in what is from before there was a choice.
    - `document`: The description of the scorer, as the file has it.
    """

    method: int
    effort: str | None
    batch_size: int | None
    seeds: int | None
    resolution: int | None
    proxies: tuple[str, ...] | None
    user_proxies: Mapping[str, StoredProxy]
    feed: Feed
    document: JsonObject

    @classmethod
    def from_json(cls, document: JsonObject) -> StoredScoring:
        """Read the description of a scorer; raise TypeError, ValueError or KeyError if it is damaged."""
        own = {name: StoredProxy.from_json(table(fields)) for name, fields in table(_own(document)).items()}
        proxies = document.get("proxies")
        return cls(
            method=method_of(document),
            effort=_if(str, document.get("effort")),
            batch_size=_if(int, document.get("batch_size")),
            seeds=_if(int, document.get("seeds")),
            resolution=_if(int, document.get("resolution")),
            proxies=tuple(map(str, proxies)) if isinstance(proxies, list | tuple) else None,
            user_proxies=MappingProxyType(own),
            feed=Feed.from_json(document.get("feed", NOISE)),
            document=document,
        )

    @property
    def directions(self) -> Mapping[str, Direction]:
        """Which way the proxies that are not built in point."""
        return {name: own.direction for name, own in self.user_proxies.items()}

    def compared(self) -> JsonObject:
        """Return what must be equal: all but the paths of files, as a study can be continued from another folder."""
        found = {**self.document, "method": self.method, "feed": self.feed.identity}
        if USER_PROXIES in found:
            found[USER_PROXIES] = {
                name: {key: value for key, value in own.items() if key != "reference"}
                for name, own in _own(self.document).items()
            }
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSettings:
    """The space of stored scores, and how they were computed."""

    space: StoredSpace
    scoring: StoredScoring

    @classmethod
    def from_json(cls, data: JsonObject) -> StoredSettings:
        """Read back what :meth:`as_json` wrote; raise TypeError, ValueError or KeyError if it is damaged."""
        return cls(
            space=StoredSpace.from_json(table(data["space"])), scoring=StoredScoring.from_json(table(data["scoring"]))
        )

    def as_json(self) -> JsonObject:
        """Return the settings as JSON values."""
        return {"space": self.space.as_json(), "scoring": dict(self.scoring.document)}

    def compared(self) -> JsonObject:
        """Return what must be equal: all but the paths of space and proxies."""
        return {"space": self.space.compared(), "scoring": self.scoring.compared()}


def differences(here: Any, there: Any, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield path and values of what differs between two JSON values."""
    if here != there and all(value is None or isinstance(value, Mapping) for value in (here, there)):
        here, there = here or {}, there or {}
        for key in dict.fromkeys([*here, *there]):
            yield from differences(here.get(key), there.get(key), f"{path}.{key}" if path else str(key))
    elif here != there:
        yield path, here, there


def plain(value: object) -> str:
    """Return a value of the settings for a message."""
    return "unset" if value is None else repr(value)


def _own(document: JsonObject) -> Any:
    return document.get(USER_PROXIES, {})


def _if(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else None
