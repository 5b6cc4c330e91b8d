from __future__ import annotations

import click
import pytest

from aznas_onnx.cli.options import read_count, read_input_shapes, read_values

PARAMETER = click.Option(["--anything"])
CONTEXT = click.Context(click.Command("anything"))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("image=1x3x224x224", ("image", (1, 3, 224, 224))),
        ("1x3x32x32", ("", (1, 3, 32, 32))),
        ("serving:a=b=2x8", ("serving:a=b", (2, 8))),
        ("x=1,3,8,8", ("x", (1, 3, 8, 8))),
        ("x=1X16", ("x", (1, 16))),
        ("x=25xNx16", ("x", (25, -1, 16))),
        ("past=1x0x16", ("past", (1, 0, 16))),
    ],
)
def test_input_shapes_are_read(text: str, parsed: tuple[str, tuple[int, ...]]) -> None:
    name, shape = parsed
    assert read_input_shapes(CONTEXT, PARAMETER, [text]) == {name: shape}


@pytest.mark.parametrize("text", ["", "x=", "x=1x-3", "x=1x", "x=Cx3", "x=1xx3", "x=1.5x2", "x=" + "9" * 20, "x=١x2"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="NAME=SHAPE with sizes"):
        read_input_shapes(CONTEXT, PARAMETER, [text])


def test_an_input_has_one_shape() -> None:
    assert read_input_shapes(CONTEXT, PARAMETER, ["a=1x2", "1"]) == {"a": (1, 2), "": (1,)}
    with pytest.raises(click.BadParameter, match="'a=1x3' gives an input a second shape"):
        read_input_shapes(CONTEXT, PARAMETER, ["a=1x2", "a=1x3"])


def test_counts_take_units_and_explain_what_they_refuse() -> None:
    assert read_count(CONTEXT, PARAMETER, "1.2G") == 1_200_000_000
    assert read_count(CONTEXT, PARAMETER, None) is None
    with pytest.raises(click.BadParameter, match="such as 600M"):
        read_count(CONTEXT, PARAMETER, "many")


@pytest.mark.parametrize(
    ("text", "value"),
    [("50", 50), ("-1", -1), ("0.5", 0.5), ("1e3", 1000.0), ("true", True), ("False", False), ("224, 112", [224, 112])],
)
def test_values_are_read(text: str, value: object) -> None:
    (read,) = read_values(CONTEXT, PARAMETER, [f"a=b={text}"]).items()
    assert read == ("a=b", value)
    assert type(read[1]) is type(value)


@pytest.mark.parametrize("text", ["x=", "x=many", "x=1,,2", "x=nan", "x=inf", "x=" + "9" * 400, "x=1e999", "50"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read_values(CONTEXT, PARAMETER, [text])
    with pytest.raises(click.BadParameter, match="a second value"):
        read_values(CONTEXT, PARAMETER, ["a=1", "a=2"])
