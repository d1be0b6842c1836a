"""Makes entries of the spool out of what a browser brought, or a provider said when it was asked."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import uuid_utils

from shared.body import decode
from shared.events import Origin, Trust
from shared.names import entry_name
from shared.providers import AnyProvider
from shared.providers._base import Head
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Entry


class Made(NamedTuple):
    """A file that is ready to be written."""

    receipt_id: str
    entry: Entry
    content: bytes


def make_entry(
    provider: AnyProvider,
    head: Head,
    payload: bytes,
    *,
    received_at: datetime,
    origin: Origin,
    trust: Trust,
    content_type: str = "application/json",
    remote_address: str = "",
) -> Made:
    """The entry for a payload, which goes in byte for byte; `received_at` is in the spool's zone."""
    receipt_id = str(uuid_utils.uuid7())
    receipt = Receipt(
        id=receipt_id,
        provider_name=provider.name,
        encoding=decode(payload, content_type).encoding,
        sha256=digest_of(payload),
        size_bytes=len(payload),
        content_type=content_type,
        remote_address=remote_address,
        trust=trust,
        origin=origin,
    )
    record = SpoolRecord(
        received_at=received_at,
        document_id=head.document_id,
        action=head.action,
        provider_number=provider.file_number,
        payload=payload,
        id_field=provider.id_field,
        receipt=receipt,
    )
    entry = Entry(received_at.date().isoformat(), entry_name(head.document_id, receipt_id))
    return Made(receipt_id, entry, record.to_bytes())
