from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.evaluation import read_scores
from aznas_onnx.evaluation.measured import proxy_table
from aznas_onnx.evaluation.report.bench_command import bench_command
from aznas_onnx.evaluation.run import bench
from aznas_onnx.proxies import PROXIES, Direction
from aznas_onnx.ranking import rank
from aznas_onnx.results import ProxyScores, ProxyValue, Status
from aznas_onnx.searching import Study, StudyError, search
from aznas_onnx.searching.stored_settings import StoredScoring
from tests.evaluation.samples import record, truth_of

SOURCE = """
from aznas_onnx.proxies import Direction, Need, Outcome, Proxy

LIGHT = Proxy(
    name="{name}",
    description="parameters, of which few are better",
    equation="none",
    direction=Direction.LOWER_IS_BETTER,
    needs=Need.GRAPH,
    evaluate=lambda evidence: Outcome(value=float(evidence.params)),
)
"""
SMALL: dict[str, Any] = {"batch_size": 2, "device": "cpu", "space_options": {"resolution": 8}}


@pytest.fixture
def proxy(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A proxy of one's own, of a name that no other test loads."""
    file = tmp_path / "mine.py"
    file.write_text(SOURCE.format(name=f"light_{abs(hash(request.node.name))}"))
    return f"{file}:LIGHT"


def elsewhere(code: str) -> Any:
    """Run code in a process that never loaded the proxy."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_study_has_the_same_winner_in_a_process_that_knows_nothing_of_the_proxy(tmp_path: Path, proxy: str) -> None:
    path = tmp_path / "run.db"
    study = search("nb201", iterations=6, db=path, proxies=[proxy], **SMALL)
    best = [one.trial.genotype for one in study.best(6)]
    params = [one.trial.cost.params for one in study.best(6)]
    assert params[0] < params[-1]  # lower is better, and they differ
    code = f"import json, aznas_onnx as az; from aznas_onnx.searching import Study; s = Study.open({str(path)!r})"
    assert elsewhere(f"{code}; print(json.dumps([one.trial.genotype for one in s.best(6)]))") == best


def test_a_proxy_of_a_file_may_have_a_name_that_reads_as_a_number(tmp_path: Path) -> None:
    file = tmp_path / "numbers.py"
    file.write_text(SOURCE.format(name="nan_test").replace("LIGHT", "NAN"))
    PROXIES.load_all([f"{file}:NAN"])
    assert PROXIES.weights([f"{file}:NAN:0.5"]) == {"nan_test": 0.5}
    with pytest.raises(SettingsError, match=r"numbers\.py has no INF; it has NAN"):
        PROXIES.load_all([f"{file}:INF"])


def test_a_weight_that_is_no_number_is_a_sentence() -> None:
    with pytest.raises(UnknownNameError, match="the weight 'x' of synflow is no number"):
        PROXIES.resolve(["synflow:x"])


def test_a_study_is_not_resumed_with_other_code(tmp_path: Path, proxy: str) -> None:
    path = tmp_path / "run.db"
    search("nb201", iterations=2, db=path, proxies=[proxy], **SMALL)
    kept = Study.open(path).settings.scoring.user_proxies
    (own,) = kept.values()
    assert own.direction is Direction.LOWER_IS_BETTER
    assert own.reference == proxy
    assert len(search("nb201", iterations=3, db=path, resume=True, proxies=[proxy], **SMALL).trials) == 3
    file = Path(proxy.rpartition(":")[0])
    file.write_text(file.read_text().replace("evidence.params", "evidence.macs"))
    with pytest.raises(StudyError, match=r"scoring\.own_proxies\.light_\d+\.code is "):
        search("nb201", iterations=4, db=path, resume=True, proxies=[proxy], **SMALL)


def test_a_study_is_resumed_where_the_file_of_the_proxy_moved(tmp_path: Path, proxy: str) -> None:
    path, file = tmp_path / "run.db", Path(proxy.rpartition(":")[0])
    search("nb201", iterations=2, db=path, proxies=[proxy], **SMALL)
    moved = tmp_path / "moved" / file.name
    moved.parent.mkdir()
    file.rename(moved)
    code = (
        "import json, aznas_onnx as az\n"
        f"own = {[f'{moved}:LIGHT']}\n"
        f"s = az.search('nb201', iterations=3, db={str(path)!r}, resume=True, proxies=own, **{SMALL})\n"
        "print(json.dumps(len(s.trials)))"
    )
    assert elsewhere(code) == 3


def test_scores_keep_direction_code_and_reference(tmp_path: Path, proxy: str) -> None:
    genotypes = [
        "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
    ]
    truth, path = truth_of(tmp_path, dict(zip(genotypes, (1.0, 2.0), strict=True))), tmp_path / "scores.jsonl"
    bench("nb201", truth, scores=path, proxies=[proxy], **SMALL)
    scores = read_scores(path)
    assert list(scores.directions.values()) == [Direction.LOWER_IS_BETTER]
    command = bench_command(scores, truth=tmp_path / "truth.csv", measured=truth, path=path, archs=genotypes)
    assert "--proxies mine.py:LIGHT" in command
    file = Path(proxy.rpartition(":")[0])
    file.write_text(file.read_text().replace("evidence.params", "evidence.macs"))
    with pytest.raises(SettingsError, match="code is "):
        bench("nb201", truth, scores=path, proxies=[proxy], **SMALL)


def test_files_from_before_are_read() -> None:
    assert StoredScoring.from_json({"proxies": ["macs"], "effort": "paper"}).directions == {}


def test_what_a_file_says_decides_the_order_of_a_proxy_that_is_not_loaded() -> None:
    few, many = (
        ProxyScores(model=name, status=Status.OK, proxies={"unheard_of": ProxyValue(mean=value)})
        for name, value in (("few", 1.0), ("many", 2.0))
    )
    assert rank([many, few], directions={"unheard_of": Direction.LOWER_IS_BETTER}).order == (1, 0)
    assert rank([many, few], directions={"unheard_of": Direction.HIGHER_IS_BETTER}).order == (0, 1)
    with pytest.raises(UnknownNameError, match="nothing says whether higher or lower values of proxy 'unheard_of'"):
        rank([many, few])


def test_a_table_of_records_keeps_to_what_their_file_says() -> None:
    records = [record("a", unheard_of=1.0), record("b", unheard_of=2.0)]
    _, _, table = proxy_table(records, directions={"unheard_of": Direction.LOWER_IS_BETTER})
    assert table.tolist() == [[-1.0], [-2.0]]
    with pytest.raises(UnknownNameError):
        proxy_table(records)


def test_only_proxies_that_come_with_the_package_are_built_in(proxy: str) -> None:
    loaded = PROXIES.load(proxy)
    assert not PROXIES.is_built_in(loaded.name)
    assert PROXIES.is_built_in("macs")
