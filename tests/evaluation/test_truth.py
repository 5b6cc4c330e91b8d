from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation import read_truth


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "truth.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_number_columns_are_read_and_others_left(tmp_path: Path) -> None:
    path = written(tmp_path, "note,arch,top1,latency\ngood,a,90.5,1\nbad,b,,2e1\n")
    truth = read_truth(path)
    assert truth.archs == ("a", "b")
    assert truth.columns == ("top1", "latency")
    np.testing.assert_array_equal(truth.values, [[90.5, 1], [math.nan, 20]])


def test_a_genotype_may_hold_commas_and_a_file_a_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffarch,top1\n"S(1,2)",3\n\n')
    assert read_truth(path).archs == ("S(1,2)",)


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, "arch,x,y,z\na,1,2,3\n")
    truth = read_truth(path, ["z", "x", "z"])
    assert truth.columns == ("z", "x")
    assert truth.values.tolist() == [[3, 1]]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", None, "begins with nothing; distinct titles of columns are needed"),
        ("cell,x\na,1\n", None, "begins with cell, x; a column 'arch' or 'model' is needed"),
        ("arch,x,x\na,1,2\n", None, "distinct titles"),
        ("arch,x\n", None, "lists no architecture"),
        ("arch,x\na,1\nb\n", None, "line 3: 1 fields; 2 are needed"),
        ("arch,x\na,good\n", None, "no column of numbers"),
        ("arch,x\na,nan\n", None, "no column of numbers"),
        ("arch,x\na,1\n", ["y"], "column 'y' is not there; there are x"),
        ("arch,x,y\na,1,good\n", ["y"], "column 'y' does not hold numbers only: line 2 has 'good'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, text: str, columns: list[str] | None, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        read_truth(written(tmp_path, text), columns)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_truth(tmp_path / "nothing.csv")


def test_values_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        read_truth(written(tmp_path, "arch,x\na,1\n")).values[0, 0] = 2


def test_a_word_among_numbers_is_refused_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, "arch,top1\na,1\nb,high\nc,3\n")
    with pytest.raises(SettingsError, match="line 3: top1 is 'high'; a number or nothing is needed"):
        read_truth(path)


def test_repeated_measurements_are_averaged_and_told(tmp_path: Path) -> None:
    truth = read_truth(written(tmp_path, "arch,x,y\na,1,\nb,5,6\na,3,\na,2,9\n"))
    assert truth.archs == ("a", "b")
    np.testing.assert_array_equal(truth.values, [[2, 9], [5, 6]])
    (note,) = truth.notes
    assert note.endswith("lists 1 architecture several times ('a'); the measurements of each are averaged")


def test_an_architecture_counts_in_each_group_that_it_was_measured_in(tmp_path: Path) -> None:
    path = written(tmp_path, "arch,recipe,x\na,old,1\na,new,2\nb,old,3\na,old,5\n")
    truth = read_truth(path, group="recipe")
    assert list(zip(truth.archs, truth.groups, strict=True)) == [("a", "old"), ("a", "new"), ("b", "old")]
    assert truth.values.tolist() == [[3], [2], [3]]
    assert len(truth.notes) == 1


def test_the_group_and_the_size_are_no_measurements_unless_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "arch,set,ms,x\na,1,2.5,1\nb,2,3,2\n")
    truth = read_truth(path, group="set", size="ms")
    assert truth.columns == ("x",)
    assert truth.sizes is not None
    assert truth.sizes.tolist() == [2.5, 3]
    assert read_truth(path, ["ms"], size="ms").columns == ("ms",)


def test_columns_can_together_describe_an_architecture(tmp_path: Path) -> None:
    path = written(tmp_path, 'width,heads,name,x\n192,"[3, 4]",first,1\n216,"[4, 4]",second,2\n')
    truth = read_truth(path, genotype=("width", "heads", "name"))
    assert truth.archs[0] == '{"width": 192, "heads": [3, 4], "name": "first"}'
    assert truth.columns == ("x",)


def test_the_column_that_names_the_models_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "model,arch,x\nnet.a1,net,1\nnet.b,net,2\n")
    assert read_truth(path, names=["net.a1", "net.b", "other"]).archs == ("net.a1", "net.b")
    assert read_truth(path).archs == ("net",)
    assert read_truth(written(tmp_path, "model,x\nnet,1\n")).archs == ("net",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": "recipe"}, "column 'recipe' is not there; there are arch, ms, x"),
        ({"size": "mb"}, "column 'mb' is not there"),
        ({"size": "ms"}, "line 3: ms is '0'; a size is a positive number"),
    ],
)
def test_a_group_or_size_that_is_not_there(tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    path = written(tmp_path, "arch,ms,x\na,1,1\nb,0,2\n")
    with pytest.raises(SettingsError, match=message):
        read_truth(path, **arguments)


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "NA", "n/a", "null", "None"])
def test_tables_write_in_several_ways_that_there_is_no_number(tmp_path: Path, nothing: str) -> None:
    truth = read_truth(written(tmp_path, f"arch,x\na,1\nb,{nothing}\n"))
    np.testing.assert_array_equal(truth.values, [[1], [math.nan]])


def test_where_lower_is_better_the_sign_is_turned(tmp_path: Path) -> None:
    path = written(tmp_path, "arch,x,ppl\na,1,30\nb,2,20\n")
    truth = read_truth(path, lower=["ppl"])
    assert truth.values.tolist() == [[1, -30], [2, -20]]
    assert truth.lower == truth.take([1]).lower == {"ppl"}
    with pytest.raises(SettingsError, match="column 'loss' is not compared with; there are x, ppl"):
        read_truth(path, lower=["loss"])
