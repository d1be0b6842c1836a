"""The connection is lost in a commit, its outcome is unknown: nothing is doubled, and nobody is charged."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import Connection, select

from shared.db.models import OutboxRow, Task
from shared.db.session import Database
from shared.errors import DatabaseUnavailableError, SpoolUnavailableError, TransientError
from shared.spool import Folder
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import Yard, complete, states
from tests.waiting import wait_until

PAUSE_SECONDS = 0.002


class LossyDatabase(Database):
    """Loses the connection in the transactions that it is told to, by number; in `commits` says whether
    the server has committed by then."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.begun = 0
        self.lost: frozenset[int] = frozenset()
        self.commits = True

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        number, self.begun = self.begun, self.begun + 1
        lost = DatabaseUnavailableError("the connection was lost")
        with super().transaction() as connection:
            yield connection
            if number in self.lost and not self.commits:
                raise lost
        if number in self.lost:
            raise lost


@pytest.fixture
def lossy(workshop: Workshop) -> Iterator[LossyDatabase]:
    database = LossyDatabase(workshop.database.url)
    workshop.database = database
    yield database
    database.close()


def live(yard: Yard, document_id: str) -> None:
    """The whole life of one completed document; the database may be lost at any moment of it."""
    workshop = yard.workshop
    workshop.put({"envelopeId": document_id, "action": "COMPLETED"})
    for _ in range(20):
        with suppress(DatabaseUnavailableError):
            workshop.work()
            yard.work()
            workshop.settler().scan()
            if folders_of(workshop, document_id) == [Folder.DONE]:
                return
        workshop.time.pass_seconds(1)


def folders_of(workshop: Workshop, document_id: str) -> list[Folder]:
    return [folder for folder, _ in workshop.spool.find(f"{document_id}_")]


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled-back"])
def test_a_commit_of_unknown_outcome_at_any_moment(
    workshop: Workshop, lossy: LossyDatabase, commits: bool
) -> None:
    """One loss, or two or three in a row, beginning at every transaction of a document's life."""
    yard = Yard(workshop, away_pause_seconds=PAUSE_SECONDS)
    workshop.register("healthy", {"file_ids": "901"})
    lossy.begun = 0
    live(yard, "healthy")
    moments = lossy.begun
    assert moments > 10
    lossy.commits = commits
    for moment in range(moments):
        document_id = f"lost-{moment}"
        workshop.register(document_id, {"file_ids": "901"})
        lossy.begun, lossy.lost = 0, frozenset(range(moment, moment + 1 + moment % 3))
        live(yard, document_id)
        assert lossy.begun > moment
        lossy.lost = frozenset()
        found = workshop.show(document_id)
        assert (len(found["events"]), found["status"]) == (1, "completed"), moment
        rows = [*found["owed"], *found["deliveries"]]
        assert {(row["state"], row["attempts"]) for row in rows} == {("done", 1)}, (moment, rows)
        assert folders_of(workshop, document_id) == [Folder.DONE], moment
    delivered = Counter(parcel.subject.document_id for parcel in workshop.destination.delivered)
    advanced = Counter(step.subject.document_id for step in workshop.destination.advanced)
    assert delivered == advanced == Counter(["healthy", *(f"lost-{moment}" for moment in range(moments))])


def test_what_is_in_hand_is_not_begun_again_although_it_is_due(
    workshop: Workshop, lossy: LossyDatabase
) -> None:
    """Putting it off is committed and the answer lost: until the lane has repeated that, the row is due."""
    yard = Yard(workshop, away_pause_seconds=0.3)
    complete(workshop)
    workshop.destination.fail_before = [TransientError("busy")]
    fetching, delivering = yard.lanes

    async def scenario() -> None:
        await fetching.take()
        await fetching.drain(30)
        lease_facts_parcel_note = range(lossy.begun, lossy.begun + 4)
        lossy.lost = frozenset(lease_facts_parcel_note[-1:])
        assert await delivering.take() == 1
        await asyncio.to_thread(wait_until_put_off, lossy)
        workshop.time.pass_seconds(60)
        assert await delivering.take() == 0
        await delivering.drain(30)

    asyncio.run(scenario())
    workshop.time.pass_seconds(60)
    yard.work()
    assert len(workshop.destination.delivered) == 1
    assert states(workshop)["deliver"] == "done"


def wait_until_put_off(database: Database) -> None:
    error = select(OutboxRow.last_error).where(OutboxRow.task == Task.DELIVER)

    def is_put_off() -> bool:
        with database.reading() as connection:
            return connection.scalar(error) == "busy"

    wait_until(is_put_off, "the row to be put off")


def test_what_fails_on_our_side_after_it_was_sent_is_held(workshop: Workshop) -> None:
    yard = Yard(workshop)
    complete(workshop)
    workshop.destination.fail_after = [SpoolUnavailableError("the disk is gone")]
    yard.work()
    assert states(workshop)["deliver"] == "held"
    workshop.time.pass_seconds(3600)
    yard.work()
    assert len(workshop.destination.delivered) == 1
