"""`aznas proxies`: the registry as users see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aznas_onnx.cli.main import run
from aznas_onnx.proxies import PROXIES


def test_the_list_names_every_proxy_and_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["proxies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first_words = [line.split()[0].rstrip(":") for line in lines if line.strip() and not line.startswith(" ")]
    assert set(PROXIES) | set(PROXIES.groups) <= set(first_words)
    assert "lower is better" in " ".join(" ".join(lines).split())


def test_json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["proxies", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "aznas.proxies/1"
    assert [one["name"] for one in document["proxies"]] == list(PROXIES)
    assert document["groups"]["az"] == ["expressivity", "progressivity", "trainability", "macs"]
    for one in document["proxies"]:
        assert all(one[field] for field in ("description", "equation", "origin", "direction", "passes", "cost"))
    by_name = {one["name"]: one for one in document["proxies"]}
    assert by_name["naswot"]["passes"] == by_name["swap"]["passes"] == "own: activation patterns"
    assert by_name["depth"]["passes"] == "none"
    assert by_name["shortest_path"]["direction"] == "lower is better"


def test_some_are_described_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["proxies", "te_nas", "depth"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["te_nas_ntk", "te_nas_regions", "depth"]
    assert "TE-NAS: Chen et al., ICLR 2021" in blocks[0]


@pytest.mark.parametrize("output_format", ["csv", "md"])
def test_other_formats_have_a_row_each(output_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["proxies", "az", "--format", output_format]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4 + (2 if output_format == "md" else 1)


def test_ones_own(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["proxies", f"{repository}/examples/own_proxy.py:SPREAD"]) == 0
    assert capsys.readouterr().out.startswith("spread\n")


def test_an_unknown_one_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["proxies", "synflo"]) == 2
    assert "did you mean 'synflow'" in capsys.readouterr().err
