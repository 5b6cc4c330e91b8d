"""Documents from outside that are none, or hold what none should: one sentence each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.documents import finite, flag, parse_json, parse_toml, read_text, table, text, whole
from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import read_truth
from aznas_onnx.evaluation.scorefile import read_scores
from aznas_onnx.gating import Policy, read_policy
from aznas_onnx.references import ReferenceSet
from aznas_onnx.scoring import ScoreSettings
from aznas_onnx.user_modules import execute

READERS = (read_policy, ReferenceSet.read, read_truth, read_scores, lambda path: execute(path, "proxy"))


@pytest.mark.parametrize("read", READERS)
def test_a_pipe_a_folder_and_a_name_that_is_too_long_are_no_documents(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / ("x" * 300), tmp_path / "gone", Path("/dev/null")):
        with pytest.raises(SettingsError, match="cannot be read"):
            read(path)


def test_a_large_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "aznas.toml"
    path.write_text("#" * 2**20 + "\n[gate]\n")
    with pytest.raises(SettingsError, match="more than 1,048,576 bytes"):
        read_policy(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="it is no text"):
        read_text(path, "b")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "no finite number"),
        ("9" * 5000, "has 5,000 digits"),
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ("{", "not JSON"),
    ],
)
def test_json_that_no_program_of_ours_writes_is_refused(source: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_json(source, "the file")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a = " + "[" * 50_000, "nested too deeply"),
        ("a = " + "{b=" * 50_000, "nested too deeply"),
        ("a." * 50_000 + "b = 1", "nested too deeply"),
        ('"a" . ' * 50_000 + "b = 1", "nested too deeply"),
        ("a = " + "9" * 5000, "not TOML"),
        ("a = 1\na = 2", "not TOML"),
    ],
)
def test_toml_that_takes_a_parser_too_far_is_refused(source: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_toml(source, "the file")


@pytest.mark.parametrize("value", ["1", True, None, [1], float("nan"), float("inf"), 10**400])
def test_what_is_no_number_is_none(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        finite(value)
    with pytest.raises((TypeError, ValueError)):
        whole(value)


def test_kinds_are_distinguished() -> None:
    assert (finite(1), whole(3), text("a"), flag(False), table({})) == (1.0, 3, "a", False, {})
    for read, value in ((text, 1), (flag, 1), (flag, "true"), (table, [])):
        with pytest.raises(TypeError):
            read(value)
    with pytest.raises(ValueError, match="of 1 or more"):
        whole(0, 1)


@pytest.mark.parametrize(
    "rule",
    [
        "tolerance = nan",
        "tolerance = 1e999",
        "tolerance = -1",
        f"tolerance = {'9' * 400}",
        f"max-macs = {'9' * 400}",
        "max-macs = -1",
        "max-macs = true",
        'max-macs = "many"',
        "max-macs = 1.5",
        'max-latency = "12"',
        "max-latency = inf",
        "max-seeds = -1",
        f"max-seeds = {'9' * 30}",
        "seed = -1",
        "batch-size = 0",
        "min-percentile = [1]",
        "confidence = {a = 1}",
        "floors = {macs = nan}",
        "floors = {macs = '1'}",
        "spreads = {macs = inf}",
        "input-shapes = {x = [-1, 3]}",
        "baseline = 3",
        "baseline = []",
        "keep-graph = 1",
        f"tolerance = {'[' * 90}{']' * 90}",
    ],
)
def test_a_rule_that_is_no_rule_is_one_sentence(rule: str, tmp_path: Path) -> None:
    path = tmp_path / "aznas.toml"
    path.write_text(f"[gate]\n{rule}\n")

    def apply() -> None:
        rules = {"baseline": ("x.onnx",), "reference": ("nb201",), **read_policy(path)}
        ScoreSettings.of(batch_size=Policy.of(**rules).batch_size)

    with pytest.raises(SettingsError) as caught:
        apply()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


REFERENCE = (
    '{"schema": "aznas.reference/1", "name": "r", "description": "d", "command": "c", "settings": {"effort": "fast", '
    '"batch_size": 4, "input_shape": [3, 8, 8]}, "seeds": 1, "software": {}, "members": ['
    '{"model": "a", "macs": 1.0, "params": 1}, {"model": "b", "macs": 2.0, "params": 2}]}'
)


def test_the_reference_of_these_tests_is_one() -> None:
    assert ReferenceSet.parse(REFERENCE, "r.json").proxies == ("macs",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"macs": 1.0', '"macs": NaN'),
        ('"macs": 1.0', '"macs": 1e999'),
        ('"macs": 1.0', '"macs": "1.0"'),
        ('"macs": 1.0', '"macs": true'),
        ('"macs": 1.0', f'"macs": {"9" * 400}'),
        ('"macs": 1.0', '"macs": 1.0, "macs": 1.0'),
        ('"params": 1', '"params": -1'),
        ('"params": 1', '"params": 1.5'),
        ('"params": 1', f'"params": {"9" * 30}'),
        ('"seeds": 1', '"seeds": "1"'),
        ('"seeds": 1', '"seeds": 0'),
        ('"name": "r"', '"name": 3'),
        ('"software": {}', '"software": []'),
        ('"batch_size": 4', '"batch_size": "4"'),
        ('"batch_size": 4', '"batch_size": 4, "other": 1'),
        ('"batch_size": 4', '"batch_size": 4, "keep_graph": 1'),
        ("[3, 8, 8]", '["3", 8, 8]'),
        ("[3, 8, 8]", "5"),
        ('"effort": "fast"', '"effort": ["fast"]'),
        ('{"model": "a", "macs": 1.0, "params": 1}', '"a"'),
        ('{"model": "a", "macs": 1.0, "params": 1}', "null"),
        ("aznas.reference/1", "aznas.reference/9"),
    ],
)
def test_a_reference_with_a_wrong_value_is_one_sentence(old: str, new: str) -> None:
    assert old in REFERENCE
    with pytest.raises(SettingsError) as caught:
        ReferenceSet.parse(REFERENCE.replace(old, new, 1), "r.json")
    assert str(caught.value).startswith("r.json is")


@pytest.mark.parametrize("field", ["inf", "1e999", "1_000", "\u0661"])
def test_a_measurement_is_a_finite_number_or_nothing(field: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(f"arch,top1\na,1\nb,{field}\nc,3\nd,\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 3: top1 is"):
        read_truth(path)


SCORE = (
    '{"arch": "a", "macs": 1, "params": 1, "layers": 1, "seconds": 0.1%s, "schema": "aznas.scores/1", "settings": %s}\n'
)
SETTINGS = '{"space": {"name": "s"}, "scoring": {}}'


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        (', "naswot": NaN', SETTINGS),
        (', "naswot": "1"', SETTINGS),
        (', "naswot": 1e999', SETTINGS),
        (', "layers": 2', SETTINGS),
        (', "naswot": null, "missing": {"naswot": 3}', SETTINGS),
        (', "per_seed": {"macs": ["1"]}', SETTINGS),
        ("", "3"),
        ("", '{"space": 1, "scoring": {}}'),
        ("", '{"space": {}, "scoring": {"own_proxies": {"x": {}}}}'),
        (', "x": ' + "[" * 5000, SETTINGS),
    ],
)
def test_scores_with_a_wrong_value_are_one_sentence(more: str, settings: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(SCORE % ("", SETTINGS))
    read_scores(path)
    path.write_text(SCORE % (more, settings))
    with pytest.raises(SettingsError, match=r"scores\.jsonl"):
        read_scores(path)
