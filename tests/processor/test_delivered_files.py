"""A fetched file is deleted once every destination has it, however close together they end."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, insert, select, text

from processor import leasing, outbox
from processor.leasing import Leased
from shared.db.models import OutboxRow, Task
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import Yard, complete
from tests.waiting import wait_until


@pytest.fixture
def yard(workshop: Workshop) -> Yard:
    return Yard(workshop)


def test_of_two_destinations_that_end_at_the_same_moment_one_deletes_the_file(yard: Yard) -> None:
    """Neither sees the other's end before it is committed, and a file that both leave lies there for ever."""
    workshop, lanes = yard.workshop, ("destination:memory", "destination:other")
    # With a workflow step to come, both would write to that, and so one after the other.
    workshop.destination.advancing = False
    complete(workshop)
    asyncio.run(_only_fetch(yard))
    with workshop.database.transaction() as connection:
        owed = select(OutboxRow.__table__).where(OutboxRow.task == Task.DELIVER)
        first = connection.execute(owed).mappings().one()
        second = {**first, "id": first["id"] + 1, "key": "other", "destination": "other", "lane": lanes[1]}
        connection.execute(insert(OutboxRow), second)
    one, other = (leased for lane in lanes for leased in _lease(workshop, lane))
    [path] = [path for path in workshop.spool.files.rglob("*") if path.is_file()]

    def end(connection: Connection, leased: Leased) -> list[str]:
        outbox.finish(connection, leased, workshop.clock.now())
        assert leased.file_fk is not None
        return outbox.take_delivered_file(connection, leased.file_fk)

    def end_too() -> list[str]:
        with workshop.database.transaction() as connection:
            return end(connection, other)

    def waits() -> bool:
        if workshop.database.is_sqlite:
            return True  # Before it begins.
        with workshop.database.reading() as connection:
            return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    with ThreadPoolExecutor(1) as pool, workshop.database.transaction() as connection:
        spare = end(connection, one)
        ending = pool.submit(end_too)
        wait_until(lambda: ending.done() or waits(), "the second to wait for the first")
    assert [*spare, *ending.result()] == [str(path.relative_to(workshop.spool.files))]


async def _only_fetch(yard: Yard) -> None:
    fetching, _ = yard.lanes
    assert await fetching.take() == 1
    await fetching.drain(30)


def _lease(workshop: Workshop, lane: str) -> list[Leased]:
    with workshop.database.transaction() as connection:
        taken, _ = leasing.lease(
            connection, lane, 1, spool_id=workshop.spool_id, now=workshop.clock.now(), lease_seconds=300
        )
    return taken
