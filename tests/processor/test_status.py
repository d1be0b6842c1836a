"""The transition table: a status only moves forward, whatever the order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.status import Claim, decide, replay
from shared.events import DocumentStatus, Event, EventType, Outcome


def make_event(kind: EventType) -> Event:
    return Event("1", kind.value.upper(), kind, key=kind.value)


def play(kinds: Sequence[EventType]) -> DocumentStatus:
    """The status after these events, each recorded as the daemon would."""
    status, said = DocumentStatus.PENDING, set()
    for kind in kinds:
        event = make_event(kind)
        outcome, status = decide(status, event, said_before=event.key in said)
        if outcome not in (Outcome.REPEATED, Outcome.UNKNOWN_ACTION):
            said.add(event.key)
    return status


FORWARD = [kind for kind in EventType if kind is not EventType.REOPENED]


@given(
    st.lists(st.sampled_from(FORWARD), max_size=12).flatmap(
        lambda kinds: st.tuples(
            st.just(kinds),
            st.permutations(kinds),
            st.lists(st.sampled_from(kinds or FORWARD[:1]), max_size=8),
        )
    )
)
def test_any_order_and_any_repetition_end_in_the_same_status(
    case: tuple[list[EventType], list[EventType], list[EventType]],
) -> None:
    kinds, shuffled, repeats = case
    again = [kind for kind in repeats if kind in kinds]
    assert play(kinds) == play(shuffled) == play([*shuffled, *again]) == play([*again, *shuffled])


@given(st.lists(st.sampled_from(list(EventType)), max_size=12))
def test_completed_is_never_undone(kinds: list[EventType]) -> None:
    assert play([EventType.COMPLETED, *kinds]) is DocumentStatus.COMPLETED


def test_the_order_is_the_documented_one() -> None:
    assert [str(status) for status in sorted(DocumentStatus, key=lambda status: status.rank)] == [
        "pending",
        "processing",
        "expired",
        "cancelled",
        "deleted",
        "declined",
        "failed",
        "completed",
    ]


@pytest.mark.parametrize(
    ("current", "kind", "outcome", "after"),
    [
        ("pending", EventType.COMPLETED, Outcome.APPLIED, "completed"),
        ("pending", EventType.SENT, Outcome.UNCHANGED, "pending"),
        ("pending", EventType.PROGRESS, Outcome.UNCHANGED, "pending"),
        ("completed", EventType.EXPIRED, Outcome.LATE, "completed"),
        ("declined", EventType.EXPIRED, Outcome.LATE, "declined"),
        ("expired", EventType.REOPENED, Outcome.APPLIED, "pending"),
        ("completed", EventType.REOPENED, Outcome.LATE, "completed"),
        ("pending", EventType.UNKNOWN, Outcome.UNKNOWN_ACTION, "pending"),
    ],
)
def test_what_an_event_leads_to(current: str, kind: EventType, outcome: Outcome, after: str) -> None:
    assert decide(DocumentStatus(current), make_event(kind), said_before=False) == (
        outcome,
        DocumentStatus(after),
    )


def test_what_was_said_before_changes_nothing() -> None:
    assert decide(DocumentStatus.PENDING, make_event(EventType.COMPLETED), said_before=True) == (
        Outcome.REPEATED,
        DocumentStatus.PENDING,
    )


# Documents that may be reopened

Dated = tuple[EventType, int]
"""An event and the second in which it happened."""

START = datetime(2026, 11, 21, tzinfo=UTC)
CLAIMING = [kind for kind in EventType if kind.status is not None]


def play_dated(events: Sequence[Dated]) -> tuple[list[Outcome], DocumentStatus]:
    """What these events lead to in the order of arrival, each recorded as the daemon would."""
    status, said, history, outcomes = DocumentStatus.PENDING, set(), [], []
    for kind, second in events:
        event = Event("1", kind, kind, key=f"{kind}:{second}")
        said_before = event.key in said
        if not said_before and kind.status is not None:
            history.append(Claim(START + timedelta(seconds=second), kind))
        outcome, status = decide(status, event, said_before=said_before, history=history)
        said.add(event.key)
        outcomes.append(outcome)
    return outcomes, status


DECLINED, EXPIRED, CANCELLED = EventType.DECLINED, EventType.EXPIRED, EventType.CANCELLED
REOPENED, COMPLETED = EventType.REOPENED, EventType.COMPLETED


@pytest.mark.parametrize(
    ("story", "status"),
    [
        ([EXPIRED, REOPENED], "pending"),
        ([DECLINED, REOPENED], "pending"),
        ([EXPIRED, REOPENED, EXPIRED], "expired"),
        ([DECLINED, REOPENED, EXPIRED], "expired"),
        ([CANCELLED, REOPENED, EXPIRED, REOPENED], "pending"),
        ([EXPIRED, REOPENED, DECLINED, REOPENED, CANCELLED], "cancelled"),
        ([EXPIRED, REOPENED, COMPLETED], "completed"),
        ([COMPLETED, REOPENED, EXPIRED], "completed"),
    ],
)
def test_a_story_with_reopenings_ends_the_same_in_every_order_of_arrival(
    story: Sequence[EventType], status: str
) -> None:
    dated = list(zip(story, range(len(story)), strict=True))
    for arrived in permutations(dated):
        assert play_dated(arrived)[1] == status, arrived
        assert play_dated([*arrived, *arrived])[1] == status, arrived


@given(
    st.lists(st.tuples(st.sampled_from(CLAIMING), st.integers(0, 99)), max_size=10, unique_by=lambda e: e[1])
    .flatmap(lambda events: st.tuples(st.just(events), st.permutations(events)))
    .flatmap(
        lambda case: st.tuples(*map(st.just, case), st.lists(st.sampled_from(case[0] or [(EXPIRED, 0)])))
    )
)
def test_with_dates_any_order_and_any_repetition_end_in_the_same_status(
    case: tuple[list[Dated], list[Dated], list[Dated]],
) -> None:
    events, shuffled, repeats = case
    again = [event for event in repeats if event in events]
    assert play_dated(events)[1] is play_dated(shuffled)[1] is play_dated([*again, *shuffled, *again])[1]


def test_of_what_happened_in_the_same_instant_the_later_arrival_counts() -> None:
    assert play_dated([(EXPIRED, 0), (REOPENED, 0)]) == ([Outcome.APPLIED, Outcome.APPLIED], "pending")
    assert play_dated([(REOPENED, 0), (EXPIRED, 0)]) == ([Outcome.UNCHANGED, Outcome.APPLIED], "expired")


def test_a_late_word_of_what_was_before_the_reopening_is_late() -> None:
    assert play_dated([(REOPENED, 5), (DECLINED, 3)]) == ([Outcome.UNCHANGED, Outcome.LATE], "pending")
    assert play_dated([(DECLINED, 3), (EXPIRED, 7), (REOPENED, 5)]) == (
        [Outcome.APPLIED, Outcome.LATE, Outcome.APPLIED],
        "expired",
    )


@given(st.lists(st.sampled_from(FORWARD), max_size=8))
def test_without_a_reopening_the_history_changes_nothing(kinds: list[EventType]) -> None:
    assert play_dated([(kind, place) for place, kind in enumerate(kinds)])[1] is play(kinds)


def test_nothing_said_is_pending() -> None:
    assert replay([]) is DocumentStatus.PENDING
