"""The transition table: a status only moves forward, whatever the order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.status import decide
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
