"""A provider that can be asked, somebody who answers, and an office around both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from processor import polls
from processor.access import Access
from processor.booked import booked
from processor.breaker import Breaker
from processor.means import Means
from processor.poll import Poller
from processor.reading import Reader
from processor.taking import TakerSettings
from shared.events import Event, EventType, Origin, Trust
from shared.making import make_entry
from shared.providers._base import (
    Answer,
    Ask,
    Callback,
    DocumentView,
    Found,
    Head,
    Limits,
    Polled,
    PollView,
    Proof,
    Provider,
    ProviderSettings,
    Request,
    SignedFiles,
    Steps,
)
from shared.spool import Entry, Folder
from shared.writer import SpoolWriter
from tests.processor.conftest import Workshop

A_DAY_SECONDS = 86_400.0
NAME = "asked"


class AskedProvider(Provider[ProviderSettings]):
    """Is asked about sessions once a day until they end; its answer is `{"status": ...}`.

    `account` are the limits of the account, if there are any.
    """

    title = "Asked"
    number = 77
    event_types: ClassVar[Mapping[str, EventType]] = {
        "SIGNED": EventType.COMPLETED,
        "CANCELLED": EventType.CANCELLED,
        "UNHEARD OF": EventType.PROGRESS,
    }
    Settings = ProviderSettings
    polls = True
    about_documents = False
    account: Limits | None = None

    @property
    def limits(self) -> Limits | None:
        return self.account

    def why_closed(self) -> str | None:
        return None

    def authenticate(self, callback: Callback) -> Proof:
        return Proof(Trust.OPEN)

    def callback_id(self, callback: Callback) -> Head:
        return Head(str(callback.json["id"]), str(callback.json["status"]))

    @property
    def origins(self) -> frozenset[str]:
        return frozenset()

    def signed_file(self, document: DocumentView) -> SignedFiles:
        yield from ()
        return []

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        if callback.origin is Origin.RETURN:
            return []
        event = self.event(head, key=head.action)
        event.confirmation.update({"word": head.action} if callback.origin is Origin.POLL else {})
        return [event]

    def asks(self, head: Head, callback: Callback) -> Iterable[Ask]:
        return [Ask(head.document_id, {"token": "t"})] if callback.origin is Origin.RETURN else []

    def document_ask(self, document: DocumentView) -> Ask | None:
        return Ask(document.document_id, after_seconds=60) if self.about_documents else None

    def poll(self, view: PollView) -> Steps[Polled]:
        answer = yield Request("GET", f"https://asked.test/{view.subject}")
        status = str(json.loads(answer.body)["status"])
        news = (
            ()
            if status in ("PENDING", view.memory.get("status"))
            else (Found(Head(view.subject, status), answer.body),)
        )
        again_seconds = None if status in self.event_types else A_DAY_SECONDS
        return Polled(again_seconds, news, {**view.memory, "status": status}, note=status)


@dataclass
class Desk:
    """Answers what is asked: `answers` is what each subject says now, or raises."""

    answers: dict[str, str | Exception]
    asked: list[str] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    async def send(self, method: str, url: str, **_options: Any) -> Answer:
        subject = url.rpartition("/")[2]
        self.asked.append(subject)
        await asyncio.to_thread(self.meanwhile)
        found = self.answers[subject]
        if isinstance(found, Exception):
            raise found
        return Answer(200, {}, json.dumps({"status": found}).encode())

    def stream(self, method: str, url: str, **_options: Any) -> NoReturn:
        raise AssertionError("nobody asks for more than fits into memory")


@dataclass
class Office:
    """A workshop with a provider that can be asked."""

    workshop: Workshop
    desk: Desk
    provider: AskedProvider
    writer: SpoolWriter

    def begin(self, *asks: Ask) -> None:
        with self.workshop.database.transaction() as connection:
            polls.begin(connection, NAME, asks, self.workshop.clock.now())

    def poller(self, *, access: Access | None = None, **changes: Any) -> Poller:
        """A poller as a new process would have it."""
        workshop = self.workshop
        return Poller(
            self.provider,
            sender=booked(
                self.provider, self.desk, database=workshop.database, clock=workshop.clock, asking=True
            ),
            writer=self.writer,
            database=workshop.database,
            spool_id=workshop.spool_id,
            breaker=Breaker(failures=3, pause_seconds=30, monotonic=workshop.time.seconds),
            access=access or Access(NAME, pause_seconds=30, monotonic=workshop.time.seconds),
            means=Means(),
            settings=TakerSettings(4, 1.0, 60.0, 30.0, 3600.0, away_pause_seconds=0.001),
            clock=workshop.clock,
            **changes,
        )

    def ask(self, poller: Poller | None = None) -> list[str]:
        """One round of asking about what is due; returns what was asked."""

        async def round_() -> None:
            asker = poller or self.poller()
            await asker.take()
            await asker.drain(10)

        before = len(self.desk.asked)
        asyncio.run(round_())
        return self.desk.asked[before:]

    def record(self) -> None:
        self.workshop.work(reader=Reader(self.workshop.spool, {NAME: self.provider}))

    def row(self, subject: str) -> dict[str, Any]:
        with self.workshop.database.transaction() as connection:
            [row] = [row for row in polls.listing(connection, NAME, 100) if row["subject"] == subject]
            return row

    def spooled(self) -> list[Entry]:
        return list(self.workshop.spool.entries(Folder.SPOOL))

    def come_back(self, subject: str) -> Entry:
        """A browser returns, as the door spools it."""
        made = make_entry(
            self.provider,
            Head(subject, "returned"),
            b'{"session": "x"}',
            received_at=self.workshop.clock.local(),
            origin=Origin.RETURN,
            trust=Trust.CLAIMED,
        )
        return self.workshop.lay(made.entry, made.content)


@contextmanager
def open_office(workshop: Workshop) -> Iterator[Office]:
    """An office with nothing to ask about yet."""
    writer = SpoolWriter(workshop.spool)
    writer.start()
    office = Office(workshop, Desk({}), AskedProvider(NAME, ProviderSettings()), writer)
    yield office
    office.writer.close()
