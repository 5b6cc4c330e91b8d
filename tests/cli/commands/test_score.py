"""`aznas score`: what it says, in which order, and with which status. Scoring itself is replaced."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import aznas_onnx.scoring
from aznas_onnx.cli.main import run
from aznas_onnx.graph import Limits
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.scoring import METHOD_VERSION, ScoreSettings
from tests.cli.samples import scores

Script = Callable[[str], ProxyScores]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace scoring: a model's name says what becomes of it. Return the settings of each call."""
    calls: list[dict[str, Any]] = []

    def score_many(
        sources: Sequence[str], *, on_result: Callable[[ProxyScores], None], **settings: Any
    ) -> list[ProxyScores]:
        assert settings.pop("profile") is False
        calls.append(settings)
        for source in sources:
            if source == "interrupt":
                raise KeyboardInterrupt
            on_result(outcome(source))
        return []

    monkeypatch.setattr(aznas_onnx.scoring, "score_many", score_many)
    return calls


def outcome(source: str) -> ProxyScores:
    if source.startswith("bad"):
        return ProxyScores(model=source, status=Status.FAILED, reason=f"{source}: not an ONNX file")
    if source.startswith("odd"):
        return ProxyScores(model=source, status=Status.FAILED, reason="a reason\nwithout a name")
    value = float(source.removeprefix("net"))
    proxies = {
        "expressivity": ProxyValue(mean=value),
        "progressivity": ProxyValue(mean=None, reason="two blocks or more are needed"),
        "trainability": ProxyValue(mean=-1 / value, stderr=0.5),
        "macs": ProxyValue(mean=1e9),
    }
    warnings = ("a doubt",) if source == "net2" else ()
    return scores(source, proxies=proxies, warnings=warnings)


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int) -> dict[str, Any]:
    assert run(["score", "--format", "json", *arguments]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.usefixtures("scripted")
def test_models_keep_their_order_in_json_and_are_ranked(capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(["net1", "net3", "net2"], capsys, 0)
    assert document["schema"] == "aznas.score/1"
    assert [model["model"] for model in document["models"]] == ["net1", "net3", "net2"]
    assert [model["rank"] for model in document["models"]] == [3, 1, 2]


@pytest.mark.usefixtures("scripted")
def test_a_model_has_the_fields_that_scripts_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = run_json(["net2"], capsys, 0)["models"]
    assert model == {
        "model": "net2",
        "status": "ok",
        "reason": None,
        "expressivity": 2.0,
        "progressivity": None,
        "trainability": -0.5,
        "macs": 1_814_073_344,
        "params": 11_689_512,
        "blocks": 10,
        "az_score": None,
        "rank": None,
        "estimate": None,
        "stderr": {"expressivity": None, "progressivity": None, "trainability": 0.5},
        "missing": {"progressivity": "two blocks or more are needed"},
        "seconds": 4.25,
        "changes": [],
        "warnings": ["a doubt"],
    }


def test_settings_reach_the_library_and_the_document(
    scripted: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds", "3", "--seed", "5", "--batch-size", "8", "--device", "cpu", "--proxies", "macs, trainability"]
    options += ["--input", "x=1x3x8x8", "--blocks", "a*", "--blocks", "b", "--keep-graph"]
    document = run_json(["net2", *options, "--as-published", "--time-limit", "7"], capsys, 0)
    assert scripted[0].pop("limits") == Limits(reading_s=7.0, scoring_s=7.0)
    assert scripted == [
        {
            "settings": ScoreSettings(
                seeds=3,
                seed=5,
                batch_size=8,
                device="cpu",
                proxies=("macs", "trainability"),
                input_shapes=(("x", (1, 3, 8, 8)),),
                blocks=("a*", "b"),
                keep_graph=True,
                as_published=True,
            )
        }
    ]
    assert document["settings"] == {
        "seeds": 3,
        "seed": 5,
        "effort": "paper",
        "batch_size": 8,
        "device": "cpu",
        "proxies": ["macs", "trainability"],
        "input_shapes": {"x": [1, 3, 8, 8]},
        "blocks": ["a*", "b"],
        "keep_graph": True,
        "as_published": True,
        "method": METHOD_VERSION,
        "aggregation": "log-rank",
        "weights": {},
    }
    assert "expressivity" not in document["models"][0]


@pytest.mark.usefixtures("scripted")
def test_the_feed_is_in_the_document_and_under_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(["net2", "--feed", "natural"], capsys, 0)["settings"]["feed"] == "natural"
    assert "feed" not in run_json(["net2", "--feed", "noise"], capsys, 0)["settings"]
    assert run(["score", "net2", "--feed", "natural"]) == 0
    assert "Batch 64, fed natural, 1 seed, " in " ".join(capsys.readouterr().out.split())
    assert run(["score", "net2", "--feed", "images"]) == 2
    assert "the feed is 'images'; noise, natural, or the path of an .npz file" in capsys.readouterr().err


@pytest.mark.usefixtures("scripted")
def test_one_bad_model_alone_is_a_sentence_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "bad.onnx"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "aznas: bad.onnx: not an ONNX file\n"


@pytest.mark.usefixtures("scripted")
def test_one_bad_model_alone_is_also_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = run_json(["bad.onnx"], capsys, 2)["models"]
    assert (model["status"], model["reason"], model["macs"]) == ("failed", "bad.onnx: not an ONNX file", None)


@pytest.mark.usefixtures("scripted")
def test_a_bad_model_among_others_leaves_them_their_scores_and_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "net1", "bad.onnx", "odd", "net2"]) == 3
    captured = capsys.readouterr()
    assert "bad.onnx" in captured.out
    assert captured.out.index("net2") < captured.out.index("net1") < captured.out.index("bad.onnx")
    assert captured.err.splitlines() == [
        "warning: net2: a doubt",
        "aznas: bad.onnx: not an ONNX file",
        "aznas: odd: a reason\\nwithout a name",
    ]


@pytest.mark.usefixtures("scripted")
def test_none_scored_of_many_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "bad1", "bad2"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("scripted")
def test_an_interruption_keeps_what_was_scored(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "--format", "csv", "net1", "net2", "interrupt", "net3"]) == 130
    captured = capsys.readouterr()
    assert [row["model"] for row in csv.DictReader(io.StringIO(captured.out))] == ["net1", "net2"]
    assert captured.err.endswith("aznas: interrupted after 2 of 4 models\n")


@pytest.mark.usefixtures("scripted")
def test_an_interruption_before_the_first_score_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "--format", "json", "interrupt", "net1"]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "aznas: interrupted after 0 of 2 models\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--proxies", "expresivity"], "did you mean 'expressivity'?"),
        (["--seeds", "0"], "--seeds"),
        (["--batch-size", "many"], "--batch-size"),
    ],
)
def test_a_bad_setting_is_said_once_and_is_status_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["score", "a.onnx", "b.onnx", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count(message) == 1


@pytest.mark.usefixtures("scripted")
def test_weights_and_aggregation_make_the_score(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--proxies", "expressivity,macs:0,trainability:2", "--aggregate", "linear"]
    document = run_json(["net1", "net3", *options], capsys, 0)
    assert document["settings"]["weights"] == {"macs": 0.0, "trainability": 2.0}
    assert document["settings"]["aggregation"] == "linear"
    assert [model["az_score"] for model in document["models"]] == [0.5 + 2 * 0.5, 1 + 2 * 1.0]
    assert run(["score", "net1", "net3", *options]) == 0
    assert "sum of rank/m over expressivity, 2 trainability; 3 is the best in all of them" in capsys.readouterr().out


@pytest.mark.parametrize("proxies", ["macs:-2", "macs:nan"])
def test_a_bad_weight_is_a_sentence(proxies: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "net.onnx", "--proxies", proxies]) == 2
    assert "the weight of proxy 'macs' is" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--proxies", "az,macs:2"], ["--aggregate", "linear"]])
def test_a_reference_ranks_in_one_way_only(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "net.onnx", "--reference", "nb201", *options]) == 2
    assert "each proxy once" in capsys.readouterr().err
