"""Looks in the background: nobody waits for long, and what fails is not forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog.testing

from shared.errors import SpoolUnavailableError
from shared.metrics.looks import Look
from tests.waiting import PATIENCE_SECONDS, wait_until

DEADLINE_SECONDS = PATIENCE_SECONDS


@contextmanager
def looking(act: Callable[[], int], keep_seconds: float = 0.0) -> Iterator[Look[int]]:
    look = Look("spool", act, keep_seconds=keep_seconds)
    look.start()
    try:
        yield look
    finally:
        look.close()


def wait(condition: Callable[[], bool]) -> None:
    wait_until(condition, "the look")


def test_a_look_that_hangs_holds_nobody_up_and_leaves_what_was_found_before() -> None:
    """As on a network file system whose server is gone."""
    hang, found = threading.Event(), iter(range(100))

    def act() -> int:
        number = next(found)
        if number:
            hang.wait(DEADLINE_SECONDS)
        return number

    with looking(act) as look:
        wait(lambda: look.age_seconds() < DEADLINE_SECONDS)
        began = time.monotonic()
        again = look.latest(0.05)
        assert again is not None
        assert again.value == 0
        assert time.monotonic() - began < DEADLINE_SECONDS / 2
        hang.set()


def test_before_the_first_look_has_ended_there_is_nothing() -> None:
    hang = threading.Event()
    with looking(lambda: int(hang.wait(DEADLINE_SECONDS))) as look:
        assert look.latest(0.01) is None
        assert look.age_seconds() == float("inf")
        hang.set()
        wait(lambda: look.latest() is not None)
        assert look.age_seconds() < DEADLINE_SECONDS


def test_what_is_asked_again_within_the_time_is_not_looked_at_again() -> None:
    looks = iter(range(100))
    with looking(lambda: next(looks), keep_seconds=3600) as look:
        found = [look.latest(DEADLINE_SECONDS) for _ in range(5)]
    assert [item.value for item in found if item is not None] == [0] * 5


def test_a_look_that_fails_says_so_and_the_next_one_is_made() -> None:
    """An unexpected error is logged once, and a spool that is away is for others to tell."""
    answers: list[int | Exception] = [
        1,
        ValueError("odd"),
        ValueError("odd"),
        SpoolUnavailableError("away"),
        5,
    ]

    def act() -> int:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    with structlog.testing.capture_logs() as lines, looking(act) as look:
        seen = set()

        def is_over() -> bool:
            found = look.latest()
            assert found is not None
            seen.add((found.value, type(look.error)))
            return found.value == 5

        wait(is_over)
    assert (1, ValueError) in seen
    assert look.error is None
    assert [line["event"] for line in lines] == ["metrics.look_failed"]
