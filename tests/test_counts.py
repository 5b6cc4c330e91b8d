from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aznas_onnx.counts import format_bytes, format_count, parse_count
from aznas_onnx.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("7", 7),
        ("600M", 600_000_000),
        ("1.2G", 1_200_000_000),
        ("5.9M", 5_900_000),
        ("153.272970M", 153_272_970),
        ("12 k", 12_000),
        (" 2t ", 2_000_000_000_000),
    ],
)
def test_counts_are_read_exactly(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text", ["", "M", "-5", "+5", "1e9", "1,000", "1_000", "600MB", "1.2.3", ".5M", "nan", "٣M", "9" * 30]
)
def test_what_is_no_count_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a count"):
        parse_count(text)


@pytest.mark.parametrize("text", ["1.5", "0.0001K"])
def test_a_fraction_of_one_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="not a whole number"):
        parse_count(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1K"),
        (1_001, "1.001K"),
        (9_999, "9.999K"),
        (600_000_000, "600M"),
        (153_272_970, "153.3M"),
        (4_089_184_256, "4.089G"),
        (999_950, "1M"),
        (999_949, "999.9K"),
        (25_557_032, "25.56M"),
        (1_234_567_890_123_456, "1235T"),
        (-12_346, "-12.35K"),
    ],
)
def test_counts_are_written_with_four_digits(count: int, text: str) -> None:
    assert format_count(count) == text


@given(st.integers(min_value=0, max_value=10**16))
def test_reading_back_what_was_written_is_close_and_stable(count: int) -> None:
    read = parse_count(format_count(count))
    assert abs(read - count) <= 0.0005 * count
    assert format_count(read) == format_count(count)


@given(st.integers(min_value=0, max_value=9_999))
def test_small_counts_survive_exactly(count: int) -> None:
    assert parse_count(format_count(count)) == count


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (44_957_696, "42.9 MiB"),
        (2**30 - 1, "1.00 GiB"),
        (5 * 2**40, "5.00 TiB"),
    ],
)
def test_sizes_are_written_in_binary_units(size: int, text: str) -> None:
    assert format_bytes(size) == text
