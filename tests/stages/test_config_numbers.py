"""Numbers in configurations: one table of forms, and a way out for every form with two readings (ALB-022)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.config import human_float, human_int


@pytest.mark.parametrize(("text", "number"), [
    ("32K", 32 * 1024), ("1.5K", 1536), ("0.5K", 512), ("10B", 10_000_000_000), ("1.5B", 1_500_000_000),
    ("2T", 2 * 10**12), ("1e6", 1_000_000), ("1.5e3", 1500), ("32_768", 32768), ("1_000_000", 10**6),
    ("-3", -3), ("0", 0), ("2.0", 2), (32768, 32768), (1e6, 1_000_000), ("9007199254740993", 9007199254740993),
])
def test_every_form_of_the_table_has_one_value(text: object, number: int) -> None:
    """ALB-022."""
    assert human_int(text) == number


@pytest.mark.parametrize(("text", "way_out"), [
    ("1M", "1e6 or 1024K"), ("32k", "32e3 or 32K"), ("2G", "2e9 or 2097152K"), ("1,000", "32_768"),
    ("1.000.000", "32_768"), ("010", "write 10"), ("3_2768", "by three"), ("7b", "7B (x 10^9)"), ("1.5", "not a whole"),
    ("1e-3", "not a whole"), ("", "not a whole"), ("32 K", "not a whole"), ("0x10", "not a whole"), ("1e99", "larger"),
    (True, "not a whole"), (1.5, "not a whole"), (float("inf"), "not a whole"), ([1], "not a whole"),
])
def test_a_form_with_two_readings_is_refused_and_told_how_to_write_it(text: object, way_out: str) -> None:
    """ALB-022: an ambiguous form is rejected."""
    with pytest.raises(ValueError) as refusal:
        human_int(text)
    assert way_out in str(refusal.value)


@given(st.integers(-10**18, 10**18))
def test_a_whole_number_means_itself_however_its_digits_are_grouped(number: int) -> None:
    assert human_int(str(number)) == human_int(f"{number:_}") == human_int(number) == number


@given(st.text())
def test_no_text_breaks_the_reader_of_numbers(text: str) -> None:
    for read in (human_int, human_float):
        try:
            read(text)
        except ValueError as refusal:
            assert str(refusal)


@pytest.mark.parametrize(("text", "number"), [("3e-4", 3e-4), ("0.001", 0.001), (1, 1.0), ("1_000.5", 1000.5)])
def test_a_real_number_is_read_as_written(text: object, number: float) -> None:
    assert human_float(text) == number


@pytest.mark.parametrize("text", ["5%", "1K", "nan", "inf", "1,5", "010", True, None, float("nan"), "1e999"])
def test_a_real_number_with_a_suffix_or_without_a_value_is_refused(text: object) -> None:
    with pytest.raises(ValueError):
        human_float(text)
