"""Our standing with a provider: a refused key stops everything, one odd document stops nothing else."""

from __future__ import annotations

import pytest
import structlog

from processor.access import Access
from shared.errors import AccessError
from tests.doubles import FakeTime

ERROR = AccessError("401: set the key")


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def access(time: FakeTime) -> Access:
    return Access("asked", pause_seconds=30, monotonic=time.seconds)


def test_a_refused_key_lets_one_trial_through_after_each_pause(access: Access, time: FakeTime) -> None:
    assert access.allowance(4) == 4
    assert access.refused(ERROR, "a")
    assert access.allowance(4) == 0
    assert access.wait_seconds() == 30
    time.pass_seconds(30)
    assert access.allowance(4) == 1
    access.begin()
    assert access.allowance(4) == 0
    access.accepted("a")
    assert access.allowance(4) == 4


def test_it_is_said_once_however_many_are_refused(access: Access, time: FakeTime) -> None:
    with structlog.testing.capture_logs() as lines:
        for about in "abcd":
            access.refused(ERROR, about)
        for _ in range(5):
            time.pass_seconds(1000)
            access.begin()
            access.refused(ERROR, "a")
        access.accepted("b")
        access.accepted("c")
    assert [line["event"] for line in lines] == ["provider.refuses_us", "provider.accepts_us"]


def test_one_that_is_refused_again_while_others_are_accepted_is_not_about_the_key(access: Access) -> None:
    """A provider may answer 403 for a single document; that must not stop the others for ever."""
    assert access.refused(ERROR, "odd")
    access.accepted("other")
    assert not access.refused(ERROR, "odd")
    assert access.allowance(4) == 4
    # Once it was accepted, its next refusal counts as any.
    access.accepted("odd")
    assert access.refused(ERROR, "odd")


def test_used_up_calls_stop_everything_for_as_long_as_was_said(access: Access, time: FakeTime) -> None:
    access.used_up(100)
    access.used_up(10)
    time.pass_seconds(99)
    assert access.allowance(4) == 0
    assert access.wait_seconds() == 1
    time.pass_seconds(1)
    assert access.allowance(4) == 4
