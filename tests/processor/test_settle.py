"""What is deferred moves on when nothing is owed; to find that out holds up nobody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from sqlalchemy import select, update

from processor.settle import Settler
from shared.db.models import EventRow, OutboxRow, State
from shared.db.session import Database
from shared.errors import SpoolUnavailableError
from shared.spool import Folder
from tests.processor.conftest import Workshop
from tests.waiting import PATIENCE_SECONDS


def test_a_look_that_finds_nothing_to_settle_waits_for_nobody_who_writes(workshop: Workshop) -> None:
    """On SQLite one at a time may write: a look at thousands of deferred entries must not stop that one."""
    entry = workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    impatient = Database(workshop.database.url, busy_timeout_seconds=0.05)
    settler = Settler(workshop.spool, workshop.spool_id, impatient, keep_done=True)
    with workshop.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE documents SET status = status")
        assert settler.scan() == 0
        settler.settle_event(1)
    impatient.close()
    assert workshop.folder_of(entry) is Folder.DEFERRED


def test_an_entry_that_several_come_upon_at_once_is_put_aside_once(workshop: Workshop) -> None:
    """The sweep, and a lane whose delivery has just been held."""
    numbers = range(1, 13)
    for number in numbers:
        workshop.put({"envelopeId": number, "action": "COMPLETED"})
    workshop.work()
    with workshop.database.transaction() as connection:
        connection.execute(update(OutboxRow).values(state=State.HELD, last_error="unknown"))
        events = list(connection.scalars(select(EventRow.id)))
    settler, together = workshop.settler(), threading.Barrier(4)

    def come_upon(event_fk: int) -> None:
        together.wait(PATIENCE_SECONDS)
        settler.settle_event(event_fk)

    def sweep() -> None:
        together.wait(PATIENCE_SECONDS)
        settler.scan()

    with structlog.testing.capture_logs() as lines, ThreadPoolExecutor(4) as pool:
        for event_fk in events:
            done = [pool.submit(sweep), *(pool.submit(come_upon, event_fk) for _ in range(3))]
            for one in done:
                one.result()
    put_aside = [line["receipt"] for line in lines if line["event"] == "entry.quarantined"]
    assert len(put_aside) == len(set(put_aside)) == len(numbers)
    assert len([*workshop.spool.entries(Folder.QUARANTINE)]) == len(numbers)


def test_a_file_that_cannot_be_moved_keeps_no_other_from_being_settled(workshop: Workshop) -> None:
    """It is said, and tried again by the next scan."""
    stuck = workshop.put({"envelopeId": 1, "action": "COMPLETED"}, day="2041-11-20")
    free = workshop.put({"envelopeId": 2, "action": "COMPLETED"}, day="2041-11-21")
    for _ in (stuck, free):
        workshop.work()
    with workshop.database.transaction() as connection:
        connection.execute(update(OutboxRow).values(state=State.DONE))
    in_the_way = workshop.spool.folder(Folder.DONE) / stuck.day
    in_the_way.write_text("no folder")
    with pytest.raises(SpoolUnavailableError, match="move"):
        workshop.settler().scan()
    assert [workshop.folder_of(entry) for entry in (stuck, free)] == [Folder.DEFERRED, Folder.DONE]
    in_the_way.unlink()
    assert workshop.settler().scan() == 1
    assert workshop.folder_of(stuck) is Folder.DONE
