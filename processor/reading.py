"""Entry to events: reads a spool file and asks its provider what it says. Changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.errors import PermanentError, RefusedError
from shared.events import Event, Origin, Trust
from shared.names import guid_in
from shared.providers import AnyProvider
from shared.providers._base import Ask, Callback, Head
from shared.record import Receipt, SpoolRecord, digest_of, parse_record
from shared.spool import Entry, Folder, Spool, UnreadableError

FRESH_SECONDS = 10.0
"""A file that is no JSON and younger than this may still be in the middle of a copy by hand."""


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """An entry and what it says. `received_at` is UTC; the events' order is that of the callback.

    `asks` are what the provider is to be asked about because of it.
    """

    entry: Entry
    receipt_id: str
    provider: AnyProvider
    events: tuple[Event, ...]
    asks: tuple[Ask, ...]
    received_at: datetime
    origin: Origin
    trust: Trust
    payload_sha256: str


class StillArrivingError(Exception):
    """The file is young and incomplete: look again later."""


class Reader:
    """Reads entries for the providers that are configured."""

    def __init__(self, spool: Spool, providers: Mapping[str, AnyProvider]) -> None:
        self._spool = spool
        self._providers = providers
        self._by_number = {provider.file_number: provider for provider in providers.values()}

    def read(self, entry: Entry) -> ReadEntry:
        """What an entry says.

        Raises:
            FileNotFoundError: it was taken away.
            StillArrivingError: it may still be being copied.
            PermanentError: it cannot be understood; the message says why and what to do.
            SpoolUnavailableError: the disk failed.
        """
        try:
            record = parse_record(self._spool.read(Folder.SPOOL, entry))
        except UnreadableError as error:
            raise PermanentError(f"{entry.name}: {error}") from error
        except ValueError as error:
            if self._spool.age_seconds(Folder.SPOOL, entry) < FRESH_SECONDS:
                raise StillArrivingError from error
            raise PermanentError(
                f"not a spool file: {error}. Mend it and move it back into spool/"
            ) from error
        provider = self._provider_of(record)
        events, asks = _what_it_says(provider, record)
        return ReadEntry(
            entry=entry,
            receipt_id=receipt_id_of(entry, record),
            provider=provider,
            events=events,
            asks=asks,
            received_at=record.received_at.astimezone(UTC),
            origin=record.receipt.origin if record.receipt else Origin.HAND,
            trust=record.receipt.trust if record.receipt else Trust.OPEN,
            payload_sha256=digest_of(record.payload),
        )

    def _provider_of(self, record: SpoolRecord) -> AnyProvider:
        if record.receipt and record.receipt.provider_name in self._providers:
            return self._providers[record.receipt.provider_name]
        if record.receipt:
            raise PermanentError(
                f"provider {record.receipt.provider_name} is not configured: "
                f"add [providers.{record.receipt.provider_name}], then requeue"
            )
        if record.provider_number is None:
            raise PermanentError('the file names no provider: add "provider": 0 (Certisign) or 1 (S-SIGN)')
        provider = self._by_number.get(record.provider_number)
        if provider is None:
            raise PermanentError(
                f"no configured provider has the number {record.provider_number}: "
                'configure it, or correct "provider" in the file'
            )
        return provider


def _what_it_says(provider: AnyProvider, record: SpoolRecord) -> tuple[tuple[Event, ...], tuple[Ask, ...]]:
    receipt = record.receipt
    callback = Callback(
        body=record.payload,
        headers={**receipt.headers, "content-type": receipt.content_type} if receipt else {},
        query=receipt.query if receipt else {},
        remote_address=receipt.remote_address if receipt else "",
        received_at=record.received_at,
        origin=receipt.origin if receipt else Origin.HAND,
    )
    head = Head(record.document_id, record.action)
    try:
        return tuple(provider.parse(head, callback)), tuple(provider.asks(head, callback))
    except RefusedError as error:
        raise PermanentError(f"{provider.title} does not understand it: {error}") from error


def receipt_id_of(entry: Entry, record: SpoolRecord) -> str:
    """What makes the entry the same one when it comes back: the receipt's id, the guid of the name, or, for
    a file named by hand, a digest of name and content."""
    receipt: Receipt | None = record.receipt
    if receipt is not None:
        return receipt.id[:64]
    if (guid := guid_in(entry.name)) is not None:
        return guid
    seed = f"{entry.name}\n{record.document_id}\n{record.action}\n".encode("utf-8", "surrogatepass")
    return hashlib.sha256(seed + record.payload).hexdigest()
