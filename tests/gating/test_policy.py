from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.gating import Inconclusive, Policy, find_policy_file, read_policy

RULES = """
baseline = "models/shipped.onnx"
reference = ["mbv2-600M", "ours.json"]
min-percentile = 25
max-macs = "600M"
max-params = 5_900_000
max-latency-ratio = 1.1
inconclusive = "reject"
max-seeds = 16
input-shapes = { image = [1, 3, 64, 64] }

[{table}.floors]
trainability = -0.5
"""


@pytest.mark.parametrize(("name", "table"), [("aznas.toml", "gate"), ("pyproject.toml", "tool.aznas.gate")])
def test_rules_are_read_and_paths_are_the_files_own(name: str, table: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(f"[{table}]\n{RULES.replace('{table}', table)}", encoding="utf-8")
    policy = Policy(**read_policy(path))
    assert policy.baseline == (str(tmp_path / "models/shipped.onnx"),)
    assert policy.reference == ("mbv2-600M", str(tmp_path / "ours.json"))
    assert (policy.min_percentile, policy.max_macs, policy.max_params) == (25.0, 600_000_000, 5_900_000)
    assert (policy.max_latency_ratio, policy.inconclusive, policy.max_seeds) == (1.1, Inconclusive.REJECT, 16)
    assert (policy.floors, policy.input_shapes) == ({"trainability": -0.5}, {"image": (1, 3, 64, 64)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gate]\nmax-mac = 5", "'max-mac' is no rule; did you mean max-macs?"),
        ("[gate]\ninput = { x = [1, 3, 8, 8] }", r"aznas\.toml: 'input' is no rule; did you mean input-shapes\?"),
        ("[gate]\nvalue = { x = 1 }", "'value' is no rule; did you mean values"),
        ("[gate]\nfloor = { macs = 1 }", "'floor' is no rule; did you mean floors"),
        ("[gate]\nspread = { zen = 1 }", "'spread' is no rule; did you mean spreads"),
        ("[gate]\nmax_macs = '2G'\nmax-macs = '1G'", r"aznas\.toml gives max-macs twice, also as max_macs; keep one"),
        ("[gate]\nmax-macs = '5 apples'", "max-macs is '5 apples'; '5 apples' is not a count"),
        ("[gate]\nbaseline = 3", "baseline is 3; a text in quotes, or a list of them, is accepted"),
        ("[gate]\ninconclusive = 'maybe'", "inconclusive is 'maybe'; 'pass' or 'reject' is accepted"),
        ("[gate]\ntime-limit = 0", "time-limit is 0; a number above 0 is accepted"),
        ("[gate]\nmax-seeds = 2.5", "max-seeds is 2.5; a whole number is accepted"),
        ("[gate]\nkeep-graph = 1", "keep-graph is 1; true or false is accepted"),
        ("[gate]\nfloors = 1", "floors is 1; a table of proxies and numbers is accepted"),
        ("[gate]\ntolerance = true", "tolerance is True; a number is accepted"),
        ("gate = 5", "gate is no table"),
        ("[gait]\nmax-macs = 5", r"has no table \[gate\]"),
        ("[gate", "is not TOML"),
    ],
)
def test_what_a_policy_file_gets_wrong_is_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "aznas.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        read_policy(path)
    assert str(path) in str(caught.value)


def test_a_missing_policy_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml cannot be read: No such file"):
        read_policy(tmp_path / "gone.toml")


def test_the_nearest_policy_inside_the_repository_holds(tmp_path: Path) -> None:
    repository, inner = tmp_path / "repository", tmp_path / "repository" / "models" / "new"
    inner.mkdir(parents=True)
    (tmp_path / "aznas.toml").write_text("[gate]\n")  # above the repository: not its own
    (repository / ".git").mkdir()
    assert find_policy_file(inner) is None
    (repository / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert find_policy_file(inner) is None
    (repository / "pyproject.toml").write_text("[tool.aznas.gate]\nmax-macs = 5\n")
    assert find_policy_file(inner) == repository / "pyproject.toml"
    (repository / "aznas.toml").write_text("[gate]\n")
    assert find_policy_file(inner) == repository / "aznas.toml"
    (repository / "models" / "aznas.toml").write_text("[gate]\n")
    assert find_policy_file(inner) == repository / "models" / "aznas.toml"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"min_percentile": 101.0}, "min_percentile is 101; 0 to 100 is accepted"),
        ({"tolerance": -1.0}, "tolerance is -1; 0 or more is accepted"),
        ({"min_shortcuts": 1.5}, "min_shortcuts is 1.5; 0 to 1 is accepted"),
        ({"confidence": 1.0}, "confidence is 1; 0.5 to 0.9999 is accepted"),
        ({"max_latency": 0.0}, "max_latency is 0; a number above 0 is accepted"),
        ({"max_macs": -5}, "max_macs is -5; a count of 0 or more is accepted"),
        ({"min_seeds": 1}, "min_seeds is 1; 2 or more is accepted"),
        ({"min_seeds": 4, "max_seeds": 3}, "min_seeds is 4, above max-seeds, which is 3"),
        ({"proxies": ()}, "no proxy is named to compare with a baseline"),
        ({"proxies": ("zen:0",)}, "no proxy is named to compare with a baseline"),
        ({"aggregate": "mean"}, "aggregate is 'mean'; 'log-rank' or 'linear' is accepted"),
        ({"spreads": {"zen": 0.0}}, "the spread of zen is 0; a number above 0 is accepted"),
        ({"floors": {"az": 1.0}}, "a floor is for a single proxy by its name, and 'az' stands for expressivity, "),
        ({"floors": {"trainability:2": -1.0}}, "a floor is for a single proxy by its name"),
        ({"floors": {"macs": float("nan")}}, "the floor of macs is nan; a finite number is accepted"),
        ({"max_latency_ratio": 1.1}, "compares with a baseline, and none is named"),
        ({"max_macs": 2.5}, "max_macs is 2.5; a whole number or a text such as '600M' is accepted"),
        ({"max_macs": "5 apples"}, "'5 apples' is not a count"),
        ({"max_seeds": "9"}, "max_seeds is '9'; a number is accepted"),
        ({"max_seeds": 2.5}, "max_seeds is 2.5; a whole number is accepted"),
        ({"tolerance": "1"}, "tolerance is '1'; a number is accepted"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Policy(**rules)


@pytest.mark.parametrize(
    ("rules", "needed"),
    [
        ({"max_macs": 1, "min_percentile": 10.0}, "min_percentile compares with a reference"),
        ({"max_macs": 1, "tolerance": 0.1}, "tolerance compares with a baseline"),
        ({"max_macs": 1, "min_shortcuts": 1.0, "reference": ("nb201",)}, "min_shortcuts compares with a baseline"),
        ({"max_macs": 1, "aggregate": "linear"}, "aggregate compares with a baseline"),
    ],
)
def test_a_rule_that_would_do_nothing_is_refused(rules: dict[str, Any], needed: str) -> None:
    with pytest.raises(SettingsError, match=needed):
        Policy.of(**rules)


def test_a_floor_needs_a_proxy_that_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"floors: there is no proxy .* did you mean 'trainability'"):
        Policy(floors={"trainabilty": 0.0})


def test_a_spread_of_an_unknown_proxy_names_the_remedy() -> None:
    with pytest.raises(UnknownNameError, match="spreads names 'my_proxy', which is none of the proxies of this gate"):
        Policy(spreads={"my_proxy": 0.3})


def test_proxies_are_split_at_commas_as_the_option_does(tmp_path: Path) -> None:
    path = tmp_path / "aznas.toml"
    path.write_text('[gate]\nproxies = "az, synflow:0.5"\n')
    assert read_policy(path) == {"proxies": ("az", "synflow:0.5")}


def test_lists_paths_and_words_are_taken_as_they_come() -> None:
    floors = {"macs": 1.0}
    policy = Policy(baseline=Path("a.onnx"), reference="nb201", floors=floors, inconclusive="reject")  # type: ignore[arg-type]
    floors["macs"] = 2.0
    assert (policy.baseline, policy.reference, policy.floors) == (("a.onnx",), ("nb201",), {"macs": 1.0})
    assert policy.inconclusive is Inconclusive.REJECT
    assert Policy(baseline=["a", "b"]).baseline == ("a", "b")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="inconclusive is 'maybe'; 'pass' or 'reject' is accepted"):
        Policy(inconclusive="maybe")  # type: ignore[arg-type]


def test_counts_have_suffixes_and_one_text_lists_proxies(tmp_path: Path) -> None:
    policy = Policy.of(max_macs="1.2G", proxies="az, synflow:0.5")
    assert (policy.max_macs, policy.proxies) == (1_200_000_000, ("az", "synflow:0.5"))
    path = tmp_path / "aznas.toml"
    path.write_text('[gate]\nproxies = "az,synflow:0.5"\n')
    assert Policy(**read_policy(path)).proxies == policy.proxies
    path.write_text('[gate]\nproxies = ","\n')
    with pytest.raises(SettingsError, match="a list of them, is accepted"):
        read_policy(path)


def test_an_unknown_rule_lists_those_that_exist() -> None:
    with pytest.raises(TypeError, match="'max_mac' is no rule of the gate; accepted are aggregate, allow_smaller"):
        Policy.of(max_mac=3)


def test_samples_of_a_policy_are_seen_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "aznas.toml"
    for given, read in (("own.npz", str(tmp_path / "own.npz")), ("natural", "natural")):
        path.write_text(f'[gate]\nfeed = "{given}"\n', encoding="utf-8")
        assert read_policy(path) == {"feed": read}
