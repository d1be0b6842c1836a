"""What stays in the database of an order for signature: its reference, so that it is not sent twice."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Text, cast, or_, select, update

from shared.db.models import PollRow, SendingRow, SendingState, document_key

_OVER = (SendingState.SENT, SendingState.REFUSED)
_NAMES_A_FILE = '"file": "'
"""So begins the name of a file in `SendingRow.documents`, whose quotes are escaped inside of texts."""


def erase_orders(connection: Connection, provider: str, document_id: str) -> None:
    """Empty the orders that a document came from: title, errors, name of its file, and what asking told."""
    written = json.dumps(document_id)
    found = connection.execute(
        select(SendingRow.id, SendingRow.envelope_id, SendingRow.documents).where(
            SendingRow.provider == provider,
            or_(
                SendingRow.envelope_id == document_id,
                cast(SendingRow.documents, Text).contains(written, autoescape=True),
            ),
        )
    ).all()
    subjects = {document_id}
    for row in found:
        ids = {document["document_id"] for document in row.documents}
        if document_id in (row.envelope_id, *ids):
            # An envelope takes all its documents along.
            _empty(
                connection, row.id, row.documents, ids if document_id == row.envelope_id else {document_id}
            )
            subjects.add(row.envelope_id)
    keys = [document_key(subject) for subject in subjects if subject]
    connection.execute(
        update(PollRow).where(PollRow.provider == provider, PollRow.key.in_(keys)).values(note="")
    )


def drop_orders(connection: Connection, before: datetime, most: int) -> int:
    """Empty orders that were made before a time and are over, at most so many; returns how many."""
    found = connection.execute(
        select(SendingRow.id, SendingRow.documents)
        .where(
            SendingRow.state.in_(_OVER),
            SendingRow.created_at < before,
            or_(
                SendingRow.title != "",
                SendingRow.last_error != "",
                cast(SendingRow.documents, Text).contains(_NAMES_A_FILE, autoescape=True),
            ),
        )
        .order_by(SendingRow.id)
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()
    for row in found:
        _empty(connection, row.id, row.documents, {document["document_id"] for document in row.documents})
    return len(found)


def _empty(
    connection: Connection, row_id: int, documents: Sequence[Mapping[str, Any]], ids: Collection[str]
) -> None:
    emptied = [
        {**document, "file": None} if document["document_id"] in ids else dict(document)
        for document in documents
    ]
    connection.execute(
        update(SendingRow).where(SendingRow.id == row_id).values(title="", last_error="", documents=emptied)
    )
