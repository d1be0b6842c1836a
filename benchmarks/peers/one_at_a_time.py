"""The loop most people would write for the daemon: one ORM transaction and one rename an entry.

Same tables, same database settings and same driver as ours; it neither isolates poison nor charges attempts,
and keeps no log, so it does less.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.models import Document, EventRow
from shared.db.session import Database
from shared.events import DocumentStatus, EventType

_ACTIONS = {
    "PENDING": EventType.SENT,
    "EXPIRED": EventType.EXPIRED,
    "DELETED": EventType.DELETED,
}


def work_through(root: Path, database: Database) -> float:
    """Record every entry of a spool and move it to done; returns the seconds that it took."""
    began = time.perf_counter()
    for path in sorted(root.glob("spool/*/*.json")):
        content = json.loads(path.read_bytes())
        with Session(database.engine) as session, session.begin():
            _record(session, content, path)
        target = root / "done" / path.parent.name
        target.mkdir(exist_ok=True)
        path.rename(target / path.name)
    return time.perf_counter() - began


def _record(session: Session, content: dict[str, Any], path: Path) -> None:
    receipt = content["receipt"]
    if session.scalar(select(EventRow.id).where(EventRow.receipt_id == receipt["id"])) is not None:
        return
    now = datetime.now(UTC)
    document = session.scalar(
        select(Document).where(
            Document.provider == receipt["providerName"], Document.key == content["envelopeId"]
        )
    )
    if document is None:
        document = _new_document(content, now)
        session.add(document)
        session.flush()
    before = DocumentStatus(document.status)
    claimed = _ACTIONS[content["action"]].status
    applied = claimed is not None and claimed.rank > before.rank
    if applied:
        document.status, document.status_at = str(claimed), now
    session.add(_event(content, path, document, before, applied=applied, now=now))


def _new_document(content: dict[str, Any], now: datetime) -> Document:
    return Document(
        provider=content["receipt"]["providerName"],
        key=content["envelopeId"],
        document_id=content["envelopeId"],
        status=DocumentStatus.PENDING,
        created_at=now,
        refs={},
        dms={},
        refs_version=0,
        learned={},
    )


def _event(
    content: dict[str, Any],
    path: Path,
    document: Document,
    before: DocumentStatus,
    *,
    applied: bool,
    now: datetime,
) -> EventRow:
    receipt = content["receipt"]
    return EventRow(
        document_fk=document.id,
        receipt_id=receipt["id"],
        ordinal=0,
        semantic_key=content["action"],
        action=content["action"],
        event_type=_ACTIONS[content["action"]],
        outcome="applied" if applied else "unchanged",
        status_before=before,
        status_after=document.status,
        message="",
        received_at=datetime.fromisoformat(content["timestamp"]),
        occurred_at=None,
        recorded_at=now,
        origin=receipt["origin"],
        trust=receipt["trust"],
        payload_sha256=receipt["sha256"],
        spool_id="",
        day=path.parent.name,
        name=path.name,
        settled_at=now,
    )
