"""Settings of scoring as one record, and the version of the method in everything that is stored."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aznas_onnx as az
from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import Truth, prepare_run
from aznas_onnx.evaluation.scorefile import read_scores
from aznas_onnx.gating import Policy
from aznas_onnx.graph import prepare
from aznas_onnx.proxies import PROXIES
from aznas_onnx.proxies.feed import Feed
from aznas_onnx.ranking import Ensemble
from aznas_onnx.references import BUNDLED, ReferenceSet, find_reference
from aznas_onnx.scoring import METHOD_VERSION, ScoreOptions, ScoreSettings, Session, method_of
from aznas_onnx.searching import Study, StudyError
from tests.scoring.test_score_models import residual

MOST_UNTYPED = 60

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


def test_few_signatures_take_or_return_an_untyped_dict(repository: Path) -> None:
    found = []
    for folder in ("aznas_onnx", "cli", "spaces"):
        for path in sorted((repository / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.FunctionDef):
                    parts = [node.returns, *(one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg))]
                    texts = [ast.unparse(part) for part in parts if part is not None]
                    found += [
                        f"{path.relative_to(repository)}: {node.name}"
                        for text in texts
                        if "dict[str, Any]" in text or "Mapping[str, Any]" in text
                    ]
    assert len(found) < MOST_UNTYPED, found


@pytest.fixture
def bomb(tmp_path: Path) -> str:
    """Return the reference of a proxy whose file must not be executed."""
    path = tmp_path / "bomb.py"
    path.write_text("raise SystemExit('executed')\n")
    return f"{path}:PROXY"


def test_no_constructor_executes_a_file(bomb: str) -> None:
    names = ("az", bomb)
    assert ScoreSettings(proxies=names) == ScoreSettings.of(proxies=names)
    assert ScoreSettings(proxies=names).as_json()["proxies"] == [*names]
    assert Policy(baseline=("shipped.onnx",), proxies=names).proxies == names
    session = Session(prepare(residual()), ScoreSettings(proxies=names, device="cpu"))
    with pytest.raises(SettingsError, match="fails to load: SystemExit: executed"):
        session.scores()
    with pytest.raises(SettingsError, match="is not loaded"):
        Ensemble.of(names)
    with pytest.raises(SettingsError, match="is not loaded"):
        PROXIES.resolve(names)


def test_the_functions_that_take_names_execute_their_files(bomb: str, tmp_path: Path) -> None:
    settings = ScoreSettings(proxies=(bomb,), device="cpu")
    truth = Truth(archs=(CELL,), columns=("top1",), values=np.array([[90.0]]))
    for call in (
        lambda: az.score(tmp_path / "none.onnx", settings=settings),
        lambda: az.score_many([], settings=settings),
        lambda: az.search("nb201", settings=settings),
        lambda: az.bench("nb201", truth, settings=settings, scores=tmp_path / "scores.jsonl"),
        lambda: az.gate("none.onnx", baseline=["none.onnx"], proxies=[bomb]),
        lambda: az.rank([], proxies=[bomb]),
    ):
        with pytest.raises(SettingsError, match="fails to load: SystemExit: executed"):
            call()


def test_settings_and_a_keyword_must_agree() -> None:
    settings = ScoreSettings(seeds=3, device="cpu", input_shapes=(("x", (1, 3)),))
    assert ScoreSettings.of(settings) is settings
    assert ScoreSettings.of(settings, seeds=3, input_shapes={"x": [1, 3]}, batch_size=None, proxies=None) is settings
    with pytest.raises(SettingsError, match="seeds is given twice: 3 in settings and 1 by keyword; give one"):
        az.score("none.onnx", settings=settings, seeds=1)
    with pytest.raises(SettingsError, match="effort is given twice"):
        az.search("nb201", settings=settings, effort="fast")


def test_every_field_is_a_keyword() -> None:
    names = {one.name for one in dataclasses.fields(ScoreSettings)} - {"method"}
    assert names == ScoreOptions.__optional_keys__
    settings = ScoreSettings.of(effort="fast", seeds=3, proxies=["macs"], input_shapes={"x": [1, 3]}, values={"n": 2})
    assert settings.options().keys() == names
    assert ScoreSettings.of(**settings.options()) == settings
    assert settings.as_json().keys() == {*names, "method"} - {"cut_at", "bf16", "feed"}


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="batchsize"):
        az.score("none.onnx", batchsize=3)  # type: ignore[call-arg]


def test_the_constructor_reads_what_keywords_do() -> None:
    assert ScoreSettings(effort="fast") == ScoreSettings.of(effort="fast")  # type: ignore[arg-type]
    assert ScoreSettings(effort="fast").batch_size == 4  # type: ignore[arg-type]
    assert ScoreSettings().batch_size == 64
    one = ScoreSettings.of(proxies="az,synflow", blocks="node_add*", cut_at="y")
    assert (one.proxies, one.blocks, one.cut_at) == (("az", "synflow"), ("node_add*",), ("y",))
    assert ScoreSettings.of(seeds=np.int64(3)).as_json()["seeds"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effort": "quick"}, "effort 'quick' is not one of paper, balanced, fast, auto"),
        ({"batch_size": 4.5}, "the batch size is 4.5; a whole number is accepted"),
        ({"seeds": "3"}, "the number of seeds is '3'; a whole number is accepted"),
        ({"seed": 1.5}, "the seed is 1.5; a whole number is accepted"),
        ({"blocks": 3}, "blocks is 3; a list of names is needed"),
        ({"proxies": 3}, "proxies is 3; a list of names is needed"),
        ({"input_shapes": {"x": "1x3x32x32"}}, "the shape of input 'x' is '1x3x32x32'; a list such as"),
        ({"input_shapes": [1, 3]}, r"input_shapes is \[1, 3\]; a mapping by input is needed"),
    ],
)
def test_a_value_of_another_kind_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ScoreSettings.of(**options)


def test_settings_and_lists_are_not_mistaken_for_others() -> None:
    with pytest.raises(SettingsError, match=r"settings is \{'effort': 'fast'\}; ScoreSettings.of"):
        az.score("none.onnx", settings={"effort": "fast"})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="score_many takes a list of models"):
        az.score_many("none.onnx")


def test_a_session_reads_a_model_with_its_settings(tmp_path: Path) -> None:
    settings = ScoreSettings.of(batch_size=2, device="cpu", proxies=["macs"], input_shapes={"x": [2, 3, 16, 16]})
    path = tmp_path / "model.onnx"
    path.write_bytes(residual().SerializeToString())
    macs = Session(settings.read(path), settings).scores().macs
    assert Session(path, settings).scores().macs == Session(residual(), settings).scores([5]).macs == macs


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "no seed is given"),
        ([1, 1], "the seed 1 is given twice"),
        ("01", "the seeds are '01'; a list of whole numbers is needed"),
        (3, "the seeds are 3; a list of whole numbers is needed"),
        ([-1], "the seed is -1; 0 to 4,294,967,295 is accepted"),
    ],
)
def test_seeds_of_a_session_are_checked(seeds: Any, message: str) -> None:
    session = Session(residual(), ScoreSettings(proxies=("macs",), device="cpu"))
    with pytest.raises(SettingsError, match=message):
        session.scores(seeds)


# ---- the version of the method --------------------------------------------------------------------------------------
def test_other_versions_are_not_scored_with() -> None:
    with pytest.raises(SettingsError, match=f"version {METHOD_VERSION + 1} of the scoring method, and this release"):
        ScoreSettings(method=METHOD_VERSION + 1)


def test_what_has_no_version_is_of_the_first() -> None:
    assert method_of({}) == 1
    for bundled in BUNDLED:
        assert find_reference(bundled.name).settings.method == 1


def of_method(study: Path, version: int | None) -> None:
    """Rewrite the settings of a study as another version of the method would have stored them."""
    import sqlite3

    with sqlite3.connect(study) as connection:
        settings = json.loads(connection.execute("SELECT settings FROM study").fetchone()[0])
        assert settings["scoring"].pop("method") == METHOD_VERSION
        if version is not None:
            settings["scoring"]["method"] = version
        connection.execute("UPDATE study SET settings = ?", (json.dumps(settings),))
    connection.close()


def test_a_study_names_its_version(tmp_path: Path) -> None:
    db = tmp_path / "run.db"

    def search(n: int) -> Study:
        options = {"resolution": 8}
        settings = ScoreSettings(batch_size=2, device="cpu", proxies=("macs",))
        return az.search("nb201", iterations=n, space_options=options, settings=settings, db=db, resume=n > 2)

    assert search(2).settings.method == METHOD_VERSION
    of_method(db, None)
    assert Study.open(db).settings.method == 1
    search(3)  # of a release before there were versions
    assert "method" not in Study.open(db).settings.scoring.document


def test_a_study_of_another_version_is_read_and_not_resumed(tmp_path: Path) -> None:
    db = tmp_path / "run.db"
    settings = ScoreSettings(batch_size=2, device="cpu", proxies=("macs",))
    az.search("nb201", iterations=2, space_options={"resolution": 8}, settings=settings, db=db)
    of_method(db, METHOD_VERSION + 1)
    assert len(Study.open(db).best(2)) == 2
    with pytest.raises(StudyError, match=f"cannot be resumed: its scores are of version {METHOD_VERSION + 1}"):
        az.search("nb201", iterations=3, space_options={"resolution": 8}, settings=settings, db=db, resume=True)


def test_a_scores_file_of_another_version_is_read_and_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    truth = Truth(archs=(CELL,), columns=("top1",), values=np.array([[90.0]]))
    settings = ScoreSettings(batch_size=2, device="cpu", proxies=("macs",))
    run = prepare_run("nb201", truth, scores=path, space_options={"resolution": 8}, settings=settings)
    run.score()
    assert read_scores(path).method == METHOD_VERSION
    path.write_text(path.read_text().replace(f'"method": {METHOD_VERSION}', f'"method": {METHOD_VERSION + 1}'))
    assert read_scores(path).method == METHOD_VERSION + 1
    with pytest.raises(SettingsError, match=f"cannot be continued: its scores are of version {METHOD_VERSION + 1}"):
        run.score()


def test_a_reference_of_another_version_places_nothing() -> None:
    found = find_reference("nb201")
    assert ReferenceSet.parse(json.dumps(found.as_json()), "same") == found
    document = found.as_json() | {"method": METHOD_VERSION + 1}
    other = ReferenceSet.parse(json.dumps(document), "other")
    assert other.settings.method == METHOD_VERSION + 1
    with pytest.raises(SettingsError, match=f"whose scores are of version {METHOD_VERSION + 1} of the scoring method"):
        other.settings.refuse_others(found.settings, name="other", of="a.onnx")


def test_settings_are_complete_in_json() -> None:
    fields = {field.name for field in dataclasses.fields(ScoreSettings)}
    full = ScoreSettings(cut_at=("a",), values=(("b", 1.0),), bf16=True, feed=Feed.of("natural"))
    assert set(full.as_json()) == fields


def test_settings_of_a_gate(zoo: Path) -> None:
    model = str(zoo / "light_squeezenet.onnx")
    settings = ScoreSettings(batch_size=2, device="cpu", seed=3)
    rules: dict[str, Any] = {"baseline": [model], "min_seeds": 2, "max_seeds": 2}
    found = az.gate(model, settings=settings, **rules)
    assert found.passed
    assert (found.policy.batch_size, found.policy.seed, found.settings["method"]) == (2, 3, METHOD_VERSION)
    with pytest.raises(SettingsError, match="batch_size is given twice: 2 in settings and 4 as a rule"):
        az.gate(model, settings=settings, batch_size=4, **rules)
    with pytest.raises(SettingsError, match="max_seeds in place of seeds"):
        az.gate(model, settings=ScoreSettings(seeds=2), **rules)
