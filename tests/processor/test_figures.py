"""What the look at the database finds: counts by lane and state, what is overdue, who called last."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, select, update

from processor import figures as module
from processor import polls
from processor.figures import OTHER_LANE, Figures, figures
from shared.db.models import FileRow, OutboxRow, PollRow, State
from shared.providers._base import Ask
from tests.processor.conftest import Workshop

LANES = ("provider:ssign", "destination:memory", "mirror")


def look(workshop: Workshop, spool_id: str | None = None) -> Figures:
    with workshop.database.reading() as connection:
        return figures(connection, LANES, spool_id=spool_id or workshop.spool_id, now=workshop.clock.now())


def change(workshop: Workshop, of_lane: str, **values: object) -> None:
    with workshop.database.transaction() as connection:
        connection.execute(update(OutboxRow).where(OutboxRow.lane == of_lane).values(**values))


def completed(workshop: Workshop, count: int) -> None:
    """Documents of which a file and a workflow step are owed."""
    for number in range(count):
        workshop.put({"envelopeId": 100 + number, "action": "COMPLETED"})
    workshop.work()


def test_an_empty_database_has_a_zero_for_every_lane_and_state(workshop: Workshop) -> None:
    found = look(workshop)
    open_states = [str(state) for state in State if state is not State.DONE]
    assert found.owed == {(lane, state): 0 for lane in (*LANES, OTHER_LANE) for state in open_states}
    assert found.overdue_since == {}
    assert found.unanswered_since == {}


def test_what_is_owed_is_counted_by_lane_and_state(workshop: Workshop) -> None:
    """What is done is not counted; lanes that are in no setting any more are one."""
    completed(workshop, 3)
    assert look(workshop).owed["provider:ssign", "due"] == 3
    assert look(workshop).owed["destination:memory", "due"] == 3
    change(workshop, "provider:ssign", state=State.HELD)
    change(workshop, "destination:memory", lane="destination:gone", state=State.WAITING)
    found = look(workshop)
    assert found.owed["provider:ssign", "held"] == 3
    assert found.owed["provider:ssign", "due"] == 0
    assert found.owed["destination:memory", "due"] == 0
    assert found.owed[OTHER_LANE, "waiting"] == 3
    change(workshop, "provider:ssign", state=State.DONE)
    assert look(workshop).owed["provider:ssign", "held"] == 0


def test_no_more_than_so_many_are_counted(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COUNTED", 2)
    completed(workshop, 3)
    assert look(workshop).owed["provider:ssign", "due"] == 2


def test_overdue_is_what_is_due_and_nobody_works_on(workshop: Workshop) -> None:
    completed(workshop, 1)
    due_at = workshop.clock.now()
    assert "provider:ssign" not in look(workshop).overdue_since
    workshop.time.pass_seconds(90)
    assert look(workshop).overdue_since["provider:ssign"] == due_at
    now = workshop.clock.now()
    change(workshop, "provider:ssign", lease_until=now + timedelta(seconds=60))
    assert "provider:ssign" not in look(workshop).overdue_since
    workshop.time.pass_seconds(61)
    assert look(workshop).overdue_since["provider:ssign"] == due_at, "whoever had it is silent"
    change(workshop, "provider:ssign", next_attempt_at=workshop.clock.now() + timedelta(seconds=60))
    assert "provider:ssign" not in look(workshop).overdue_since


def test_what_only_another_machine_can_deliver_is_not_overdue_here(workshop: Workshop) -> None:
    """Its file lies over there."""
    completed(workshop, 1)
    with workshop.database.transaction() as connection:
        connection.execute(
            insert(FileRow).values(
                id=1,
                document_fk=connection.scalar(select(OutboxRow.document_fk).limit(1)),
                kind="signed",
                source="signed:1",
                name="1.pdf",
                media_type="application/pdf",
                size_bytes=1,
                sha256="0" * 64,
                path="1.pdf",
                spool_id="over there",
                fetched_at=workshop.clock.now(),
            )
        )
    change(workshop, "destination:memory", file_fk=1)
    workshop.time.pass_seconds(90)
    assert set(look(workshop).overdue_since) == {"provider:ssign"}
    assert set(look(workshop, "over there").overdue_since) == {"provider:ssign", "destination:memory"}


def test_a_provider_that_should_have_been_asked_is_overdue(workshop: Workshop) -> None:
    """Not while it is being asked, nor about what is asked no more."""
    due_at = workshop.clock.now()
    with workshop.database.transaction() as connection:
        polls.keep(connection, "one", [Ask("first")], due_at)
        polls.keep(connection, "two", [Ask("second", after_seconds=3600)], due_at)
    workshop.time.pass_seconds(90)
    assert look(workshop).poll_overdue_since == {"one": due_at}
    with workshop.database.transaction() as connection:
        polls.lease(
            connection,
            "one",
            1,
            leased_by=workshop.spool_id,
            now=workshop.clock.now(),
            lease_seconds=60,
            busy=(),
        )
    assert look(workshop).poll_overdue_since == {}
    workshop.time.pass_seconds(61)
    assert look(workshop).poll_overdue_since == {"one": due_at}, "whoever asked is silent"
    with workshop.database.transaction() as connection:
        connection.execute(update(PollRow).values(next_at=None))
    assert look(workshop).poll_overdue_since == {}
