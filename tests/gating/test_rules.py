"""Each rule of the gate is declared once, and the policy file, the command line and the docs follow."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from aznas_onnx.cli.commands.gate import gate
from aznas_onnx.errors import SettingsError
from aznas_onnx.gating import Policy, read_policy
from aznas_onnx.gating.policy import RULES, RuleError
from aznas_onnx.scoring import ScoreOptions, ScoreSettings
from benchmarks import gate_rules


def test_the_table_of_the_documentation_is_current(repository: Path) -> None:
    text = (repository / "docs" / "ci.md").read_text(encoding="utf-8")
    assert gate_rules.with_table(text) == text, "run benchmarks/gate_rules.py --write docs/ci.md"


def test_every_attribute_is_a_rule_with_an_option() -> None:
    options = {option.name: option for option in gate.params if isinstance(option, click.Option)}
    assert list(RULES) == [one.name for one in fields(Policy)]
    for name, rule in RULES.items():
        assert rule.option in options[name].opts
        assert rule.help
        assert (options[name].help or "").startswith(rule.help)


@pytest.mark.parametrize("name", list(RULES))
def test_the_example_of_a_rule_is_read_from_a_policy_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "aznas.toml"
    path.write_text(f"[gate]\n{RULES[name].key} = {RULES[name].example}\n", encoding="utf-8")
    (read,) = read_policy(path).items()
    assert read[0] == name
    assert RULES[name].objection(read[1]) is None
    if name not in ("spreads", "max_latency_ratio"):  # a custom proxy, and a baseline, would have to be there
        Policy(**{name: read[1]})


@pytest.mark.parametrize(
    "name", [name for name, rule in RULES.items() if rule.most is not None or rule.above is not None]
)
def test_bounds_are_checked(name: str) -> None:
    rule = RULES[name]
    beyond: Any = {"zen": 0.0} if name == "spreads" else rule.above if rule.most is None else rule.most + 1
    with pytest.raises(SettingsError, match=rule.accepted):
        Policy(**{name: beyond})


def test_a_message_spells_a_rule_as_its_place_does() -> None:
    with pytest.raises(RuleError, match=r"^max_latency is 0; a number above 0 is accepted$") as caught:
        Policy(max_latency=0.0)
    assert caught.value.in_file == "max-latency is 0; a number above 0 is accepted"


def test_the_docstring_of_the_policy_is_that_of_its_rules() -> None:
    described = re.findall(r"^(\w+)\n((?:^    .+\n?)+)", inspect.getdoc(Policy) or "", flags=re.MULTILINE)
    assert {name: " ".join(text.split()) for name, text in described} == {
        name: rule.help for name, rule in RULES.items()
    }, "copy the help of the rule into the docstring"


def test_every_setting_of_scoring_is_a_rule_that_scores() -> None:
    own = {"seeds", "as_published", "bf16"}  # a gate has max_seeds, and scores as the method says
    assert ScoreOptions.__optional_keys__ - RULES.keys() == own
    given: dict[str, Any] = {
        "effort": "fast",
        "batch_size": 3,
        "seed": 5,
        "device": "cpu",
        "feed": "natural",
        "blocks": ("a",),
        "input_shapes": {"x": (1, 3)},
        "cut_at": ("b",),
        "values": {"n": 2},
        "keep_graph": True,
    }
    assert given.keys() == ScoreOptions.__optional_keys__ - own - {"proxies"}
    settings = Policy(**given).score_settings(proxies=("macs",), effort="paper", batch_size=64)
    assert settings == ScoreSettings.of(**given, proxies=("macs",))
    assert Policy(max_macs=1).scored_by(settings) == Policy(max_macs=1, **given, proxies=("macs",))
    assert Policy().score_settings(effort="balanced") == ScoreSettings.of(effort="balanced")
