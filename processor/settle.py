"""Settles deferred entries: their file moves on when nothing is owed, or when a person is needed."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

import structlog
from sqlalchemy import Connection, exists, func, select

from processor.recording import mark_settled
from shared.db.models import EventRow, OutboxRow, State
from shared.db.session import Database
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool

log = structlog.get_logger()

_SCAN_LIMIT = 500
_NEEDS_PERSON = (State.FAILED, State.HELD)


def needs_person(states: Collection[State]) -> bool:
    """Whether something that is owed can only go on when a person says so."""
    return any(state in _NEEDS_PERSON for state in states)


class Settler:
    """Moves the files of one spool out of `deferred/`."""

    def __init__(self, spool: Spool, spool_id: str, database: Database, *, keep_done: bool) -> None:
        self._spool = spool
        self._spool_id = spool_id
        self._database = database
        self.keep_done = keep_done
        """Whether finished files go to `done/` or are deleted."""
        self._moving = threading.Lock()

    def settle_event(self, event_fk: int) -> None:
        """Settle the entry that an event came from, if it is time.

        Raises:
            UnavailableError: spool or database are away; the next scan will do it.
        """
        with self._database.reading() as connection:
            receipt_id = connection.scalar(select(EventRow.receipt_id).where(EventRow.id == event_fk))
        if receipt_id is not None:
            self._settle([receipt_id])

    def scan(self) -> int:
        """Settle whatever is ready; returns how many entries moved.

        Raises:
            UnavailableError: spool or database are away.
        """
        moved, after = 0, 0
        while True:
            with self._database.reading() as connection:
                rows = self._ready(connection, after)
            if not rows:
                return moved
            after = max(last for _, last in rows)
            moved += self._settle([receipt_id for receipt_id, _ in rows])

    def _ready(self, connection: Connection, after: int) -> list[tuple[str, int]]:
        """Entries of this spool, not settled, that owe nothing that can go on by itself."""
        failed = exists().where(OutboxRow.event_fk == EventRow.id, OutboxRow.state.in_(_NEEDS_PERSON))
        owing = exists().where(OutboxRow.event_fk == EventRow.id, OutboxRow.state != State.DONE)
        last = func.max(EventRow.id)
        rows = connection.execute(
            select(EventRow.receipt_id, last)
            .where(
                EventRow.spool_id == self._spool_id,
                EventRow.settled_at.is_(None),
                EventRow.id > after,
                failed | ~owing,
            )
            .group_by(EventRow.receipt_id)
            .order_by(last)
            .limit(_SCAN_LIMIT)
        )
        return [(receipt_id, event_id) for receipt_id, event_id in rows]

    def _settle(self, receipt_ids: Collection[str]) -> int:
        moved = 0
        trouble: SpoolUnavailableError | None = None
        for receipt_id in receipt_ids:
            try:
                # The sweep and the lanes may come upon the same entry at the same time.
                with self._moving:
                    moved += self._settle_one(receipt_id)
            except SpoolUnavailableError as error:
                # It may be about this one file, or its day; the others are not to wait for that.
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        return moved

    def _settle_one(self, receipt_id: str) -> int:
        with self._database.reading() as connection:
            entry = _place_of(connection, receipt_id, self._spool_id)
            states = _states(connection, receipt_id)
        if entry is None or (states and not needs_person(states)):
            return 0
        # Recorded just now and not yet moved out of spool/: the next scan will see it.
        if self._spool.has(Folder.SPOOL, entry):
            return 0
        folder = self._folder_of(entry)
        if needs_person(states):
            reason = quarantine_reason(self._database, receipt_id)
            if folder is not None:
                self._spool.quarantine(entry, folder, reason)
            log.warning("entry.quarantined", receipt=receipt_id, reason=reason["reason"])
        else:
            if folder not in (None, Folder.DONE):
                finish_file(self._spool, entry, folder, keep=self.keep_done)
            log.info("entry.settled", receipt=receipt_id)
        return self._mark_settled(receipt_id, needs_person(states))

    def _mark_settled(self, receipt_id: str, quarantined: bool) -> int:
        """Note it, unless somebody has started things afresh meanwhile: then the next scan looks again."""
        with self._database.transaction() as connection:
            connection.execute(select(EventRow.id).where(EventRow.receipt_id == receipt_id).with_for_update())
            states = _states(connection, receipt_id)
            if needs_person(states) is not quarantined or (states and not quarantined):
                return 0
            mark_settled(connection, [receipt_id], self._spool.clock.now())
            return 1

    def _folder_of(self, entry: Entry) -> Folder | None:
        """Where an entry lies that was recorded, None when it was deleted.

        In `deferred/` as a rule; in `quarantine/` when somebody had it tried again, in `done/` when more came
        to be owed later.
        """
        for folder in (Folder.DEFERRED, Folder.QUARANTINE, Folder.DONE):
            if self._spool.has(folder, entry):
                return folder
        return None


def finish_file(spool: Spool, entry: Entry, source: Folder, *, keep: bool) -> None:
    """Put away a file for which nothing is owed: to `done/`, or, by setting, delete it."""
    if keep:
        spool.move(entry, source, Folder.DONE)
    else:
        spool.remove(entry, source)


def _place_of(connection: Connection, receipt_id: str, spool_id: str) -> Entry | None:
    """The name of an entry of this spool; None when it is settled already or belongs to another machine."""
    row = connection.execute(
        select(EventRow.day, EventRow.name)
        .where(
            EventRow.receipt_id == receipt_id,
            EventRow.spool_id == spool_id,
            EventRow.settled_at.is_(None),
        )
        .limit(1)
    ).first()
    return Entry(row.day, row.name) if row else None


def _states(connection: Connection, receipt_id: str) -> set[State]:
    rows = connection.scalars(
        select(OutboxRow.state)
        .join(EventRow, EventRow.id == OutboxRow.event_fk)
        .where(EventRow.receipt_id == receipt_id, OutboxRow.state != State.DONE)
        .distinct()
    )
    return {State(state) for state in rows}


def quarantine_reason(database: Database, receipt_id: str) -> dict[str, Any]:
    """The content of the reason file for an entry of which something was given up or is held."""
    with database.reading() as connection:
        rows = connection.execute(
            select(
                OutboxRow.id,
                OutboxRow.task,
                OutboxRow.lane,
                OutboxRow.state,
                OutboxRow.attempts,
                OutboxRow.last_error,
            )
            .join(EventRow, EventRow.id == OutboxRow.event_fk)
            .where(EventRow.receipt_id == receipt_id, OutboxRow.state.in_(_NEEDS_PERSON))
            .order_by(OutboxRow.id)
        ).all()
    owed = [
        {
            "delivery": row.id,
            "task": row.task,
            "lane": row.lane,
            "state": row.state,
            "attempts": row.attempts,
            "error": row.last_error,
        }
        for row in rows
    ]
    first = owed[0] if owed else {"task": "?", "lane": "?", "error": "?", "delivery": "?"}
    return {
        "reason": f"{first['task']} ({first['lane']}) needs a person: {first['error']}",
        "what_to_do": f"mend the cause, then: signspool deliveries retry {first['delivery']}",
        "owed": owed,
    }
