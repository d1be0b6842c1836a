"""A peer that keeps failing is left alone, then tried with one attempt at a time."""

from __future__ import annotations

from processor.breaker import Breaker
from tests.doubles import FakeTime


def make_breaker(time: FakeTime) -> Breaker:
    return Breaker(failures=3, pause_seconds=30, monotonic=time.clock().monotonic)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.begin()
        breaker.failed()


def test_it_opens_after_failures_in_a_row() -> None:
    time = FakeTime()
    breaker = make_breaker(time)
    fail(breaker, 2)
    assert breaker.allowance(4) == 4
    fail(breaker, 1)
    assert breaker.is_open
    assert breaker.allowance(4) == 0


def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker = make_breaker(FakeTime())
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.is_open


def test_after_the_pause_one_trial_is_let_through_and_its_success_closes_it() -> None:
    time = FakeTime()
    breaker = make_breaker(time)
    fail(breaker, 3)
    time.pass_seconds(31)
    assert breaker.allowance(4) == 1
    breaker.begin()
    assert breaker.allowance(4) == 0
    breaker.succeeded()
    assert breaker.allowance(4) == 4


def test_failed_trials_lengthen_the_pause_up_to_four_times() -> None:
    time = FakeTime()
    breaker = make_breaker(time)
    fail(breaker, 3)
    pauses = []
    for _ in range(6):
        waited = 0
        while breaker.allowance(1) == 0:
            time.pass_seconds(10)
            waited += 10
        pauses.append(waited)
        fail(breaker, 1)
    assert pauses == [30, 60, 120, 120, 120, 120]


def test_a_trial_that_said_nothing_about_the_peer_may_be_made_again() -> None:
    time = FakeTime()
    breaker = make_breaker(time)
    fail(breaker, 3)
    time.pass_seconds(31)
    breaker.begin()
    breaker.abandoned()
    assert breaker.allowance(4) == 1


def test_late_failures_of_the_first_crowd_do_not_lengthen_the_pause() -> None:
    """Several attempts run at once; those that fail after the breaker opened were no trials."""
    time = FakeTime()
    breaker = make_breaker(time)
    for _ in range(6):
        breaker.begin()
    for _ in range(6):
        breaker.failed()
    time.pass_seconds(31)
    assert breaker.allowance(1) == 1
