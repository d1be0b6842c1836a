"""Settles sendings whose outcome was unknown, when the provider tells of a job with their reference."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, update

from shared.db.models import SendingRow, SendingState, document_key


class Echo(NamedTuple):
    """A provider has told of a document, and of the reference under which it was sent."""

    provider: str
    reference: str
    document_id: str


def settle(connection: Connection, echoes: Iterable[Echo], now: datetime) -> None:
    """Note of each sending that was held because nobody knew: it did arrive, and this is what it became."""
    for echo in echoes:
        connection.execute(
            update(SendingRow)
            .where(
                SendingRow.provider == echo.provider,
                SendingRow.reference_key == document_key(echo.reference),
                SendingRow.state == SendingState.UNKNOWN,
            )
            .values(
                state=SendingState.SENT,
                envelope_id=echo.document_id,
                documents=[{"document_id": echo.document_id, "file": None}],
                answered_at=now,
                last_error="",
            )
        )
