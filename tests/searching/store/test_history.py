from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.results import ProxyValue, Status
from aznas_onnx.searching import Budget, Cost, Limit, Proposal, Study, StudyError, Trial, TrialOrigin
from aznas_onnx.searching.store.history import History
from tests.searching.fakes import settings


def proposal(number: int, genotype: str | None = None) -> Proposal:
    cost = Cost(macs=10**12 + number, params=5, layers=3, paper_flops=None)
    return Proposal(
        number=number, genotype=genotype or f"g{number}", origin=TrialOrigin.HISTORY, parent=7, cost=cost, tries=3
    )


def trial(number: int, **changes: Any) -> Trial:
    proxies = {
        "expressivity": ProxyValue(mean=0.1 + 0.2, stderr=1e-300),
        "progressivity": ProxyValue(mean=None, reason="a block is dead"),
        "trainability": ProxyValue(mean=None, reason="not for transformers", applies=False),
    }
    values: dict[str, Any] = {"status": Status.OK, "reason": None, "proxies": proxies, "elapsed_s": 0.25}
    return Trial(proposal=proposal(number), **{**values, **changes})


def opened(path: Path | None, *, resume: bool = False, **changes: Any) -> History:
    return History.open(path, settings(**changes), resume=resume)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_what_is_recorded_is_read_back_exactly(path: Path) -> None:
    failed = trial(1, status=Status.FAILED, reason="it does not fit", proxies={})
    with opened(path) as history:
        for one in (trial(0), failed):
            assert history.claim(one.proposal)
            history.record(one)
        assert history.new_trials() == [trial(0), failed]
        assert history.new_trials() == []
    assert Study.open(path).trials == (trial(0), failed)


def test_a_record_is_on_disk_while_the_writer_still_works(path: Path) -> None:
    with opened(path) as history:
        history.record(trial(0))
        assert Study.open(path).trials == (trial(0),)


def test_a_study_in_memory_leaves_no_file(tmp_path: Path) -> None:
    with opened(None) as history:
        history.record(trial(0))
        assert history.trials() == (trial(0),)
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_claimed_once_under_all_its_genotypes(path: Path) -> None:
    def claim(history: History, number: int, genotype: str) -> bool:
        return history.claim(proposal(number, genotype), identify=lambda text: "".join(sorted(text)))

    with opened(path) as one, opened(path, resume=True) as other:
        assert claim(one, 0, "ab")
        assert not claim(other, 1, "ba")  # it is being scored
        assert claim(other, 1, "bb")
        one.record(Trial(proposal=proposal(0, "ab"), status=Status.OK, reason=None, proxies={}, elapsed_s=0.0))
        assert not claim(other, 2, "ba")  # it was scored since this process looked


def test_numbers_and_genotypes_are_claimed_once(path: Path) -> None:
    with opened(path) as one, opened(path, resume=True) as other:
        assert one.claim(proposal(0, "a"))
        assert not other.claim(proposal(0, "b"))
        assert not other.claim(proposal(1, "a"))
        assert other.claim(proposal(1, "b"))
        assert sorted(one.claims()) == sorted(other.claims()) == [(0, "a"), (1, "b")]
        one.record(trial(0))
        assert not other.claim(proposal(0, "c"))
        assert not other.claim(proposal(2, "g0"))


def test_recording_ends_the_claim_and_closing_gives_up_the_others(path: Path) -> None:
    with opened(path) as one, opened(path, resume=True) as other:
        assert one.claim(proposal(0))
        assert one.claim(proposal(1))
        one.record(trial(0))
        assert other.claims() == [(1, "g1")]
        one.close()
        assert other.claims() == []


def test_trials_of_another_process_are_seen(path: Path) -> None:
    with opened(path) as one, opened(path, resume=True) as other:
        one.record(trial(1))
        other.record(trial(0))
        assert one.new_trials() == other.new_trials() == [trial(1), trial(0)]


def test_of_two_results_for_one_candidate_the_first_stands(path: Path) -> None:
    with opened(path) as one, opened(path, resume=True) as other:
        one.record(trial(0))
        other.record(trial(0, elapsed_s=9.0))
        assert other.new_trials() == [trial(0)]


def with_a_trial(path: Path, **changes: Any) -> None:
    with opened(path, **changes) as history:
        history.record(trial(0))


def test_a_study_is_not_added_to_by_accident(path: Path) -> None:
    with_a_trial(path)
    with pytest.raises(StudyError, match=r"run\.db already holds a study; add --resume"):
        opened(path)


def test_a_study_is_not_resumed_with_other_settings(path: Path) -> None:
    with_a_trial(path, budget=Budget(macs=Limit(None, 600)))
    with pytest.raises(StudyError) as caught:
        opened(path, resume=True, budget=Budget(macs=Limit(None, 450)), seed=4)
    assert str(caught.value) == (
        f"{path} cannot be resumed with other settings: in the file budget.macs is at most 600, not at most 450; "
        "seed is 0, not 4; give the settings of the file, or name another one"
    )


def test_a_study_without_a_candidate_is_begun_anew(path: Path) -> None:
    """A search that found nothing to score, because of a slip in its budget, need not be cleared away by hand."""
    opened(path, budget=Budget(macs=Limit(None, 6))).close()
    with opened(path, budget=Budget(macs=Limit(None, 600))) as history:
        with pytest.raises(StudyError, match="add --resume"):  # its writer lives
            opened(path)
        history.record(trial(0))
    assert Study.open(path).settings.budget == Budget(macs=Limit(None, 600))
    assert len(Study.open(path).software) == 1


def test_of_two_that_begin_anew_at_once_one_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in = History._sign_in

    def late(history: History) -> int:
        monkeypatch.setattr(History, "_sign_in", sign_in)
        others.append(opened(path, seed=7))
        return sign_in(history)

    others: list[History] = []
    monkeypatch.setattr(History, "_sign_in", late)
    with pytest.raises(StudyError, match="in the file seed is 7, not 0"):
        opened(path)
    others[0].close()


def test_resuming_starts_what_is_not_there(path: Path) -> None:
    path.touch()  # what a search that was killed in its first moment leaves
    with opened(path, resume=True) as history:
        history.record(trial(0))
    assert len(Study.open(path).trials) == 1


def text_file(path: Path) -> None:
    path.write_text("model,score\n" * 50)


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()


def newer_schema(path: Path) -> None:
    changed(path, "PRAGMA user_version = 99")


def unreadable_settings(path: Path) -> None:
    changed(path, "UPDATE study SET settings = '{}'")


def torn(path: Path) -> None:
    with opened(path) as history:
        for number in range(200):
            history.record(trial(number))
    data = bytearray(path.read_bytes())
    data[4096 * 5 : 4096 * 9] = b"\xff" * 4096 * 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    torn(path)
    path.write_bytes(path.read_bytes()[:9000])


def unreadable_trial(path: Path) -> None:
    with opened(path) as history:
        history.record(trial(0))
    changed(path, "UPDATE trials SET proxies = '{\"expressivity\": 3}'")


def changed(path: Path, statement: str) -> None:
    if not path.exists():
        opened(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


REFUSED = [
    (text_file, "is not a study: it is no SQLite database"),
    (other_database, "is not a study: it is another program's SQLite database"),
    (
        newer_schema,
        "has schema version 99 and this version of aznas-onnx reads 2; use the version that wrote it, or a newer one",
    ),
    (unreadable_settings, "is damaged: its settings cannot be read"),
    (torn, "is damaged: "),
    (cut, "is damaged: "),
    (unreadable_trial, "is damaged: trial 0 cannot be read"),
    (Path.mkdir, "is a folder; a study is one file, such as run.db"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED)
def test_a_file_that_is_no_sound_study_is_refused_in_one_sentence(
    path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(path)
    for use in (lambda: Study.open(path), lambda: resumed(path)):
        with pytest.raises(StudyError) as caught:
            use()
        assert str(caught.value).startswith(f"{path} {message}")
        assert "\n" not in str(caught.value)


def resumed(path: Path) -> None:
    with opened(path, resume=True) as history:
        history.new_trials()


@pytest.mark.parametrize("spoil", [text_file, other_database, newer_schema])
def test_a_file_that_is_refused_is_not_changed(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StudyError):
        opened(path, resume=True)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


def test_there_must_be_a_file_to_read(path: Path) -> None:
    with pytest.raises(StudyError, match="there is no study"):
        Study.open(path)
    path.touch()
    with pytest.raises(StudyError, match="holds no study yet"):
        Study.open(path)


def test_there_must_be_a_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no folder"):
        opened(tmp_path / "nowhere" / "run.db")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_study_on_a_medium_that_is_read_only_is_read(path: Path) -> None:
    with opened(path) as history:
        history.record(trial(0))
    path.chmod(stat.S_IRUSR)
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert Study.open(path).trials == (trial(0),)
    finally:
        path.parent.chmod(stat.S_IRWXU)


def test_a_full_disk_is_a_sentence_and_loses_nothing(path: Path) -> None:
    with opened(path) as history:
        history.record(trial(0))
        history._connection.execute("PRAGMA max_page_count = 1")  # SQLite then says what it says on a full disk
        with pytest.raises(StudyError, match="cannot be used: database or disk is full"):
            record_many(history)
    assert Study.open(path).trials[0] == trial(0)


def record_many(history: History) -> None:
    for number in range(1, 500):
        history.record(trial(number))


def test_versions_are_kept_for_provenance(path: Path) -> None:
    with_a_trial(path)
    opened(path, resume=True).close()
    (software,) = Study.open(path).software
    assert {"python", "numpy", "onnx"} <= set(software)


def test_the_file_can_be_read_with_plain_sql(path: Path) -> None:
    with opened(path) as history:
        history.record(trial(3))
    with sqlite3.connect(path) as connection:
        query = "SELECT number, genotype, macs, json_extract(proxies, '$.expressivity.mean') FROM trials"
        assert connection.execute(query).fetchall() == [(3, "g3", 10**12 + 3, 0.1 + 0.2)]
        assert json.loads(connection.execute("SELECT settings FROM study").fetchone()[0])["seed"] == 0
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
