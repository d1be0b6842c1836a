"""Entries through the steps in order: take, read, record, settle. The only place that decides a verdict.

done        recorded, and nothing is owed
deferred    recorded, and something is owed
quarantine  it cannot be understood or recorded, or what it owes was given up: needs a person
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog
from sqlalchemy.exc import SQLAlchemyError

from processor import owed
from processor.arrivals import Arrivals
from processor.inhand import KILLS_BEFORE_QUARANTINE, InHand
from processor.reading import ReadEntry, Reader, StillArrivingError
from processor.recording import Recorded, mark_settled, note_place, record_batch
from processor.settle import finish_file, needs_person, quarantine_reason
from shared.db.models import State
from shared.db.session import Database
from shared.errors import PermanentError, SpoolUnavailableError, UnavailableError
from shared.names import guid_in
from shared.spool import Entry, Folder, Spool

log = structlog.get_logger()

_MOST_COMPLAINTS = 1000
_SHARE_OF_ARRIVALS = 0.75


class TooManyBadError(UnavailableError):
    """So many entries in a row went to quarantine that the fault is more likely ours."""


@dataclass(slots=True)
class Tally:
    """What one pass over the spool did."""

    recorded: int = 0
    quarantined: int = 0
    skipped: int = 0
    owing: bool = False
    """Whether something is owed now, or to be asked, that was not before."""
    trouble: SpoolUnavailableError | None = None
    """What the disk said of an entry that was passed over."""


@dataclass(slots=True)
class Pipeline:
    """Takes entries from `spool/` until there are none.

    Runs on one thread at a time. `keep_done` is whether finished files go to `done/` or are deleted.
    `arrivals` are taken before a backlog. On that thread, `on_owing` is called after each batch that left
    something owed, and `on_batch` after each at all; `on_recorded` is told of each batch, by provider, once
    it is committed.
    """

    spool: Spool
    spool_id: str
    database: Database
    reader: Reader
    policy: owed.Policy
    in_hand: InHand
    batch_size: int
    streak_limit: int
    keep_done: bool
    arrivals: Arrivals = field(default_factory=Arrivals)
    on_owing: Callable[[], None] = lambda: None
    on_recorded: Callable[[Iterable[tuple[str, Recorded]]], None] = lambda _entries: None
    on_batch: Callable[[], None] = lambda: None
    _bad_in_a_row: int = field(default=0, init=False)
    _complained: set[Entry] = field(default_factory=set, init=False)

    def work_through(self, stop: threading.Event, *, listing: bool = True) -> Tally:
        """One pass: every entry that lies in `spool/` now; without `listing`, only what was seen to arrive.

        Raises:
            UnavailableError: spool or database are away, or too many entries in a row were bad; nobody was
                charged, and the next pass takes up where this one ended.
        """
        tally = Tally()
        for batch in self._batches(listing=listing):
            if stop.is_set():
                break
            self._handle(batch, tally)
            self.on_batch()
            if tally.owing:
                self.on_owing()
        if tally.trouble is not None and not tally.recorded:
            raise tally.trouble
        return tally

    def _batches(self, *, listing: bool) -> Iterator[list[Entry]]:
        """First those that were in hand when the process died, each alone; then all others."""
        yield from self._suspects()
        # One listing for the whole pass: a folder that once held a million files takes long to list for ever.
        waiting = self.spool.entries(Folder.SPOOL) if listing else iter(())
        while True:
            size = self._size_now()
            # What has just come goes first, but never fills a batch, so that the backlog gets smaller too.
            batch = dict.fromkeys(self.arrivals.take(math.ceil(size * _SHARE_OF_ARRIVALS)))
            batch.update(dict.fromkeys(islice(waiting, size - len(batch))))
            if not batch:
                return
            # A listing has no order. The guids have: what came first is said first in the history.
            yield sorted(batch, key=lambda entry: guid_in(entry.name) or "")

    def _suspects(self) -> Iterator[list[Entry]]:
        suspects = self.in_hand.suspects
        for entry in self.in_hand.killers:
            self._quarantine(
                entry,
                Folder.SPOOL,
                f"it was in hand {KILLS_BEFORE_QUARANTINE} times when the processor was killed",
                Tally(),
            )
        for entry in suspects:
            if self.spool.has(Folder.SPOOL, entry):
                yield [entry]
            self.in_hand.put_down(entry)

    def _handle(self, batch: Sequence[Entry], tally: Tally) -> None:
        self.in_hand.take(batch)
        try:
            read = self._read(batch, tally)
            try:
                self._record(read, tally)
            except SQLAlchemyError:
                # One of them is at fault; taken one by one, only that one is harmed.
                for item in read:
                    self._record_alone(item, tally)
        except UnavailableError:
            # Our own means are gone; no entry is to blame for that.
            self.in_hand.nothing()
            raise
        self.in_hand.nothing()
        self._check_streak()

    def _read(self, batch: Iterable[Entry], tally: Tally) -> list[ReadEntry]:
        read = []
        for found in batch:
            entry = found
            try:
                if not found.day:
                    # A file that a person laid right into spool/ gets its day first.
                    entry = self.spool.move(found, Folder.SPOOL, Folder.SPOOL) or found
                read.append(self.reader.read(entry))
            except FileNotFoundError:
                continue
            except SpoolUnavailableError as error:
                self._pass_over(entry, error, tally)
            except StillArrivingError:
                tally.skipped += 1
            except PermanentError as error:
                self._quarantine(entry, Folder.SPOOL, str(error), tally)
            except UnavailableError:
                raise
            except Exception as error:
                log.exception("entry.unreadable", entry=entry.name)
                self._quarantine(
                    entry,
                    Folder.SPOOL,
                    f"reading it failed unexpectedly ({type(error).__name__}): see the log, and report this",
                    tally,
                )
        return read

    def _record_alone(self, item: ReadEntry, tally: Tally) -> None:
        try:
            self._record([item], tally)
        except SQLAlchemyError as error:
            log.exception("entry.unrecordable", entry=item.entry.name)
            kind = type(getattr(error, "orig", None) or error).__name__
            self._quarantine(
                item.entry,
                Folder.SPOOL,
                f"the database refuses it ({kind}): see the log, then requeue",
                tally,
            )

    def _record(self, items: Sequence[ReadEntry], tally: Tally) -> None:
        if not items:
            return
        now = self.spool.clock.now()
        with self.database.transaction() as connection:
            recorded = record_batch(connection, items, spool_id=self.spool_id, now=now, policy=self.policy)
            settled = {
                receipt_id
                for receipt_id, result in recorded.items()
                if not result.is_marked and _is_settled(result.owed)
            }
            mark_settled(connection, settled, now)
        self.on_recorded((item.provider.name, recorded[item.receipt_id]) for item in items)
        for item in items:
            try:
                self._move_on(item, recorded[item.receipt_id])
            except SpoolUnavailableError as error:
                self._pass_over(item.entry, error, tally)
                continue
            tally.recorded += 1
            due = State.DUE in recorded[item.receipt_id].owed or bool(item.asks)
            tally.owing = tally.owing or due
        self._bad_in_a_row = 0

    def _move_on(self, item: ReadEntry, recorded: Recorded) -> None:
        """Move the file to where its verdict says; a death here only repeats the move."""
        if needs_person(recorded.owed):
            reason = quarantine_reason(self.database, item.receipt_id)
            self.spool.quarantine(item.entry, Folder.SPOOL, reason)
            target = Folder.QUARANTINE
        elif recorded.owed:
            moved = self.spool.move(item.entry, Folder.SPOOL, Folder.DEFERRED)
            if moved is not None and moved != item.entry:
                with self.database.transaction() as connection:
                    note_place(connection, item.receipt_id, moved)
            target = Folder.DEFERRED
        else:
            finish_file(self.spool, item.entry, Folder.SPOOL, keep=self.keep_done)
            target = Folder.DONE
        if target is not Folder.QUARANTINE:
            self.spool.forget_reason(item.entry)
        log.info(
            "entry.recorded",
            provider=item.provider.name,
            receipt=item.receipt_id,
            outcomes=[str(outcome) for outcome in recorded.outcomes],
            again=recorded.was_known,
            folder=str(target),
        )

    def _quarantine(self, entry: Entry, source: Folder, reason: str, tally: Tally) -> None:
        try:
            moved = self.spool.quarantine(entry, source, {"reason": reason})
        except SpoolUnavailableError as error:
            self._pass_over(entry, error, tally)
            return
        self.in_hand.put_down(entry)
        if moved is None:
            # Somebody has taken it away meanwhile.
            return
        log.warning("entry.quarantined", entry=entry.name, reason=reason)
        tally.quarantined += 1
        self._bad_in_a_row += 1

    def _pass_over(self, entry: Entry, error: SpoolUnavailableError, tally: Tally) -> None:
        """One file that the disk does not give or move: the others go on, the next pass tries it again."""
        tally.trouble = error
        tally.skipped += 1
        if entry not in self._complained and len(self._complained) < _MOST_COMPLAINTS:
            self._complained.add(entry)
            log.error("entry.passed_over", entry=entry.name, error=str(error))

    def _check_streak(self) -> None:
        """Stop when too many were bad in a row; after that, one bad one more is enough to stop again."""
        if self._bad_in_a_row >= self.streak_limit:
            self._bad_in_a_row = self.streak_limit - 1
            raise TooManyBadError(
                f"{self.streak_limit} entries in a row went to quarantine: the fault may be ours. "
                "Look at the reason files, mend the cause, then: signspool spool requeue"
            )

    def _size_now(self) -> int:
        """How many to take at once: one, when the ones before were bad."""
        doubtful = self._bad_in_a_row and self._bad_in_a_row >= self.streak_limit - 1
        return 1 if doubtful else self.batch_size


def _is_settled(owed: Collection[State]) -> bool:
    return not owed or needs_person(owed)
