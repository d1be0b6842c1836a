"""What is known of documents: registering them, listing them, and the whole history of one."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, update

from processor import outbox, polls
from shared.db.dialect import insert_missing
from shared.db.models import Document, EventRow, FileRow, OutboxRow, State, Task, document_key
from shared.errors import UsageError
from shared.events import DocumentStatus
from shared.masking import mask, mask_all
from shared.providers import AnyProvider, provider_classes
from shared.providers._base import DocumentView


@dataclass(frozen=True, slots=True)
class Registration:
    """What the application tells of a document that it sent out for signature.

    `refs` are the provider's references (file ids, keys), `dms` those of the document management system.
    """

    provider: str
    document_id: str
    refs: Mapping[str, str]
    dms: Mapping[str, str]


def check_registration(registration: Registration) -> None:
    """Return when a registration can be of use, now or once its provider is configured.

    Raises:
        UsageError: unknown provider or reference name, an empty id, or a value that is no plain text; the
            message names what is known, or the key.
    """
    provider = provider_classes().get(registration.provider)
    if provider is None:
        known = ", ".join(provider_classes())
        raise UsageError(f"there is no provider {registration.provider!r}; known are: {known}")
    if not registration.document_id.strip():
        raise UsageError("the document id is empty")
    for name in registration.refs:
        if name not in provider.references:
            known = ", ".join(sorted(provider.references)) or "none"
            raise UsageError(f"{provider.title} has no reference {name!r}; it takes: {known}")
    for kind, values in (("reference", registration.refs), ("DMS reference", registration.dms)):
        for name, value in values.items():
            # They go into addresses, headers and JSON columns, and none of these takes such characters.
            if any(unicodedata.category(char) in ("Cc", "Cs") for char in name + value):
                raise UsageError(
                    f"{kind} {name!r} has a control character or half a character in it: write plain text"
                )


def register(
    connection: Connection,
    registration: Registration,
    now: datetime,
    providers: Mapping[str, AnyProvider] = MappingProxyType({}),
) -> str:
    """Note a registration: `"new"`, `"changed"` or `"unchanged"`.

    References are merged over those that are known; the same again changes nothing. Whatever the document
    still owes is tried at once, what had been given up too; its files are fetched again when the provider's
    references have changed, since there may be more of them now. One of the `providers`, which are those
    that are configured, is asked about it from now on if it wants to be.
    """
    key = document_key(registration.document_id)
    insert_missing(
        connection,
        Document,
        [
            {
                "provider": registration.provider,
                "key": key,
                "document_id": registration.document_id,
                "status": DocumentStatus.PENDING,
                "created_at": now,
                "refs": {},
                "dms": {},
                "refs_version": 0,
                "learned": {},
            }
        ],
    )
    row = connection.execute(
        select(
            Document.id,
            Document.status,
            Document.refs,
            Document.dms,
            Document.learned,
            Document.registered_at,
        )
        .where(Document.provider == registration.provider, Document.key == key)
        .with_for_update()
    ).one()
    refs, dms = {**row.refs, **registration.refs}, {**row.dms, **registration.dms}
    provider = providers.get(registration.provider)
    if provider is not None and not DocumentStatus(row.status).is_final:
        ask = provider.document_ask(DocumentView(registration.document_id, refs, row.learned))
        polls.keep(connection, provider.name, [] if ask is None else [ask], now)
    if row.registered_at is not None and (refs, dms) == (row.refs, row.dms):
        outbox.wake_document(connection, [row.id], now)
        return "unchanged"
    connection.execute(
        update(Document)
        .where(Document.id == row.id)
        .values(
            refs=refs,
            dms=dms,
            refs_version=Document.refs_version + 1,
            registered_at=row.registered_at or now,
        )
    )
    if outbox.has_rows(connection, row.id):
        outbox.registered(connection, row.id, now)
        if refs != row.refs:
            outbox.fetch_again(connection, row.id, now)
    return "new" if row.registered_at is None else "changed"


def show(connection: Connection, provider: str, document_id: str) -> dict[str, Any] | None:
    """Everything about one document, fit for JSON; None when it is not known.

    What strangers said of it is shown without numbers of persons; its id, and what was registered, as it is.

    Events in the order of recording; `deliveries` and `owed` in the order in which they came to be owed.
    """
    row = (
        connection.execute(
            select(Document.__table__).where(
                Document.provider == provider, Document.key == document_key(document_id)
            )
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    owed = _outbox_rows(connection, row["id"])
    return {
        **_document(row),
        "references": row["refs"],
        "dms": row["dms"],
        "learned": mask_all(row["learned"]),
        "events": _events(connection, row["id"]),
        "files": _files(connection, row["id"]),
        "deliveries": [item for item in owed if item["task"] in (Task.DELIVER, Task.ADVANCE)],
        "owed": [item for item in owed if item["task"] not in (Task.DELIVER, Task.ADVANCE)],
    }


def listing(
    connection: Connection, *, provider: str | None, status: str | None, limit: int
) -> list[dict[str, Any]]:
    """Documents, the ones with the latest news first."""
    unfinished = (
        select(func.count())
        .where(OutboxRow.document_fk == Document.id, OutboxRow.state != State.DONE)
        .scalar_subquery()
    )
    query = select(Document.__table__, unfinished.label("unfinished"))
    if provider is not None:
        query = query.where(Document.provider == provider)
    if status is not None:
        query = query.where(Document.status == status)
    latest = func.coalesce(Document.status_at, Document.created_at)
    rows = connection.execute(query.order_by(latest.desc(), Document.id.desc()).limit(limit)).mappings()
    return [{**_document(row), "unfinished": row["unfinished"]} for row in rows]


def _document(row: RowMapping) -> dict[str, Any]:
    return {
        "provider": row["provider"],
        "document_id": row["document_id"],
        "status": row["status"],
        "status_at": iso(row["status_at"]),
        "created_at": iso(row["created_at"]),
        "registered_at": iso(row["registered_at"]),
        "erased_at": iso(row["erased_at"]),
        "history_dropped_at": iso(row["history_dropped_at"]),
    }


def _events(connection: Connection, document_fk: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        select(EventRow.__table__).where(EventRow.document_fk == document_fk).order_by(EventRow.id)
    ).mappings()
    return [
        {
            "action": row["action"],
            "event_type": row["event_type"],
            "outcome": row["outcome"],
            "status_before": row["status_before"],
            "status_after": row["status_after"],
            "message": row["message"],
            "received_at": iso(row["received_at"]),
            "occurred_at": iso(row["occurred_at"]),
            "recorded_at": iso(row["recorded_at"]),
            "settled_at": iso(row["settled_at"]),
            "origin": row["origin"],
            "trust": row["trust"],
            "receipt_id": row["receipt_id"],
            "payload_sha256": row["payload_sha256"],
            "spool": row["spool_id"],
            "entry": f"{row['day']}/{row['name']}",
        }
        for row in rows
    ]


def _files(connection: Connection, document_fk: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        select(FileRow.__table__).where(FileRow.document_fk == document_fk).order_by(FileRow.id)
    ).mappings()
    return [
        {
            "kind": row["kind"],
            "source": row["source"],
            "name": mask(row["name"]),
            "media_type": row["media_type"],
            "bytes": row["size_bytes"],
            "sha256": row["sha256"],
            "path": row["path"] or None,
            "fetched_at": iso(row["fetched_at"]),
        }
        for row in rows
    ]


def _outbox_rows(connection: Connection, document_fk: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        outbox_query().where(OutboxRow.document_fk == document_fk).order_by(OutboxRow.id)
    ).mappings()
    return [outbox_item(row) for row in rows]


def outbox_query() -> Any:
    """Outbox rows with their file's digest and spool, the provider and the id of their document."""
    return (
        select(
            OutboxRow.__table__,
            FileRow.sha256,
            FileRow.spool_id.label("file_spool"),
            Document.provider,
            Document.document_id,
        )
        .join(Document, Document.id == OutboxRow.document_fk)
        .join(FileRow, FileRow.id == OutboxRow.file_fk, isouter=True)
    )


def outbox_item(row: RowMapping) -> dict[str, Any]:
    """One outbox row, fit for JSON. `next_attempt_at` is null unless the state is `due`.

    `file_spool` is the id of the spool in which the file to deliver lies: only its machine can deliver it.
    """
    due = row["state"] == State.DUE
    return {
        "id": row["id"],
        "task": row["task"],
        "destination": row["destination"],
        "provider": row["provider"],
        "document_id": row["document_id"],
        "status": row["status"],
        "state": row["state"],
        "attempts": row["attempts"],
        "next_attempt_at": iso(row["next_attempt_at"]) if due else None,
        "last_error": row["last_error"] or None,
        "sha256": row["sha256"],
        "remote_reference": mask(row["remote_reference"]) or None,
        "file_spool": row["file_spool"],
        "created_at": iso(row["created_at"]),
        "done_at": iso(row["done_at"]),
    }


def iso(instant: datetime | None) -> str | None:
    """An instant as text, UTC, to the microsecond."""
    return None if instant is None else instant.isoformat(timespec="microseconds")
