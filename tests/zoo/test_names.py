from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aznas_onnx.errors import SettingsError
from aznas_onnx.zoo import ZooName, is_name

SIZES = st.none() | st.tuples(st.integers(16, 2048), st.integers(16, 2048))


@given(
    library=st.sampled_from(["timm", "torchvision"]),
    network=st.from_regex(r"[a-z][a-z0-9_]{0,20}(\.[a-z0-9_]{1,9})?", fullmatch=True),
    size=SIZES,
)
def test_a_name_is_read_as_it_is_written(library: str, network: str, size: tuple[int, int] | None) -> None:
    name = ZooName(library, network, size)
    assert ZooName.parse(str(name)) == name
    assert is_name(str(name))


def test_one_number_is_height_and_width() -> None:
    assert ZooName.parse("timm:vit_small_patch16_224@384").size == (384, 384)
    assert str(ZooName("timm", "a", (64, 64))) == "timm:a@64"
    assert str(ZooName("timm", "a", (64, 32))) == "timm:a@64x32"


@pytest.mark.parametrize(
    "text",
    [
        "timm:",
        "timm:hf-hub:someone/network",
        "timm:../network",
        "timm:a b",
        "timm:resnet50@",
        "timm:resnet50@large",
        "timm:resnet50@0",
        "timm:resnet50@224x",
        "torchvision:resnet50@99999",
        "torchvision:resnet50@224x9",
        "timm:\u0660",
        "timm:resnet50@\u0662\u0662\u0664",
        "keras:resnet50",
    ],
)
def test_another_form_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is no name of a network|is accepted") as caught:
        ZooName.parse(text)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "path", ["resnet50.onnx", "./timm:resnet50", "models/timm:a.onnx", "C:/timm", "timm", "git:main:a.onnx", ""]
)
def test_a_path_is_no_name(path: str) -> None:
    assert not is_name(path)
