"""A sending that nobody knew the outcome of is settled when the provider tells of its reference."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, insert, select

from processor import echoes
from processor.echoes import Echo
from shared.db.models import SendingRow, SendingState, document_key
from tests.processor.conftest import Workshop

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def note(connection: Connection, reference: str, state: SendingState) -> None:
    connection.execute(
        insert(SendingRow).values(
            provider="posten",
            reference_key=document_key(reference),
            reference=reference,
            fingerprint="f",
            title="t",
            state=state,
            envelope_id="",
            documents=[],
            last_error="no answer came",
            attempts=1,
            created_at=NOW,
        )
    )


@pytest.mark.parametrize("state", list(SendingState))
def test_only_what_nobody_knew_is_settled(workshop: Workshop, state: SendingState) -> None:
    with workshop.database.transaction() as connection:
        note(connection, "r-1", state)
        note(connection, "r-2", SendingState.UNKNOWN)
        told = [Echo("posten", "r-1", "12087"), Echo("other", "r-2", "1"), Echo("posten", "r-3", "2")]
        echoes.settle(connection, told, NOW)
        echoes.settle(connection, told, NOW)
        rows = connection.execute(select(SendingRow.__table__).order_by(SendingRow.id)).all()
    settled = state is SendingState.UNKNOWN
    assert rows[0].state == (SendingState.SENT if settled else state)
    assert rows[0].envelope_id == ("12087" if settled else "")
    assert rows[0].documents == ([{"document_id": "12087", "file": None}] if settled else [])
    assert (rows[1].state, rows[1].envelope_id) == (SendingState.UNKNOWN, "")
