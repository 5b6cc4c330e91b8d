"""The record of a study: every scored candidate is on disk before the next one is proposed.

Several processes can add to one file. Each first claims a candidate (its number and its genotype), then scores it, then
records it, which ends the claim. Numbers and candidates are unique among trials and claims, so that nothing is scored
twice; the claims of a process that died are void, so that nothing is lost.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aznas_onnx.documents import JsonObject, finite, flag, parse_json, table, text, whole
from aznas_onnx.latency import Latency
from aznas_onnx.results import ProxyValue, Status
from aznas_onnx.scoring import other_method
from aznas_onnx.searching.budget import Cost
from aznas_onnx.searching.settings import StudySettings
from aznas_onnx.searching.store.database import (
    AGAIN,
    StudyError,
    connect,
    create_or_check,
    read_settings,
    sqlite_errors,
    transaction,
)
from aznas_onnx.searching.store.heartbeat import Heartbeat, WriterProcess
from aznas_onnx.searching.trial import Proposal, Trial, TrialOrigin
from aznas_onnx.software import software_versions

__all__ = ["Claim", "History", "read_again", "read_software", "read_trials"]

T = TypeVar("T")

_SELECT = (
    "SELECT arrival, number, genotype, origin, parent, tries, macs, params, layers, paper_flops, "
    "status, reason, proxies, elapsed_s, milliseconds "
    "FROM trials LEFT JOIN latencies USING (genotype) WHERE arrival > ? ORDER BY arrival"
)


class History:
    """The file of a study, open for adding to it by this process.

    Use it as a context manager: on exit it releases its open claims.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, settings: StudySettings) -> None:
        self.path = path
        self.settings = settings
        self._connection = connection
        self._last_arrival = 0
        with sqlite_errors(path):
            self._writer = self._sign_in()
        self._heartbeat = None if path is None else Heartbeat(path, self._writer)

    @classmethod
    def open(cls, path: Path | None, settings: StudySettings, *, resume: bool) -> History:
        """Create a study, or open one to continue it.

        - `path`: The file; None keeps the study in memory.
        - `settings`: Settings of the study.
        - `resume`: Whether to continue a study in the file, which must have the same settings. Without a study in the
          file one is created, so that a job that restarts needs one command line.

        Raises StudyError if the file has a study and `resume` is False or the settings differ, or if it cannot be used.
        A study without candidates that no running process writes to is replaced.
        """
        connection = connect(path)
        try:
            stored = create_or_check(connection, path, settings)
            if stored is not None and not _begins_anew(connection, path, settings):
                _check_resumable(path, stored, settings, resume)
            history = cls(connection, path, settings)
            with sqlite_errors(path):  # until this process had signed in, another could begin anew
                _check_resumable(path, read_settings(connection, path), settings, resume=True)
            return history
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release open claims and close the file."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(self._connection),
        ):  # recorded trials stay
            self._connection.execute("DELETE FROM claims WHERE writer = ?", (self._writer,))
            self._connection.execute(  # one that recorded nothing need not be remembered
                "DELETE FROM writers WHERE id = :id AND NOT EXISTS (SELECT 1 FROM trials WHERE writer = :id)",
                {"id": self._writer},
            )

    def new_trials(self) -> list[Trial]:
        """Return the trials recorded since the last call, by this process or another, in the order of recording."""
        trials = []
        with sqlite_errors(self.path):
            for arrival, trial in _decoded(self._connection, self.path, self._last_arrival):
                self._last_arrival = arrival
                trials.append(trial)
        return trials

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials, in the order of recording."""
        with sqlite_errors(self.path):
            return read_trials(self._connection, self.path)

    def software(self) -> tuple[dict[str, str], ...]:
        """Return the versions of Python and the main packages that wrote to the study, each combination once."""
        with sqlite_errors(self.path):
            return read_software(self._connection)

    def claims(self) -> list[Claim]:
        """Return the candidates being scored by living processes, this one included; drop the claims of dead ones."""
        with sqlite_errors(self.path):
            rows = self._connection.execute(
                "SELECT number, genotype, writer, host, process, seen_at "
                "FROM claims JOIN writers ON writer = writers.id"
            ).fetchall()
            alive = {self._writer: True}
            for number, _, writer, *signature in rows:
                if writer not in alive:
                    alive[writer] = self._is_alive(number, *signature)
            dead = [(writer,) for writer, lives in alive.items() if not lives]
            if dead:
                with transaction(self._connection):
                    self._connection.executemany("DELETE FROM claims WHERE writer = ?", dead)
        return [(number, genotype) for number, genotype, writer, *_ in rows if alive[writer]]

    def _is_alive(self, number: int, host: Any, process: Any, seen: Any) -> bool:
        """Whether the process that claimed a candidate can still be running."""
        writer = _writer(self.path, host, process, seen)
        if writer.is_ahead:
            raise StudyError(
                f"{self.path}: candidate {number} is claimed by a process on {host!r} that was last seen "
                f"{writer.seen - time.time():,.0f} s from now; set the clock right, there or here, or delete the rows "
                "of the table claims if nothing works on the study there"
            )
        return writer.is_alive()

    def claim(self, proposal: Proposal, identify: Callable[[str], str] = str) -> bool:
        """Reserve a candidate for this process; False where another process has its number or the candidate already.

        - `proposal`: A candidate that is none of the trials that :meth:`new_trials` has returned.
        - `identify`: Returns a text for a genotype that is equal for equal candidates; by default the genotype itself.
        """
        identified = identify(proposal.genotype)
        with sqlite_errors(self.path):
            # A claim need not survive a power cut: the writer does not either.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with transaction(self._connection):
                taken = self._connection.execute(
                    "SELECT 1 FROM trials WHERE number = :number OR genotype = :genotype "
                    "UNION ALL SELECT 1 FROM claims WHERE number = :number OR genotype = :genotype",
                    {"number": proposal.number, "genotype": proposal.genotype},
                ).fetchone()
                if taken or any(identify(genotype) == identified for genotype in self._unseen()):
                    return False
                self._connection.execute(
                    "INSERT INTO claims (number, genotype, writer) VALUES (?, ?, ?)",
                    (proposal.number, proposal.genotype, self._writer),
                )
        return True

    def _unseen(self) -> list[str]:
        """Return the genotypes of the claims, and of the trials that were recorded since :meth:`new_trials`."""
        rows = self._connection.execute(
            "SELECT genotype FROM claims UNION ALL SELECT genotype FROM trials WHERE arrival > ?", (self._last_arrival,)
        )
        return [text(genotype) for (genotype,) in rows]

    def record(self, trial: Trial) -> None:
        """Store a trial and end its claim; it is on disk when this returns.

        If this process counted as dead while it scored (suspended for minutes) and another has scored the same
        candidate, the other result stays.
        """
        proposal = trial.proposal
        cost = proposal.cost
        row = (
            *(proposal.number, proposal.genotype, proposal.origin.value, proposal.parent, proposal.tries),
            *(cost.macs, cost.params, cost.layers, cost.paper_flops),
            *(trial.status.value, trial.reason, _encoded(trial.proxies)),
            *(trial.elapsed_s, time.time(), self._writer),
        )
        with sqlite_errors(self.path):
            self._connection.execute("PRAGMA synchronous = FULL")
            with transaction(self._connection):
                self._connection.execute(
                    "DELETE FROM claims WHERE number = ? AND writer = ?", (proposal.number, self._writer)
                )
                self._connection.execute(
                    "INSERT INTO trials (number, genotype, origin, parent, tries, macs, params, layers, paper_flops, "
                    "status, reason, proxies, elapsed_s, scored_at, writer) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    row,
                )

    def latency_ms(self, genotype: str) -> float | None:
        """Return what was measured of a genotype, or None."""
        with sqlite_errors(self.path):
            row = self._connection.execute(
                "SELECT milliseconds FROM latencies WHERE genotype = ?", (genotype,)
            ).fetchone()
        try:
            return None if row is None else finite(row[0])
        except (TypeError, ValueError) as error:
            raise StudyError(
                f"{self.path} is damaged: the latency of {genotype} cannot be read ({error}); go back to a copy of it"
            ) from error

    def keep_latency(self, genotype: str, milliseconds: float) -> float:
        """Store a measurement; return it, or that of another process that was quicker."""
        with sqlite_errors(self.path), transaction(self._connection):
            self._connection.execute(
                "INSERT INTO latencies (genotype, milliseconds) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (genotype, milliseconds),
            )
        kept = self.latency_ms(genotype)
        return milliseconds if kept is None else kept

    def keep_again(self, genotype: str, latency: Latency) -> None:
        """Store the measurement of a winner at the end of a search."""
        with sqlite_errors(self.path), transaction(self._connection):
            self._connection.execute(AGAIN)
            self._connection.execute(
                "INSERT OR REPLACE INTO latencies_again (genotype, record) VALUES (?, ?)",
                (genotype, json.dumps(latency.as_json())),
            )

    def again(self) -> dict[str, Latency]:
        """Return what was measured again, by genotype."""
        with sqlite_errors(self.path):
            return read_again(self._connection, self.path)

    def _sign_in(self) -> int:
        this = WriterProcess.this()
        with transaction(self._connection):
            cursor = self._connection.execute(
                "INSERT INTO writers (host, process, software, started_at, seen_at) VALUES (?, ?, ?, ?, ?)",
                (this.host, this.process, json.dumps(software_versions()), this.seen, this.seen),
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid


Claim = tuple[int, str]
"""Number and genotype of a candidate that is being scored."""


def read_trials(connection: sqlite3.Connection, path: Path | None) -> tuple[Trial, ...]:
    """Return all trials of an open study, in the order in which they were recorded."""
    return tuple(trial for _, trial in _decoded(connection, path, 0))


def read_software(connection: sqlite3.Connection) -> tuple[dict[str, str], ...]:
    """Return the versions of Python and the main packages that wrote to an open study, each combination once."""
    rows = connection.execute("SELECT software FROM writers GROUP BY software ORDER BY min(id)").fetchall()
    try:
        return tuple(dict(table(parse_json(row[0], "the software"))) for row in rows)
    except (TypeError, ValueError) as error:
        raise StudyError(f"the study is damaged: what wrote to it cannot be read ({error})") from error


def read_again(connection: sqlite3.Connection, path: Path | None) -> dict[str, Latency]:
    """Return the latencies that were measured again at the end of a search, by genotype."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'latencies_again'").fetchone():
        return {}
    try:
        return {
            text(genotype): Latency.from_json(table(parse_json(record, "the latency")))
            for genotype, record in connection.execute("SELECT genotype, record FROM latencies_again")
        }
    except (TypeError, ValueError, KeyError) as error:
        raise StudyError(f"{path} is damaged: a latency cannot be read ({error}); go back to a copy of it") from error


def _begins_anew(connection: sqlite3.Connection, path: Path | None, settings: StudySettings) -> bool:
    """Replace the settings of a study without trials."""
    with sqlite_errors(path), transaction(connection):
        if connection.execute("SELECT 1 FROM trials LIMIT 1").fetchone():
            return False
        writers = connection.execute("SELECT host, process, seen_at FROM writers").fetchall()
        if any(_writer(path, *signature).is_alive() for signature in writers):
            return False
        connection.execute("DELETE FROM writers")
        connection.execute("DELETE FROM latencies")
        connection.execute("DELETE FROM claims")
        connection.execute("UPDATE study SET settings = ?", (json.dumps(settings.as_json()),))
        return True


def _writer(path: Path | None, host: Any, process: Any, seen: Any) -> WriterProcess:
    try:
        return WriterProcess(host=text(host), process=text(process), seen=finite(seen))
    except (TypeError, ValueError) as error:
        raise StudyError(
            f"{path} is damaged: what wrote to it cannot be read ({error}); go back to a copy of it"
        ) from error


def _check_resumable(path: Path | None, stored: StudySettings, requested: StudySettings, resume: bool) -> None:
    if not resume:
        raise StudyError(
            f"{path} already holds a study; add --resume (in Python resume=True) to continue it, or name another file"
        )
    if stored.method != requested.method:
        raise StudyError(
            f"{path} cannot be resumed: its scores are {other_method(stored.method)}; search anew into another file, "
            "or resume it with the release that made it"
        )
    differences = stored.differences(requested)
    if differences:
        raise StudyError(
            f"{path} cannot be resumed with other settings: in the file {'; '.join(differences)}; "
            "give the settings of the file, or name another one"
        )


def _decoded(connection: sqlite3.Connection, path: Path | None, after: int) -> Iterator[tuple[int, Trial]]:
    for row in connection.execute(_SELECT, (after,)):
        try:
            yield row[0], _trial(row[1:])
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise StudyError(
                f"{path} is damaged: trial {row[1]} cannot be read ({error}); go back to a copy of it"
            ) from error


def _trial(row: tuple[Any, ...]) -> Trial:
    number, genotype, origin, parent, tries, macs, params, layers, paper_flops, *result = row
    status, reason, proxies, elapsed_s, latency_ms = result
    cost = Cost(
        macs=whole(macs),
        params=whole(params),
        layers=whole(layers),
        paper_flops=_optional(whole, paper_flops),
        latency_ms=_optional(finite, latency_ms),
    )
    proposal = Proposal(
        number=whole(number),
        genotype=text(genotype),
        origin=TrialOrigin(origin),
        parent=_optional(whole, parent),
        tries=whole(tries, 1),
        cost=cost,
    )
    values = {name: _value(table(value)) for name, value in table(parse_json(proxies, "the proxies")).items()}
    reason = _optional(text, reason)
    return Trial(proposal=proposal, status=Status(status), reason=reason, proxies=values, elapsed_s=finite(elapsed_s))


def _value(fields: JsonObject) -> ProxyValue:
    return ProxyValue(
        mean=_optional(finite, fields["mean"]),
        stderr=_optional(finite, fields["stderr"]),
        reason=_optional(text, fields["reason"]),
        applies=flag(fields["applies"]),
    )


def _optional(read: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else read(value)


def _encoded(proxies: Mapping[str, ProxyValue]) -> str:
    """Write proxies as JSON; a float is written so that the very same float is read back."""
    plain = {
        name: {"mean": value.mean, "stderr": value.stderr, "reason": value.reason, "applies": value.applies}
        for name, value in proxies.items()
    }
    return json.dumps(plain, allow_nan=False)
