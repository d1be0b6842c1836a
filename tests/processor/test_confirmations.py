"""Confirmations that are owed to a provider: one after the other, after the files, and none in vain."""

from __future__ import annotations

from datetime import timedelta

import pytest

from processor import leasing, outbox
from processor.leasing import Leased
from shared.db.models import Task
from shared.events import Origin, Trust
from shared.making import make_entry
from shared.providers._base import Head
from tests.processor.conftest import Workshop
from tests.providers.conftest import SAMPLES

LANE = "provider:posten"
IN_PROGRESS = (SAMPLES / "posten" / "in-progress.xml").read_bytes()
COMPLETED = (SAMPLES / "posten" / "completed.xml").read_bytes()


def tell(workshop: Workshop, payload: bytes, action: str = "IN_PROGRESS", after_seconds: float = 0.0) -> None:
    """Have the provider say something about a job, and record it."""
    received_at = workshop.clock.local() + timedelta(seconds=after_seconds)
    made = make_entry(
        workshop.provider("posten"),
        Head("12087", action),
        payload,
        received_at=received_at,
        origin=Origin.POLL,
        trust=Trust.PROVEN,
        content_type="application/xml",
    )
    workshop.lay(made.entry, made.content)
    workshop.work()


def take(workshop: Workshop, limit: int = 10) -> list[Leased]:
    with workshop.database.transaction() as connection:
        taken, _ = leasing.lease(
            connection, LANE, limit, spool_id=workshop.spool_id, now=workshop.clock.now(), lease_seconds=300
        )
    return taken


def finish(workshop: Workshop, leased: Leased) -> None:
    with workshop.database.transaction() as connection:
        outbox.finish(connection, leased, workshop.clock.now())


def was_confirmed(workshop: Workshop, leased: Leased) -> bool:
    with workshop.database.transaction() as connection:
        return outbox.was_confirmed_since(connection, leased)


def test_every_telling_owes_one_and_they_are_made_one_after_the_other(workshop: Workshop) -> None:
    for _ in range(3):
        tell(workshop, IN_PROGRESS)
    seen = []
    for _ in range(3):
        [leased] = take(workshop)
        assert take(workshop) == []
        seen.append(leased.id)
        finish(workshop, leased)
    assert seen == sorted(set(seen))
    assert take(workshop) == []


def test_none_is_made_before_the_files_are_stored_not_even_that_of_an_old_update(workshop: Workshop) -> None:
    tell(workshop, IN_PROGRESS)
    tell(workshop, COMPLETED, "COMPLETED_SUCCESSFULLY")
    [fetch] = take(workshop)
    assert fetch.task is Task.FETCH
    finish(workshop, fetch)
    assert [leased.task for leased in take(workshop)] == [Task.CONFIRM]


@pytest.mark.parametrize(
    ("payload", "after_seconds", "expected"),
    [
        (IN_PROGRESS, 0.0, True),
        (IN_PROGRESS, 1.0, False),
        (IN_PROGRESS.replace(b"WAITING", b"SIGNED", 1), 0.0, False),
    ],
    ids=["the same, told before", "the same, told afterwards", "something else"],
)
def test_what_was_confirmed_since_it_was_told_is_not_confirmed_once_more(
    workshop: Workshop, payload: bytes, after_seconds: float, *, expected: bool
) -> None:
    """A second confirmation has the same address, and might be taken for that of what happened meanwhile."""
    tell(workshop, IN_PROGRESS)
    tell(workshop, payload, after_seconds=after_seconds)
    [first] = take(workshop)
    assert not was_confirmed(workshop, first)
    finish(workshop, first)
    [second] = take(workshop)
    assert was_confirmed(workshop, second) is expected
