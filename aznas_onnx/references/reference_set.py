"""A reference set: stored scores that place a network in percentiles."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aznas_onnx.documents import JsonObject, finite, flag, parse_json, read_text, shown, table, whole
from aznas_onnx.documents import text as as_text
from aznas_onnx.errors import SettingsError
from aznas_onnx.proxies.feed import NOISE, Feed
from aznas_onnx.results import ProxyScores, Status
from aznas_onnx.scoring import METHOD_VERSION, ScoreOptions, ScoreSettings, method_of, other_method

__all__ = ["SCHEMA", "Member", "ReferenceSet", "ReferenceSettings"]

SCHEMA = "aznas.reference/1"
_FEWEST = 2
_DIGITS = 9  # the precision of float32; counts up to a billion are exact


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSettings:
    """The settings of a reference set; a network is comparable with it if all of these are equal.

    Attributes
    ----------
    effort, batch_size, keep_graph, as_published, blocks, feed, method
        As in :class:`~aznas_onnx.scoring.ScoreSettings`.
    input_shape
        Of one sample, without the batch.
    """

    effort: str
    batch_size: int
    input_shape: tuple[int, ...]
    keep_graph: bool = False
    as_published: bool = False
    blocks: tuple[str, ...] = ()
    feed: Feed = field(default_factory=Feed)
    method: int = METHOD_VERSION

    @classmethod
    def of(cls, settings: ScoreSettings, input_shape: tuple[int, ...] = ()) -> ReferenceSettings:
        """Return what decides whether scores compare, of the settings of scoring; raise SettingsError for bf16."""
        if settings.bf16:
            raise SettingsError("a reference set is scored in float32; leave bf16 out")
        return cls(
            effort=settings.effort.value,
            batch_size=settings.batch_size,
            input_shape=input_shape,
            keep_graph=settings.keep_graph,
            as_published=settings.as_published,
            blocks=settings.blocks,
            feed=settings.feed,
            method=settings.method,
        )

    def as_json(self) -> JsonObject:
        """Return the settings for JSON, without the method, which has its own key."""
        return {
            "effort": self.effort,
            "batch_size": self.batch_size,
            "input_shape": list(self.input_shape),
            "keep_graph": self.keep_graph,
            "as_published": self.as_published,
            "blocks": list(self.blocks),
            **({} if self.feed == Feed() else {"feed": self.feed.as_json()}),  # as before there was a choice
        }

    @classmethod
    def from_json(cls, data: JsonObject, method: int) -> ReferenceSettings:
        """Read what :meth:`as_json` gave."""
        read: JsonObject = {
            "effort": as_text(data["effort"]),
            "batch_size": whole(data["batch_size"], 1),
            "input_shape": tuple(whole(size, 1) for size in data["input_shape"]),
            "blocks": tuple(as_text(pattern) for pattern in data.get("blocks", ())),
            "feed": Feed.from_json(data.get("feed", NOISE)),
        }
        flags: JsonObject = {name: flag(data[name]) for name in ("keep_graph", "as_published") if name in data}
        fields: JsonObject = {**data, **read, **flags}
        return cls(**fields, method=method)

    def refuse_others(self, other: ReferenceSettings, *, name: str, of: str) -> None:
        """Refuse what was scored, or is to be scored, in another way.

        Raises
        ------
        SettingsError
            Names each setting that differs, and the remedy.
        """
        if self.method != other.method:
            raise SettingsError(
                f"{of} does not compare with reference set {name!r}, whose scores are {other_method(self.method)}; "
                "build the reference set again with `aznas reference build`"
            )
        mine, theirs = ({**one.as_json(), "feed": one.feed} for one in (self, other))
        differing = [key for key in mine if mine[key] != theirs[key]]
        if not differing:
            return
        described = ", ".join(
            f"{_key_text(key)} {_shown(key, theirs[key])} and not {_shown(key, mine[key])}" for key in differing
        )
        if differing == ["input_shape"]:
            remedy = "export the network for that input, or build a reference set at it with `aznas reference build`"
        else:
            remedy = "leave these options out to score as the reference set was, or build another one with them"
        raise SettingsError(f"{of} does not compare with reference set {name!r}: it has {described}; {remedy}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One network of a reference set.

    Attributes
    ----------
    model
        Its name, or its genotype.
    values
        Proxies by name; None where a proxy has no finite value, left out where it does not apply.
    params
        Trainable parameters.
    """

    model: str
    values: Mapping[str, float | None]
    params: int

    @classmethod
    def of(cls, scores: ProxyScores) -> Member:
        """Return the part of a score that a reference set stores."""
        values = {
            name: None if value.mean is None else float(f"{value.mean:.{_DIGITS}g}")
            for name, value in scores.proxies.items()
            if value.applies
        }
        return cls(model=scores.model, values=MappingProxyType(values), params=scores.params or 0)

    def as_json(self) -> JsonObject:
        """Return the member as one flat table."""
        return {"model": self.model, **self.values, "params": self.params}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSet:
    """Scored networks and their settings.

    Attributes
    ----------
    name
        Its name.
    description
        One line on the networks.
    command
        The command that made the file.
    settings
        Settings of the scores.
    members
        At least two.
    seeds
        Number of seeds that each member's values are means of.
    software
        Versions that computed it.
    """

    name: str
    description: str
    command: str
    settings: ReferenceSettings
    members: tuple[Member, ...]
    seeds: int = 1
    software: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if len(self.members) < _FEWEST:
            raise SettingsError(
                f"reference set {self.name!r} has {len(self.members)} networks; {_FEWEST} or more are needed"
            )
        if not self.proxies:
            raise SettingsError(
                f"the networks of reference set {self.name!r} have no proxy in common; score all by the same ones"
            )

    @property
    def proxies(self) -> tuple[str, ...]:
        """The proxies that every member has."""
        first, *others = self.members
        return tuple(name for name in first.values if all(name in other.values for other in others))

    def options(self) -> ScoreOptions:
        """Return the keywords of :func:`aznas_onnx.scoring.score` that score a network as the members were."""
        return {
            "effort": self.settings.effort,
            "batch_size": self.settings.batch_size,
            "keep_graph": self.settings.keep_graph,
            "as_published": self.settings.as_published,
            "blocks": self.settings.blocks,
            "feed": self.settings.feed.text,
            "seeds": self.seeds,
            "proxies": self.proxies,
        }

    def column(self, proxy: str) -> list[float]:
        """Return the values of a proxy; minus infinity where a member has none."""
        values = [member.values[proxy] for member in self.members]
        return [-math.inf if value is None else value for value in values]

    def joined(self, scores: Iterable[ProxyScores]) -> ReferenceSet:
        """Return the reference set with further networks; one that has the name of a member takes its place."""
        members = {member.model: member for member in self.members}
        members.update((result.model, Member.of(result)) for result in scores if result.status is Status.OK)
        return replace(self, members=tuple(members.values()))

    def as_json(self) -> JsonObject:
        """Return the reference set as plain values, in the layout ``aznas.reference/1``."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "description": self.description,
            "command": self.command,
            "settings": self.settings.as_json(),
            "seeds": self.seeds,
            "method": self.settings.method,
            "software": dict(self.software),
            "members": [member.as_json() for member in self.members],
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the reference set to a file, one network a line, in place of what was there.

        Raises SettingsError if the file cannot be written.
        """
        document = self.as_json()
        del document["members"]
        members = ",\n".join(f"    {json.dumps(member.as_json())}" for member in self.members)
        head = json.dumps(document, indent=2).removesuffix("\n}")
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            part.write_text(f'{head},\n  "members": [\n{members}\n  ]\n}}\n', encoding="utf-8")
            part.replace(target)  # an interruption leaves the old file or the new one
        except OSError as error:
            raise SettingsError(f"reference set {path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ReferenceSet:
        """Read a file that :meth:`write` wrote; raise SettingsError if it cannot be read, or is no reference."""
        text = read_text(path, f"reference set {os.fspath(path)}")
        return cls.parse(text, os.fspath(path))

    @classmethod
    def parse(cls, text: str, origin: str) -> ReferenceSet:
        """Read a reference set from JSON; `origin` is its name in messages.

        Raises SettingsError if it is no reference, or one of another schema.
        """
        data = parse_json(text, f"{origin} is no reference")
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA:
            found = "no schema" if schema is None else f"schema {shown(schema)}"
            raise SettingsError(f"{origin} is no reference: it has {found}, and {SCHEMA!r} was expected")
        try:
            return cls(
                name=as_text(data["name"]),
                description=as_text(data["description"]),
                command=as_text(data["command"]),
                settings=ReferenceSettings.from_json(table(data["settings"]), method_of(data)),
                members=tuple(_member(table(fields)) for fields in data["members"]),
                seeds=whole(data["seeds"], 1),
                software=MappingProxyType({name: as_text(one) for name, one in table(data["software"]).items()}),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(f"{origin} is a damaged reference ({type(error).__name__}: {error})") from error


def _member(fields: JsonObject) -> Member:
    values = {
        name: None if value is None else finite(value)
        for name, value in fields.items()
        if name not in ("model", "params")
    }
    return Member(model=as_text(fields["model"]), values=MappingProxyType(values), params=whole(fields["params"]))


def _key_text(key: str) -> str:
    return key.replace("_", " ")


def _shown(key: str, value: Any) -> str:
    if isinstance(value, list):
        return ("x" if key == "input_shape" else ", ").join(map(str, value)) or "none"
    return str(value) if isinstance(value, Feed) else str(value).lower()
