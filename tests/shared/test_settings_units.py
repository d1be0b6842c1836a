"""Sizes and durations: every way to write one, and what is said of anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.settings.units import (
    MAX_DURATION_SECONDS,
    MAX_SIZE_BYTES,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@given(st.integers(min_value=0, max_value=MAX_SIZE_BYTES))
def test_a_size_is_read_back_as_it_was_written(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes
    assert parse_size(size_bytes) == size_bytes


@given(
    st.floats(min_value=0, max_value=MAX_DURATION_SECONDS, allow_subnormal=False).filter(
        lambda value: value == 0 or value > 1e-9
    )
)
def test_a_duration_is_read_back_as_it_was_written(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=MAX_DURATION_SECONDS * 1000))
def test_a_duration_of_whole_milliseconds_is_exact(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds
    assert parse_duration(f"{milliseconds}ms") == seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("10MiB", 10 * 2**20), ("64 kib", 65_536), ("1GB", 10**9), ("1.5KiB", 1536), ("7", 7), ("7B", 7)],
)
def test_sizes_are_written_with_units(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "value", ["", "10M", "1.5B", "-1", "MiB", "1e3", "٣MiB", -1, 1.5, True, None, 2**63, "8388608TiB"]
)
def test_what_is_no_size_is_told_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="write it as 10MiB"):
        parse_size(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("15m", 900),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1d 2h", 93_600),
        ("1.5h", 5400),
        ("30", 30),
        (0.25, 0.25),
    ],
)
def test_durations_are_written_with_units(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", ["", "m", "30m1h", "1x", "1h1h", "-5", "٣m", -1, True, None])
def test_what_is_no_duration_is_told_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="write it as 15m"):
        parse_duration(value)


def test_a_duration_longer_than_a_century_is_refused() -> None:
    assert parse_duration("36500d") == MAX_DURATION_SECONDS
    for value in ("36501d", 1e300, 10**400):
        with pytest.raises(ValueError, match="longer than a hundred years"):
            parse_duration(value)
