"""Does what is owed: fetch a signed file, deliver it, advance a workflow, tell the company's own table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import Connection, select

from processor import outbox, owed
from processor.converse import ask_in_memory, converse
from processor.destinations._base import Destination, Parcel, Sending, Step, Subject
from processor.download import StoredFile, fetch_files
from processor.leasing import Leased
from processor.mirror import Mirror
from processor.outbox import DocumentFacts
from processor.sender import StreamingSender
from processor.signatures import SignatureCheck
from shared.db.models import EventRow, FileRow, Task
from shared.db.session import Database
from shared.errors import (
    HeldError,
    NoAnswerError,
    SpoolUnavailableError,
    TransientError,
    UnavailableError,
    WaitingError,
)
from shared.names import encode_id
from shared.providers import AnyProvider
from shared.providers._base import DocumentView, FileKind
from shared.spool import Spool, make_folder, unavailable

T = TypeVar("T")

log = structlog.get_logger()

Note = Callable[[Connection], list[str]]
"""Writes down that a thing is done; returns paths of files under `files/` that nobody needs any more."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Everything that doing takes. `outsides` are the senders to the providers, by name."""

    spool: Spool
    spool_id: str
    database: Database
    providers: Mapping[str, AnyProvider]
    outsides: Mapping[str, StreamingSender]
    destinations: Mapping[str, Destination]
    mirror: Mirror | None
    policy: owed.Policy
    max_file_bytes: int
    signatures: SignatureCheck = field(default_factory=SignatureCheck)

    async def do(self, leased: Leased) -> Note:
        """Do one owed thing; returns what is to be written down about it in one transaction.

        Raises:
            HeldError: it may have been done, and doing it again is not harmless.
            WaitingError, PermanentError, TransientError, UnavailableError: as the errors themselves say.
        """
        facts = await self._in_database(lambda connection: outbox.document_of(connection, leased.document_fk))
        doing = {
            Task.FETCH: self._fetch,
            Task.DELIVER: self._deliver,
            Task.ADVANCE: self._advance,
            Task.MIRROR: self._tell_mirror,
            Task.CONFIRM: self._confirm,
        }
        return await doing[leased.task](leased, facts)

    async def _fetch(self, leased: Leased, facts: DocumentFacts) -> Note:
        provider = self._provider(facts)
        day = self.spool.files / self.spool.clock.today().isoformat()
        folder = day / provider.name
        await asyncio.to_thread(_make_folders, day, folder)
        stored = await fetch_files(
            provider,
            _view(facts),
            self.outsides[provider.name],
            folder,
            max_file_bytes=self.max_file_bytes,
            signatures=self.signatures,
        )
        for file in stored:
            if file.signatures is not None:
                log.info(
                    "file.signatures_checked",
                    receipt=leased.receipt_id,
                    provider=provider.name,
                    document=facts.document_id,
                    sha256=file.sha256,
                    signatures=file.signatures,
                    check=provider.settings.signatures,
                )
        files = [_new_file(file, self.spool.files) for file in stored]

        def note(connection: Connection) -> list[str]:
            now = self.spool.clock.now()
            spare = owed.enqueue_deliveries(
                connection, leased, files, spool_id=self.spool_id, now=now, policy=self.policy
            )
            outbox.finish(connection, leased, now)
            return spare

        return note

    async def _deliver(self, leased: Leased, facts: DocumentFacts) -> Note:
        destination = self._destination(leased)
        parcel = await self._in_database(lambda connection: self._parcel(connection, leased, facts))
        if not await asyncio.to_thread(self._is_fetched, parcel.path):
            await self._in_database(
                lambda connection: outbox.fetch_again(connection, leased.document_fk, self.spool.clock.now())
            )
            raise TransientError("the fetched file is gone from files/: it is being fetched again")
        reference = await self._once(
            leased, destination.repeatable, lambda sending: destination.deliver(parcel, sending)
        )

        def note(connection: Connection) -> list[str]:
            outbox.finish(connection, leased, self.spool.clock.now(), reference)
            assert leased.file_fk is not None
            return outbox.take_delivered_file(connection, leased.file_fk)

        return note

    async def _advance(self, leased: Leased, facts: DocumentFacts) -> Note:
        destination = self._destination(leased)
        step = Step(_subject(leased, facts), f"{facts.provider}:{encode_id(facts.document_id)}:advance")
        reference = await self._once(leased, False, lambda sending: destination.advance(step, sending))
        return self._finish(leased, reference)

    async def _tell_mirror(self, leased: Leased, facts: DocumentFacts) -> Note:
        if self.mirror is None:
            raise WaitingError("the company table is not configured any more: set [database.mirror]")
        change = await self._in_database(
            lambda connection: (
                None
                if outbox.is_superseded(connection, leased)
                else connection.execute(
                    select(
                        EventRow.status_after, EventRow.action, EventRow.occurred_at, EventRow.received_at
                    ).where(EventRow.id == leased.event_fk)
                ).one()
            )
        )
        if change is not None:
            await asyncio.to_thread(
                self.mirror.tell,
                provider=facts.provider,
                document_id=facts.document_id,
                status=change.status_after,
                action=change.action,
                occurred_at=change.occurred_at or change.received_at,
            )
        return self._finish(leased)

    async def _confirm(self, leased: Leased, facts: DocumentFacts) -> Note:
        provider = self._provider(facts)
        outside = self.outsides[provider.name]
        if await self._in_database(lambda connection: outbox.was_confirmed_since(connection, leased)):
            # Said once more it might be taken for the confirmation of what has happened meanwhile.
            return self._finish(leased)
        await converse(provider.confirm(_view(facts), leased.details), partial(ask_in_memory, outside))
        return self._finish(leased)

    def forget_files(self, paths: Iterable[str]) -> None:
        """Delete files under `files/` that every destination has."""
        with unavailable("delete a delivered file"):
            for path in paths:
                (self.spool.files / path).unlink(missing_ok=True)

    # Pieces

    def _provider(self, facts: DocumentFacts) -> AnyProvider:
        provider = self.providers.get(facts.provider)
        if provider is None:
            raise WaitingError(
                f"provider {facts.provider} is not configured: add [providers.{facts.provider}]"
            )
        return provider

    def _destination(self, leased: Leased) -> Destination:
        destination = self.destinations.get(leased.destination)
        if destination is None:
            raise WaitingError(
                f"destination {leased.destination} is not configured any more: "
                f"set [destinations.{leased.destination}]"
            )
        return destination

    def _is_fetched(self, path: Path) -> bool:
        """Whether a fetched file lies there.

        Raises:
            SpoolUnavailableError: the folder of all of them is gone, which none of them is to blame for.
        """
        if path.is_file():
            return True
        if not self.spool.files.is_dir():
            raise SpoolUnavailableError(
                "files/ is missing in the spool: put it back, or make it with signspool check --init-spool"
            )
        return False

    def _parcel(self, connection: Connection, leased: Leased, facts: DocumentFacts) -> Parcel:
        file = connection.execute(
            select(
                FileRow.kind,
                FileRow.name,
                FileRow.media_type,
                FileRow.size_bytes,
                FileRow.sha256,
                FileRow.path,
            ).where(FileRow.id == leased.file_fk)
        ).one()
        return Parcel(
            subject=_subject(leased, facts),
            kind=FileKind(file.kind),
            name=file.name,
            media_type=file.media_type,
            path=self.spool.files / file.path,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            idempotency_key=f"{facts.provider}:{encode_id(facts.document_id)}:{file.sha256}",
        )

    def _finish(self, leased: Leased, reference: str = "") -> Note:
        def note(connection: Connection) -> list[str]:
            outbox.finish(connection, leased, self.spool.clock.now(), reference)
            return []

        return note

    async def _once(self, leased: Leased, repeatable: bool, act: Callable[[Sending], Awaitable[str]]) -> str:
        """Do something that must not happen twice, unless the other side can tell a repeat.

        Raises:
            HeldError: an earlier attempt, or this one, may have had its effect.
        """
        if repeatable:
            return await act(_nothing_to_note)
        if leased.sent_at is not None:
            sent_at = leased.sent_at.isoformat(timespec="seconds")
            raise HeldError(f"an attempt at {sent_at} was sent and its outcome is unknown")
        sent = False

        async def sending() -> None:
            nonlocal sent
            await self._in_database(
                lambda connection: outbox.mark_sent(connection, leased, self.spool.clock.now())
            )
            sent = True

        try:
            return await act(sending)
        except (NoAnswerError, UnavailableError) as error:
            if sent:
                raise HeldError(f"sent, and the outcome is unknown: {error}") from error
            raise

    async def _in_database(self, act: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.database.transaction() as connection:
                return act(connection)

        return await asyncio.to_thread(run)


async def _nothing_to_note() -> None:
    """A repeatable effect needs no mark before it."""


def _view(facts: DocumentFacts) -> DocumentView:
    return DocumentView(facts.document_id, facts.refs, facts.learned)


def _subject(leased: Leased, facts: DocumentFacts) -> Subject:
    return Subject(facts.provider, facts.document_id, leased.status, facts.refs, facts.dms)


def _make_folders(*folders: Path) -> None:
    with unavailable("make a folder for signed files", gone_too=True):
        for folder in folders:
            make_folder(folder)


def _new_file(file: StoredFile, base: Path) -> owed.NewFile:
    return owed.NewFile(
        kind=file.kind,
        source=file.source,
        name=file.name,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        path=str(file.path.relative_to(base)),
    )
