"""Turns a callback into the file that is stored, and a refused one into its bounded copy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import structlog
import uuid_utils

from callback_api.responses import problem_of
from callback_api.writer import Writer
from shared.body import Encoding
from shared.clock import Clock
from shared.errors import RefusedError, SpoolUnavailableError, UnusableBodyError
from shared.events import Trust
from shared.names import entry_name
from shared.providers import AnyProvider
from shared.providers._base import Callback, Head
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Entry, Folder, Spool, unavailable

MAX_HEAD_TEXT_BYTES = 64 * 1024
"""Longest id, and longest action, in UTF-8."""

_SURELY_SHORT_ENOUGH = MAX_HEAD_TEXT_BYTES // 4
"""Characters that cannot have more bytes than that."""

_UNKNOWN = "unknown"
_log = structlog.get_logger()


class Stored(NamedTuple):
    """A file that is ready to be written."""

    receipt_id: str
    entry: Entry
    content: bytes


def accept(provider: AnyProvider, callback: Callback, received_at: datetime) -> Stored:
    """Prove the sender and make the file; `received_at` is in the spool's zone.

    Raises:
        RefusedError: the sender is not proven, or the body lacks what a callback needs, or has too much
            of it.
    """
    proof = provider.authenticate(callback)
    head = bounded_head(provider, callback)
    receipt_id = str(uuid_utils.uuid7())
    receipt = _receipt(
        provider,
        callback,
        receipt_id,
        encoding=callback.decoded.encoding,
        trust=proof.trust,
        key_id=proof.key_id,
    )
    record = SpoolRecord(
        received_at=received_at,
        document_id=head.document_id,
        action=head.action,
        provider_number=provider.file_number,
        payload=callback.body,
        id_field=provider.id_field,
        receipt=receipt,
    )
    entry = Entry(received_at.date().isoformat(), entry_name(head.document_id, receipt_id))
    return Stored(receipt_id, entry, record.to_bytes())


def bounded_head(provider: AnyProvider, callback: Callback) -> Head:
    """The id and the action.

    Raises:
        UnusableBodyError: one is missing, of the wrong kind, or too long.
    """
    head = provider.callback_id(callback)
    for name, text in ((provider.id_field, head.document_id), ("action", head.action)):
        if len(text) > _SURELY_SHORT_ENOUGH and len(text.encode("utf-8", "surrogatepass")) > (
            MAX_HEAD_TEXT_BYTES
        ):
            raise UnusableBodyError(f"{name} is longer than {MAX_HEAD_TEXT_BYTES} bytes")
    return head


def _receipt(
    provider: AnyProvider,
    callback: Callback,
    receipt_id: str,
    *,
    encoding: Encoding,
    trust: Trust,
    key_id: str | None = None,
    refusal: dict[str, object] | None = None,
) -> Receipt:
    return Receipt(
        id=receipt_id,
        provider_name=provider.name,
        encoding=encoding,
        sha256=digest_of(callback.body),
        size_bytes=len(callback.body),
        content_type=callback.content_type,
        headers=_kept(callback.headers, provider.kept_headers),
        query=_kept(callback.query, provider.kept_query),
        remote_address=callback.remote_address,
        trust=trust,
        key_id=key_id,
        refusal=refusal,
    )


def _kept(values: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    kept = names & values.keys()
    return {name: values[name] for name in kept} if kept else {}


@dataclass(slots=True)
class RefusedCopies:
    """Keeps bounded copies of refused callbacks: so many a day, of so many bytes each.

    What an earlier process kept on the same day counts.
    """

    spool: Spool
    writer: Writer
    clock: Clock
    enabled: bool
    max_bytes: int
    max_per_day: int
    _day: str = ""
    _kept: int = 0
    _counting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def keep(self, provider: AnyProvider, callback: Callback, error: RefusedError) -> None:
        """Keep a copy if the settings want one. What goes wrong here is logged and harms nobody."""
        if not (self.enabled and error.keep):
            return
        received_at = self.clock.local(callback.received_at)
        try:
            if not await self._has_room(received_at.date().isoformat()):
                return
            copy = _refused_copy(provider, callback, error, received_at, self.max_bytes)
            await self.writer.write(Folder.REFUSED, copy.entry, copy.content, durable=False)
        except SpoolUnavailableError as failure:
            _log.warning("refused.not_kept", provider=provider.name, reason=str(failure))
        except Exception as failure:  # noqa: BLE001  (the answer to the sender stands already)
            _log.warning("refused.not_kept", provider=provider.name, exc_info=failure)

    async def _has_room(self, day: str) -> bool:
        async with self._counting:
            if day != self._day:
                # Off the loop: a network file system may take its time.
                self._kept = await asyncio.to_thread(self._count, day)
                self._day = day
        self._kept += 1
        if self._kept == self.max_per_day + 1:
            _log.warning("refused.limit_reached", day=day, limit=self.max_per_day)
        return self._kept <= self.max_per_day

    def _count(self, day: str) -> int:
        """How many copies the day has already, up to the limit: what lies above it changes nothing."""
        try:
            folder = self.spool.folder(Folder.REFUSED) / day
            with unavailable(f"list {Folder.REFUSED}/{day}"), os.scandir(folder) as found:
                return sum(1 for _ in islice(found, self.max_per_day))
        except FileNotFoundError:
            return 0


def _refused_copy(
    provider: AnyProvider, callback: Callback, error: RefusedError, received_at: datetime, max_bytes: int
) -> Stored:
    """The copy of a refused callback. A body that is cut is not parsed: its sender has proven nothing."""
    truncated = len(callback.body) > max_bytes
    payload = callback.body[:max_bytes]
    head = Head("", "") if truncated else _head(provider, callback)
    encoding = _plain_encoding(payload) if truncated else callback.decoded.encoding
    _, status, detail = problem_of(error)
    refusal: dict[str, object] = {"status": status, "title": error.title, "detail": detail}
    if isinstance(error, UnusableBodyError):
        # The sender was proven before the body was read; a proof that is not noted now is lost.
        proof = provider.authenticate(callback)
        refusal |= {"trust": proof.trust, "keyId": proof.key_id}
    if truncated:
        refusal["truncated"] = True
    receipt_id = str(uuid_utils.uuid7())
    receipt = _receipt(
        provider, callback, receipt_id, encoding=encoding, trust=Trust.REFUSED, refusal=refusal
    )
    receipt.headers |= provider.evidence(callback)
    record = SpoolRecord(
        received_at=received_at,
        document_id=head.document_id,
        action=head.action,
        provider_number=provider.file_number,
        payload=payload,
        id_field=provider.id_field,
        receipt=receipt,
    )
    entry = Entry(received_at.date().isoformat(), entry_name(head.document_id or _UNKNOWN, receipt_id))
    return Stored(receipt_id, entry, record.to_bytes())


def _head(provider: AnyProvider, callback: Callback) -> Head:
    try:
        return bounded_head(provider, callback)
    except RefusedError:
        return Head("", "")


def _plain_encoding(payload: bytes) -> Encoding:
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return Encoding.BASE64
    return Encoding.TEXT
