"""Who works on what: nothing is taken twice, nothing that waits stands in the way, whatever runs out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select

from processor import leasing, outbox
from processor.destinations._base import Parcel, Sending
from processor.leasing import Leased
from shared.db.models import OutboxRow, State, Task
from shared.errors import LeaseLostError
from tests.doubles import MemoryDestination
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import Yard, complete
from tests.waiting import wait_until

LANE = "destination:memory"


@pytest.fixture
def yard(workshop: Workshop) -> Yard:
    return Yard(workshop)


def lease(workshop: Workshop, limit: int = 1, spool_id: str | None = None, **options: Any) -> list[Leased]:
    with workshop.database.transaction() as connection:
        taken, _ = leasing.lease(
            connection,
            options.pop("lane", LANE),
            limit,
            spool_id=spool_id or workshop.spool_id,
            now=workshop.clock.now(),
            lease_seconds=300,
            **options,
        )
    return taken


def row_of(workshop: Workshop, row_id: int) -> Any:
    with workshop.database.reading() as connection:
        return connection.execute(select(OutboxRow).where(OutboxRow.id == row_id)).one()


def fetched(yard: Yard, count: int = 1) -> None:
    """Have this many documents fetched, so that a delivery of each is due, and a workflow step after it."""
    for number in range(count):
        complete(yard.workshop, document_id=str(number))
    asyncio.run(_once(yard, "provider:ssign"))


async def _once(yard: Yard, lane: str, concurrency: int = 100) -> None:
    made = yard.lane(lane, concurrency=concurrency)
    await made.take()
    await made.drain(30)


def test_a_lane_finds_its_work_behind_any_number_of_steps_that_have_to_wait(yard: Yard) -> None:
    """They step aside, so that each look is at a bounded number of rows, and the next one is past them."""
    workshop = yard.workshop
    fetched(yard)
    workshop.time.pass_seconds(-60)
    for number in range(110):
        workshop.put({"envelopeId": f"unfetched-{number}", "action": "COMPLETED"})
    workshop.work()
    workshop.time.pass_seconds(60)
    asyncio.run(_once(yard, LANE, concurrency=4))
    assert len(workshop.destination.delivered) == 1
    # Its own step, and none of those that wait for a fetch.
    assert [item.task for item in lease(workshop, 4)] == [Task.ADVANCE]


def test_a_step_is_taken_right_after_the_delivery_that_it_waited_for(yard: Yard) -> None:
    """Not when somebody looks at it again after a while."""
    fetched(yard)
    yard.work()
    assert len(yard.workshop.destination.delivered) == 1
    assert len(yard.workshop.destination.advanced) == 1


def test_a_step_that_is_unblocked_while_somebody_puts_it_aside_is_due_at_once(yard: Yard) -> None:
    """The one has seen it blocked, the other ends what it waited for; SQLite lets only one of them in."""
    workshop = yard.workshop
    if workshop.database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    fetched(yard)
    [delivery] = lease(workshop)
    workshop.time.pass_seconds(61)
    now = workshop.clock.now()
    with workshop.database.transaction() as looking:
        seen = leasing._look(looking, LANE, workshop.spool_id, now, window=10, busy=())
        blocked = [row for row in seen if row.blocked]
        assert len(blocked) == 1
        with workshop.database.transaction() as ending:
            outbox.finish(ending, delivery, now)
        leasing._put_aside(looking, blocked, now)
    assert [item.task for item in lease(workshop)] == [Task.ADVANCE]


def test_what_steps_aside_is_looked_at_again_by_itself(yard: Yard) -> None:
    """After the time that it has waited, and an hour at most, should nobody have called it."""
    workshop = yard.workshop
    fetched(yard)
    waits = []
    for passing_seconds in (0, 600, 100_000):
        workshop.time.pass_seconds(passing_seconds)
        for item in lease(workshop, 4):
            with workshop.database.transaction() as connection:
                outbox.put_off(connection, item, "busy", now=workshop.clock.now(), delay_seconds=0)
        with workshop.database.reading() as connection:
            at = connection.scalar(select(OutboxRow.next_attempt_at).where(OutboxRow.task == Task.ADVANCE))
        assert at is not None
        waits.append(at - workshop.clock.now())
    assert waits == [timedelta(seconds=60), timedelta(seconds=600), timedelta(hours=1)]


def test_the_least_tried_is_the_trial_of_a_broken_lane(yard: Yard) -> None:
    workshop = yard.workshop
    fetched(yard, 3)
    [first] = lease(workshop)
    with workshop.database.transaction() as connection:
        outbox.put_off(connection, first, "busy", now=workshop.clock.now(), delay_seconds=-10)
    assert [item.id for item in lease(workshop, least_tried_first=False, spool_id=None)] == [first.id]
    assert first.id not in [item.id for item in lease(workshop, least_tried_first=True)]


def test_what_this_process_still_works_on_is_not_taken_again(yard: Yard) -> None:
    """The database may be away for longer than a lease lasts; the work goes on all the same."""
    workshop = yard.workshop
    fetched(yard)
    [first] = lease(workshop)
    workshop.time.pass_seconds(301)
    assert lease(workshop, busy=[first.id]) == []
    assert [item.id for item in lease(workshop)] == [first.id]


def test_a_worker_that_was_overtaken_does_nothing_more(yard: Yard) -> None:
    """It slept beyond its lease, on a machine that was suspended, and another has taken the work over."""
    workshop = yard.workshop
    fetched(yard)
    [slept] = lease(workshop)
    workshop.time.pass_seconds(301)
    [took_over] = lease(workshop)
    now = workshop.clock.now()
    acts: tuple[Callable[[Connection], None], ...] = (
        lambda connection: outbox.mark_sent(connection, slept, now),
        lambda connection: outbox.put_off(connection, slept, "busy", now=now, delay_seconds=9),
        lambda connection: outbox.give_back(connection, slept, now=now),
        lambda connection: outbox.let_wait(connection, slept, "nothing registered", now),
        lambda connection: outbox.hold(connection, slept, "unknown"),
        lambda connection: outbox.give_up(connection, slept, "refused"),
    )
    for act in acts:
        with workshop.database.transaction() as connection, pytest.raises(LeaseLostError):
            act(connection)
    row = row_of(workshop, slept.id)
    assert (row.state, row.attempts, row.sent_at, row.last_error) == (State.DUE, 2, None, "")
    with workshop.database.transaction() as connection:
        outbox.mark_sent(connection, took_over, now)
        outbox.finish(connection, took_over, now)
    assert row_of(workshop, slept.id).state == State.DONE


def test_an_overtaken_worker_that_is_done_keeps_the_other_from_doing_it_again(yard: Yard) -> None:
    workshop = yard.workshop
    fetched(yard)
    [slept] = lease(workshop)
    workshop.time.pass_seconds(301)
    [took_over] = lease(workshop)
    now = workshop.clock.now()
    with workshop.database.transaction() as connection:
        outbox.finish(connection, slept, now)
        with pytest.raises(LeaseLostError):
            outbox.mark_sent(connection, took_over, now)


class SlowDestination(MemoryDestination):
    """Delivers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.let = asyncio.Event(), asyncio.Event()

    async def deliver(self, parcel: Parcel, sending: Sending) -> str:
        self.begun.set()
        await self.let.wait()
        return await super().deliver(parcel, sending)


def test_a_lease_is_kept_for_as_long_as_the_work_takes(yard: Yard) -> None:
    """Also in a lane that nobody runs any more, as when the program is about to end."""
    workshop = yard.workshop
    fetched(yard)

    async def scenario() -> None:
        slow = SlowDestination()
        workshop.destination = slow
        yard.worker.destinations["memory"] = slow  # type: ignore[index]
        lane = yard.lane(LANE, lease_seconds=0.15)
        assert await lane.take() == 1
        await slow.begun.wait()
        for _ in range(3):
            # Nearly run out; then it is renewed, and nobody else gets hold of it.
            workshop.time.pass_seconds(0.14)
            until = workshop.clock.now() + timedelta(seconds=0.15)
            await asyncio.to_thread(wait_until_leased, workshop, until)
            assert await asyncio.to_thread(lease, workshop) == []
        slow.let.set()
        await lane.drain(10)
        assert len(slow.delivered) == 1

    asyncio.run(scenario())


def wait_until_leased(workshop: Workshop, until: datetime) -> None:
    """Look until the delivery is leased for that long."""

    def leased_until() -> datetime | None:
        with workshop.database.reading() as connection:
            return connection.scalar(select(OutboxRow.lease_until).where(OutboxRow.task == Task.DELIVER))

    wait_until(
        lambda: (found := leased_until()) is not None and found >= until,
        lambda: f"{until}: leased until {leased_until()}",
    )


def test_a_lane_says_that_its_work_was_taken_over_and_goes_on(yard: Yard) -> None:
    workshop = yard.workshop
    fetched(yard)

    async def scenario() -> None:
        slow = SlowDestination()
        yard.worker.destinations["memory"] = slow  # type: ignore[index]
        lane = yard.lane(LANE)
        assert await lane.take() == 1
        await slow.begun.wait()
        workshop.time.pass_seconds(301)
        [_] = await asyncio.to_thread(lease, workshop)
        slow.let.set()
        await lane.drain(10)
        assert slow.delivered == [], "it is the other's now"
        assert await lane.take() == 0

    asyncio.run(scenario())
