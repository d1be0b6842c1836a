"""A backlog is worked off without filling the memory, arrivals overtake it, and the order changes nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from processor.arrivals import Arrivals
from processor.reading import ReadEntry, Reader
from shared.db.models import EventRow
from shared.events import DocumentStatus
from shared.spool import Entry, Folder, Spool
from tests.processor.conftest import Workshop


class Watching(Reader):
    """Tells of every entry before it is read."""

    def __init__(self, workshop: Workshop, tell: Callable[[Entry], None]) -> None:
        super().__init__(workshop.spool, workshop.pipeline().reader._providers)
        self._tell = tell

    def read(self, entry: Entry) -> ReadEntry:
        self._tell(entry)
        return super().read(entry)


class Listing(Spool):
    """Counts what its listings have given away; lists in an order of the test's choice."""

    listings = 0
    listed = 0
    order: list[Entry] | None = None

    def entries(self, folder: Folder) -> Iterator[Entry]:
        self.listings += 1
        found = super().entries(folder) if self.order is None else iter(self.order)
        for entry in found:
            self.listed += 1
            yield entry


@pytest.fixture
def listing(workshop: Workshop) -> Listing:
    workshop.spool = Listing(workshop.spool.root, workshop.spool.clock)
    return workshop.spool


def recorded(workshop: Workshop) -> list[str]:
    """Names of the entries in the order in which they were recorded."""
    with workshop.database.reading() as connection:
        return list(connection.scalars(select(EventRow.name).order_by(EventRow.id)))


def put(workshop: Workshop, number: int) -> Entry:
    return workshop.put(
        {"envelopeId": number, "action": "EXPIRED"}, guid=f"00000000-0000-7000-8000-{number:012d}"
    )


def test_what_arrives_meanwhile_is_recorded_before_the_rest_of_the_backlog(workshop: Workshop) -> None:
    for number in range(100):
        put(workshop, number)
    arrivals = Arrivals()
    late: list[Entry] = []

    def arrive(entry: Entry) -> None:
        if not late:
            late.append(put(workshop, 1000))
            arrivals.add(late)

    workshop.work(batch_size=10, arrivals=arrivals, reader=Watching(workshop, arrive))
    names = recorded(workshop)
    assert names.index(late[0].name) < 20
    assert len(names) == 101


def test_a_stream_of_arrivals_does_not_stop_the_backlog(workshop: Workshop) -> None:
    backlog = {put(workshop, number).name for number in range(20)}
    arrivals, numbers = Arrivals(), iter(range(1000, 1150))

    def arrive(_: Entry) -> None:
        # Two for each one that is read: more than can be worked off.
        arrivals.add(put(workshop, number) for number in islice(numbers, 2))

    workshop.work(batch_size=8, arrivals=arrivals, reader=Watching(workshop, arrive))
    names = recorded(workshop)
    assert backlog <= set(names[:100])
    assert len(names) == 170


def test_without_a_listing_only_what_arrived_is_taken(workshop: Workshop, listing: Listing) -> None:
    waiting, arrived = put(workshop, 1), put(workshop, 2)
    pipeline = workshop.pipeline()
    pipeline.arrivals.add([arrived, Entry(arrived.day, "gone before anybody looked.json")])
    assert pipeline.work_through(threading.Event(), listing=False).recorded == 1
    assert listing.listings == 0
    assert workshop.folder_of(arrived) is Folder.DONE
    assert workshop.folder_of(waiting) is Folder.SPOOL


def test_a_backlog_is_listed_once_and_never_held_in_memory(workshop: Workshop, listing: Listing) -> None:
    for number in range(60):
        put(workshop, number)
    most_ahead = 0

    def look(_: Entry) -> None:
        nonlocal most_ahead
        most_ahead = max(most_ahead, listing.listed - len(recorded(workshop)))

    workshop.work(batch_size=5, reader=Watching(workshop, look))
    assert len(recorded(workshop)) == 60
    assert listing.listings == 1
    assert most_ahead <= 5


def test_a_folder_that_is_removed_in_the_middle_of_a_pass_ends_nothing(workshop: Workshop) -> None:
    """As when a person moves a whole day away."""
    today = workshop.clock.today().isoformat()
    for number in range(40):
        put(workshop, number)
    older = workshop.put({"envelopeId": 99, "action": "EXPIRED"}, day="2020-01-01")
    times = count()

    def remove(_: Entry) -> None:
        if next(times) == 12:
            shutil.rmtree(workshop.spool.folder(Folder.SPOOL) / today)

    workshop.work(batch_size=5, reader=Watching(workshop, remove))
    assert older.name in recorded(workshop)
    assert 10 <= len(recorded(workshop)) < 40


def test_an_entry_that_has_to_wait_is_read_once_in_a_pass(workshop: Workshop) -> None:
    for number in range(30):
        put(workshop, number)
    half = workshop.lay(Entry(workshop.clock.today().isoformat(), "half.json"), b"{")
    # Young by the clock of the test too.
    workshop.time.instant = datetime.now(UTC)
    assert workshop.spool.age_seconds(Folder.SPOOL, half) < 5
    looks: list[Entry] = []
    tally = workshop.work(batch_size=3, reader=Watching(workshop, looks.append))
    assert (tally.recorded, tally.skipped) == (30, 1)
    assert len(looks) == 31


CLAIMS = {"PENDING": "pending", "EXPIRED": "expired", "DELETED": "deleted", "COMPLETED": "completed"}
ACTIONS = st.sampled_from([*CLAIMS, "UNHEARD-OF"])


def test_the_order_in_which_files_are_taken_changes_no_status(workshop: Workshop, listing: Listing) -> None:
    envelopes = count(1)

    @settings(max_examples=15, deadline=None)
    @given(
        documents=st.lists(st.lists(ACTIONS, min_size=1, max_size=4), min_size=1, max_size=4),
        data=st.data(),
        batch_size=st.integers(1, 6),
    )
    def check(documents: list[list[str]], data: st.DataObject, batch_size: int) -> None:
        named = {next(envelopes): actions for actions in documents}
        files = [
            workshop.put({"envelopeId": envelope, "action": action})
            for envelope, actions in named.items()
            for action in actions
        ]
        listing.order = data.draw(st.permutations(files))
        arrivals = Arrivals()
        arrivals.add(data.draw(st.lists(st.sampled_from(files))))
        workshop.work(batch_size=batch_size, arrivals=arrivals)
        for envelope, actions in named.items():
            found = workshop.show(str(envelope))
            claimed = [DocumentStatus(CLAIMS.get(action, "pending")) for action in actions]
            assert found["status"] == max(claimed, key=lambda status: status.rank)
            assert len(found["events"]) == len(actions)
            assert [item["task"] for item in found["owed"]] == ["fetch"] * ("COMPLETED" in actions)

    check()
