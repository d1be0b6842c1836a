"""What is owed because of an event: which outbox rows follow from a status, and from a fetched file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, or_, select, update
from sqlalchemy.orm import aliased

from processor.destinations._base import Destination
from processor.leasing import Leased
from shared.db.dialect import insert_missing
from shared.db.models import FileRow, OutboxRow, State, Task
from shared.events import DocumentStatus
from shared.providers import AnyProvider
from shared.providers._base import FileKind

MIRROR_LANE = "mirror"


def provider_lane(name: str) -> str:
    """The lane of requests to a provider."""
    return f"provider:{name}"


def destination_lane(name: str) -> str:
    """The lane of requests to a destination."""
    return f"destination:{name}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What follows from a status, as the settings have it."""

    destinations: Mapping[str, Destination]
    mirror: bool

    def owes(self, provider: AnyProvider, status: DocumentStatus) -> bool:
        """Whether anything follows from a document's having come to a status."""
        return (
            self.mirror
            or (status is DocumentStatus.COMPLETED and provider.settings.fetch_files)
            or any(destination.advances(status) for destination in self.destinations.values())
        )


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One event, and the status in which it left its document; `confirmation` is the event's."""

    provider: AnyProvider
    document_fk: int
    event_fk: int
    status: DocumentStatus
    confirmation: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewFile:
    """A signed file that was just stored; `path` is relative to the spool's `files/`."""

    kind: FileKind
    source: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    path: str


def enqueue_for_status(
    connection: Connection, changes: Sequence[StatusChange], *, now: datetime, policy: Policy
) -> None:
    """Owe what follows from documents having come to a status; what is owed already stays as it is.

    A workflow step waits, in its lane, until the files of its document are delivered.
    """
    rows: list[dict[str, Any]] = []
    steps: dict[str, dict[str, Any]] = {}
    for change in changes:
        document, name = change.document_fk, change.provider.name
        common = {"document_fk": document, "event_fk": change.event_fk, "status": change.status}
        if policy.mirror:
            rows.append(_row(Task.MIRROR, MIRROR_LANE, f"{change.event_fk}", now, common))
        if change.status is DocumentStatus.COMPLETED and change.provider.settings.fetch_files:
            rows.append(_row(Task.FETCH, provider_lane(name), f"{document}", now, common))
        steps |= {row["key"]: row for row in _advances(policy, document, now, common)}
    _replace_unsent_steps(connection, list(steps.values()))
    insert_missing(connection, OutboxRow, [*rows, *steps.values()])


def enqueue_confirmations(connection: Connection, changes: Iterable[StatusChange], *, now: datetime) -> None:
    """Owe the provider the word that an event is recorded, each time that it told of it.

    The word waits, in its lane, until the files of its document are stored.
    """
    insert_missing(
        connection,
        OutboxRow,
        [
            _row(
                Task.CONFIRM,
                provider_lane(change.provider.name),
                f"{change.event_fk}",
                now,
                {
                    "document_fk": change.document_fk,
                    "event_fk": change.event_fk,
                    "status": change.status,
                    "details": dict(change.confirmation),
                },
            )
            for change in changes
        ],
    )


def _replace_unsent_steps(connection: Connection, steps: Sequence[dict[str, Any]]) -> None:
    """A step that nobody has taken yet gives way to that of the newer status."""
    for step in steps:
        connection.execute(
            update(OutboxRow)
            .where(
                OutboxRow.key == step["key"],
                OutboxRow.state != State.DONE,
                OutboxRow.sent_at.is_(None),
                OutboxRow.lease_until.is_(None),
            )
            .values({**step, "created_at": OutboxRow.created_at})
        )


def enqueue_deliveries(
    connection: Connection,
    fetched: Leased,
    files: Iterable[NewFile],
    *,
    spool_id: str,
    now: datetime,
    policy: Policy,
) -> list[str]:
    """Note the files of a document and owe their deliveries.

    Returns the paths of files that nobody needs: they were delivered everywhere before, or another file of
    the document has the same content.
    """
    document = fetched.document_fk
    common = {"document_fk": document, "event_fk": fetched.event_fk, "status": fetched.status}
    rows: list[dict[str, Any]] = []
    spare: list[str] = []
    for file in files:
        if _was_delivered(connection, document, file.source):
            spare.append(file.path)
            continue
        spare += _withdraw_older(connection, document, file, spool_id=spool_id)
        file_fk = _note_file(connection, document, file, spool_id=spool_id, now=now)
        rows += [
            _row(
                Task.DELIVER,
                destination_lane(name),
                f"{name}:{document}:{file.sha256}",
                now,
                {**common, "file_fk": file_fk},
            )
            for name, destination in policy.destinations.items()
            if file.kind in destination.kinds
        ]
    insert_missing(connection, OutboxRow, rows)
    return [*spare, *_drop_twins(connection, document)]


def _withdraw_older(connection: Connection, document_fk: int, file: NewFile, *, spool_id: str) -> list[str]:
    """Of a source that gives other bytes each time, what nobody has had or may have had gives way to the new.

    Returns the paths of the files that lie in this spool; others are on a machine that is gone.
    """
    older_ones = (
        FileRow.document_fk == document_fk,
        FileRow.source == file.source,
        FileRow.sha256 != file.sha256,
        FileRow.path != "",
    )
    # Nobody takes them between the look and the end of it.
    theirs = OutboxRow.file_fk.in_(select(FileRow.id).where(*older_ones))
    connection.execute(select(OutboxRow.id).where(theirs).with_for_update())
    had = or_(
        OutboxRow.state == State.DONE, OutboxRow.sent_at.is_not(None), OutboxRow.lease_until.is_not(None)
    )
    older = connection.execute(
        select(FileRow.id, FileRow.path, FileRow.spool_id).where(
            *older_ones, ~exists().where(OutboxRow.file_fk == FileRow.id, had)
        )
    ).all()
    ids = [row.id for row in older]
    connection.execute(delete(OutboxRow).where(OutboxRow.file_fk.in_(ids)))
    connection.execute(delete(FileRow).where(FileRow.id.in_(ids)))
    return [row.path for row in older if row.spool_id == spool_id]


def _drop_twins(connection: Connection, document_fk: int) -> list[str]:
    """Paths of files whose very content another file of the document has: one delivery is for both."""
    twin = aliased(FileRow)
    owed = exists().where(OutboxRow.file_fk == FileRow.id)
    same = exists().where(
        twin.document_fk == document_fk,
        twin.sha256 == FileRow.sha256,
        twin.id != FileRow.id,
        exists().where(OutboxRow.file_fk == twin.id),
    )
    twins = connection.execute(
        select(FileRow.id, FileRow.path).where(
            FileRow.document_fk == document_fk, FileRow.path != "", ~owed, same
        )
    ).all()
    connection.execute(update(FileRow).where(FileRow.id.in_([row.id for row in twins])).values(path=""))
    return [row.path for row in twins]


def _was_delivered(connection: Connection, document_fk: int, source: str) -> bool:
    """Whether the file from this source went to every destination already, and was deleted then."""
    delivered = exists().where(
        FileRow.document_fk == document_fk, FileRow.source == source, FileRow.path == ""
    )
    return bool(connection.scalar(select(delivered)))


def _note_file(
    connection: Connection, document_fk: int, file: NewFile, *, spool_id: str, now: datetime
) -> int:
    """The row of a fetched file; the same content fetched again only tells where it lies now."""
    identity = {"document_fk": document_fk, "source": file.source, "sha256": file.sha256}
    insert_missing(
        connection,
        FileRow,
        [
            {
                **identity,
                "kind": file.kind,
                "name": file.name,
                "media_type": file.media_type,
                "size_bytes": file.size_bytes,
                "path": file.path,
                "spool_id": spool_id,
                "fetched_at": now,
            }
        ],
    )
    return connection.execute(
        update(FileRow).filter_by(**identity).values(path=file.path, spool_id=spool_id).returning(FileRow.id)
    ).scalar_one()


def _advances(
    policy: Policy, document_fk: int, now: datetime, common: dict[str, Any]
) -> list[dict[str, Any]]:
    """At most one step for each destination and document, whatever the status: the key holds no status."""
    return [
        _row(Task.ADVANCE, destination_lane(name), f"{name}:{document_fk}", now, common)
        for name, destination in policy.destinations.items()
        if destination.advances(common["status"])
    ]


def _row(task: Task, lane: str, key: str, now: datetime, common: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": f"{task}:{key}",
        "task": task,
        "lane": lane,
        "destination": lane.partition(":")[2] or lane,
        "file_fk": None,
        "state": State.DUE,
        "attempts": 0,
        "next_attempt_at": now,
        "leased_by": "",
        "last_error": "",
        "remote_reference": "",
        "details": {},
        "created_at": now,
        **common,
    }
