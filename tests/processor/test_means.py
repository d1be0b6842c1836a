"""However many parts of the daemon an outage hits, and however often: it is said once each way."""

from __future__ import annotations

from structlog.testing import capture_logs

from processor.means import Means
from shared.errors import DatabaseUnavailableError

AWAY = DatabaseUnavailableError("away")


def said(*steps: tuple[str, str]) -> list[str]:
    means = Means()
    with capture_logs() as lines:
        for act, part in steps:
            if act == "found":
                means.found(part)
            else:
                means.missed(part, AWAY, alarm=act == "alarm")
    return [line["event"].removeprefix("processor.") for line in lines]


def test_one_part_says_once_that_they_are_gone_and_once_that_they_are_back() -> None:
    assert said(("missed", "a"), ("missed", "a"), ("found", "a"), ("found", "a")) == [
        "unavailable",
        "available",
    ]


def test_many_parts_say_it_together() -> None:
    steps = [("missed", "a"), ("missed", "b"), ("missed", "a"), ("found", "a"), ("found", "b")]
    assert said(*steps) == ["unavailable", "available"]


def test_a_part_that_never_missed_them_does_not_say_that_they_are_back() -> None:
    assert said(("missed", "a"), ("found", "b"), ("missed", "a"), ("found", "b")) == ["unavailable"]


def test_a_second_outage_is_said_again() -> None:
    steps = [("missed", "a"), ("found", "a"), ("missed", "b"), ("found", "b")]
    assert said(*steps) == ["unavailable", "available"] * 2


def test_an_alarm_is_said_each_time() -> None:
    assert said(("alarm", "a"), ("alarm", "a"), ("found", "a")) == ["unavailable", "unavailable", "available"]


def test_parts_that_find_what_was_never_missed_say_nothing() -> None:
    assert said(("found", "a"), ("found", "b")) == []
