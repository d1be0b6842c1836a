"""Waits double up to a cap, never overflow, and scatter a little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import backoff_seconds


@given(st.integers(1, 10**9), st.floats(0, 0.999))
def test_never_above_the_cap_and_never_far_below(attempt: int, chance: float) -> None:
    seconds = backoff_seconds(attempt, base_seconds=30, cap_seconds=3600, chance=lambda: chance)
    full = min(30 * 2.0 ** min(attempt - 1, 40), 3600)
    assert full * 0.9 <= seconds <= full


def test_the_first_waits_double() -> None:
    waits = [backoff_seconds(attempt, chance=lambda: 0.0) for attempt in range(1, 9)]
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600]


def test_two_that_failed_together_do_not_return_together() -> None:
    assert len({backoff_seconds(5) for _ in range(20)}) > 1


def test_there_is_no_attempt_zero() -> None:
    with pytest.raises(ValueError, match="first attempt is 1"):
        backoff_seconds(0)
