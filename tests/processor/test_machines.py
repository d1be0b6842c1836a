"""Two machines with one database: one goes on with what the other leaves, and none is in another's way."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from processor import deliveries, leasing, outbox
from processor.agreed import AgreedTime
from processor.leasing import Leased
from shared.clock import Clock, utc_now
from shared.db.models import OutboxRow, State
from shared.db.session import Database
from shared.providers._base import Ask, ProviderSettings
from shared.spool import Folder, Spool
from shared.writer import SpoolWriter
from tests.processor.asking import NAME, AskedProvider, Desk, Office
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import Yard, complete, states

LANES = ["provider:ssign", "destination:memory"]


@pytest.fixture
def other(workshop: Workshop, tmp_path: Path) -> Workshop:
    """A second machine: a spool of its own, the same database and the same destination."""
    spool = Spool(tmp_path / "other", workshop.time.clock())
    return replace(workshop, spool=spool, spool_id=spool.initialise())


def lease(machine: Workshop, lane: str, lease_seconds: float = 60.0) -> list[Leased]:
    with machine.database.transaction() as connection:
        taken, _ = leasing.lease(
            connection,
            lane,
            10,
            spool_id=machine.spool_id,
            now=machine.clock.now(),
            lease_seconds=lease_seconds,
        )
    return taken


# What a dead machine leaves


def test_an_entry_that_is_moved_to_another_machine_is_settled_there(
    workshop: Workshop, other: Workshop
) -> None:
    """Its disk was read after all: what it still owed is done, and the file does not stay in deferred/."""
    entry = complete(workshop)
    target = other.spool.path(Folder.SPOOL, entry)
    target.parent.mkdir(exist_ok=True)
    shutil.move(workshop.spool.path(Folder.DEFERRED, entry), target)
    other.work()
    assert other.folder_of(entry) is Folder.DEFERRED
    Yard(other).work()
    other.settler().scan()
    assert other.folder_of(entry) is Folder.DONE
    assert len(workshop.destination.delivered) == 1


def test_files_of_a_machine_that_is_gone_are_fetched_and_delivered_by_another(
    workshop: Workshop, other: Workshop
) -> None:
    """Until somebody says so they wait for it, since a file lies on one machine."""
    complete(workshop)
    there = Yard(workshop)
    asyncio.run(once(there, "provider:ssign"))
    here = Yard(other)
    workshop.time.pass_seconds(3600)
    here.work()
    assert states(workshop) == {"fetch": "done", "deliver": "due", "advance": "due"}
    fetch_again(other)
    here.work()
    assert states(workshop) == {"fetch": "done", "deliver": "done", "advance": "done"}
    [delivered] = workshop.destination.delivered
    assert delivered.path.is_relative_to(other.spool.root)
    # It comes back after all.
    there.work()
    assert len(workshop.destination.delivered) == 1


def test_a_provider_that_gives_other_bytes_each_time_has_its_file_delivered_once(
    workshop: Workshop, other: Workshop
) -> None:
    """What is fetched again takes the place of what nobody has had; else that would hold up the workflow."""
    complete(workshop)
    asyncio.run(once(Yard(workshop), "provider:ssign"))
    here = Yard(other)
    here.peer.suffix = b"stamped again "
    fetch_again(other)
    here.work()
    assert states(workshop) == {"fetch": "done", "deliver": "done", "advance": "done"}
    assert len(workshop.destination.delivered) == 1
    assert len(workshop.show("155")["files"]) == 1


def test_what_may_have_been_delivered_stays_held_beside_other_bytes(
    workshop: Workshop, other: Workshop
) -> None:
    """A delivery that was sent is not forgotten because there is a newer file."""
    complete(workshop)
    asyncio.run(once(Yard(workshop), "provider:ssign"))
    [sent] = lease(workshop, "destination:memory")
    with workshop.database.transaction() as connection:
        outbox.mark_sent(connection, sent, workshop.clock.now())
        outbox.hold(connection, sent, "sent, and the outcome is unknown")
    here = Yard(other)
    here.peer.suffix = b"stamped again "
    fetch_again(other)
    here.work()
    found = workshop.show("155")["deliveries"]
    assert [item["state"] for item in found if item["task"] == "deliver"] == ["held", "done"]


def fetch_again(machine: Workshop) -> None:
    with machine.database.transaction() as connection:
        rows = connection.scalars(select(OutboxRow.id).where(OutboxRow.task == "deliver")).all()
        deliveries.fetch_again(connection, rows, machine.clock.now())


async def once(yard: Yard, lane: str) -> None:
    made = yard.lane(lane)
    await made.take()
    await made.drain(30)


# One that hung


def test_what_was_held_because_its_machine_hung_is_settled_once_that_one_ends_it(
    workshop: Workshop, other: Workshop
) -> None:
    """Its entry went to quarantine meanwhile, and does not stay there with a reason that is true no more."""
    entry = complete(workshop)
    asyncio.run(once(Yard(workshop), "provider:ssign"))
    asyncio.run(once(Yard(workshop), "destination:memory"))
    [hanging] = lease(workshop, "destination:memory", lease_seconds=1)
    with workshop.database.transaction() as connection:
        outbox.mark_sent(connection, hanging, workshop.clock.now())
    workshop.time.pass_seconds(2)
    Yard(other).work()
    workshop.settler().scan()
    assert states(workshop)["advance"] == "held"
    assert workshop.folder_of(entry) is Folder.QUARANTINE
    with workshop.database.transaction() as connection:
        outbox.finish(connection, hanging, workshop.clock.now())
    workshop.settler().scan()
    assert states(workshop)["advance"] == "done"
    assert workshop.folder_of(entry) is Folder.DONE


# Machines with different settings


def test_what_one_machine_has_no_setting_for_is_done_by_the_one_that_has(
    workshop: Workshop, other: Workshop
) -> None:
    """The start of the first puts it aside, the next sweep of the second takes it back, as it was."""
    complete(workshop)
    before = rows(workshop)
    with workshop.database.transaction() as connection:
        outbox.wake_waiting(connection, ["destination:memory"], workshop.clock.now())
    assert states(workshop)["fetch"] == State.WAITING
    with workshop.database.transaction() as connection:
        outbox.wake_ours(connection, LANES)
    assert rows(workshop) == before


def test_a_start_leaves_alone_what_another_machine_works_on(workshop: Workshop, other: Workshop) -> None:
    """Even if it knows nothing of that peer, or what waits there."""
    complete(workshop)
    [fetching] = lease(other, "provider:ssign")
    with workshop.database.transaction() as connection:
        outbox.wake_waiting(connection, ["destination:memory"], workshop.clock.now())
        outbox.release_leases(connection, workshop.spool_id)
    assert states(workshop)["fetch"] == State.DUE
    with workshop.database.transaction() as connection:
        outbox.let_wait(connection, fetching, "register it", workshop.clock.now())
    with workshop.database.transaction() as connection:
        outbox.wake_waiting(connection, ["destination:memory"], workshop.clock.now())
        outbox.wake_ours(connection, LANES)
    assert states(workshop)["fetch"] == State.WAITING


def rows(machine: Workshop) -> list[object]:
    with machine.database.reading() as connection:
        return [tuple(row) for row in connection.execute(select(OutboxRow.__table__).order_by(OutboxRow.id))]


def test_each_machine_settles_its_own_entries_only(workshop: Workshop, other: Workshop) -> None:
    """The one that did the work may be another than the one in whose folder the file lies."""
    entry = complete(workshop)
    Yard(other).work()
    assert workshop.folder_of(entry) is Folder.DEFERRED
    assert other.settler().scan() == 0
    assert workshop.settler().scan() == 1
    assert workshop.folder_of(entry) is Folder.DONE


# The time


def test_all_machines_go_by_the_time_of_the_database(database: Database) -> None:
    """Whatever their own clocks say, from the first question on, and also if one is set meanwhile."""
    ahead = [timedelta(hours=1)]
    own = Clock(now=lambda: utc_now() + ahead[0])
    time = AgreedTime(own, database)
    assert time.now() - utc_now() > timedelta(minutes=59)
    time.ask()
    ahead[0] = timedelta(hours=-1)
    if database.is_sqlite:
        # It has one machine, and no clock of its own.
        assert utc_now() - time.clock().now() > timedelta(minutes=59)
    else:
        assert abs(time.clock().now() - utc_now()) < timedelta(seconds=30)


def test_a_transaction_that_stands_still_does_not_keep_its_locks(
    database: Database, workshop: Workshop
) -> None:
    """The server ends it, for a machine that hangs or is cut off in the middle of one cannot."""
    if database.is_sqlite:
        pytest.skip("SQLite is for one machine, whose end the system sees")
    with database.reading() as connection:
        limits = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("idle_in_transaction_session_timeout",)
        }
    # Those who wait for a lock give up later; see `processor.assemble`.
    assert limits == {"idle_in_transaction_session_timeout": "10s"}


# Asking


@pytest.fixture
def offices(workshop: Workshop, other: Workshop) -> Iterator[list[Office]]:
    """The same provider is asked from two machines; one desk hears all of it."""
    desk = Desk({})
    writers = [SpoolWriter(machine.spool) for machine in (workshop, other)]
    for writer in writers:
        writer.start()
    yield [
        Office(machine, desk, AskedProvider(NAME, ProviderSettings()), writer)
        for machine, writer in zip((workshop, other), writers, strict=True)
    ]
    for writer in writers:
        writer.close()


def test_no_subject_is_asked_about_by_two_machines(offices: list[Office]) -> None:
    """They look at the same time, again and again, until nothing is due."""
    names = [f"s{number}" for number in range(60)]
    offices[0].desk.answers = dict.fromkeys(names, "PENDING")
    offices[0].begin(*map(Ask, names))

    async def both() -> None:
        pollers = [office.poller() for office in offices]
        while any(await asyncio.gather(*(poller.take() for poller in pollers))):
            await asyncio.gather(*(poller.drain(10) for poller in pollers))

    asyncio.run(both())
    assert sorted(offices[0].desk.asked) == sorted(names)


def test_what_a_dead_machine_asked_about_is_asked_by_the_other_when_its_lease_is_over(
    offices: list[Office],
) -> None:
    """Not earlier: the provider may have answered, and its permitted times count from then."""
    first, second = offices
    first.desk.answers = {"s1": "PENDING"}
    first.begin(Ask("s1"))

    async def die() -> None:
        poller = first.poller()
        await poller.take()
        # Cut off as a process that ends: nothing is noted.
        await poller.drain(0)

    asyncio.run(die())
    first.desk.asked.clear()
    assert second.ask() == []
    second.workshop.time.pass_seconds(61)
    assert second.ask() == ["s1"]
    assert second.ask() == []


def test_a_machine_that_hung_before_it_asked_leaves_the_asking_to_the_other(offices: list[Office]) -> None:
    """Its lease ran out while it stood still, so another may have asked by now."""
    first, second = offices
    first.desk.answers = {"s1": "PENDING"}
    first.begin(Ask("s1"))

    async def hang() -> None:
        poller = first.poller()
        await poller.take()
        # It is about to ask, and stands still; to the loop that is one moment.
        first.workshop.time.pass_seconds(61)
        await poller.drain(10)

    asyncio.run(hang())
    assert first.desk.asked == []
    assert second.ask() == ["s1"]
    assert first.ask() == []
