from __future__ import annotations

import pytest

from aznas_onnx.errors import SettingsError
from aznas_onnx.evaluation.sample_archs import choose_archs
from aznas_onnx.spaces import GenotypeError
from tests.evaluation.samples import BuiltDigits, SortedDigits

ARCHS = tuple(f"{number:03}" for number in range(100))
SPACE = BuiltDigits(length=3)


def test_a_larger_sample_begins_with_the_smaller_one() -> None:
    everything = choose_archs(ARCHS, SPACE)
    assert sorted(everything) == list(ARCHS)
    assert everything != ARCHS
    for size in (1, 7, 99):
        assert choose_archs(ARCHS, SPACE, sample=size) == everything[:size]


def test_the_seed_decides() -> None:
    assert choose_archs(ARCHS, SPACE, seed=1) != choose_archs(ARCHS, SPACE)
    assert choose_archs(ARCHS, SPACE, seed=1) == choose_archs(ARCHS, SPACE, seed=1)


def test_unique_keeps_the_first_of_each() -> None:
    archs = ("210", "012", "003", "120", "300")
    assert sorted(choose_archs(archs, SortedDigits(length=3), unique=True)) == ["003", "210"]


def test_a_space_that_defines_no_sameness_says_so() -> None:
    with pytest.raises(SettingsError, match="'digits' does not say which of its architectures are the same network"):
        choose_archs(ARCHS, SPACE, unique=True)


@pytest.mark.parametrize("size", [0, 101])
def test_a_sample_is_no_larger_than_what_there_is(size: int) -> None:
    with pytest.raises(SettingsError, match=f"a sample of {size} is requested, and there are 100 architectures"):
        choose_archs(ARCHS, SPACE, sample=size)


def test_every_architecture_is_of_the_space() -> None:
    with pytest.raises(GenotypeError):
        choose_archs(("012", "x"), SPACE, sample=1)
