"""The tables.

documents   one row for each document of a provider: its status, and what the application registered
events      what callbacks said, one row an event, until retention drops them
outbox      what is owed because of an event: fetch the signed file, deliver it, advance the workflow, tell
            the company's own table
files       signed files that were fetched, by digest
polls       what a provider is asked about from time to time: sessions, processes, queues
sendings    what was, or may have been, sent out for signature from here
calls       how many calls to a provider's API were booked in a span of time
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_KEY_LENGTH = 200


class ExactText(TypeDecorator[str]):
    """Text from strangers: NUL and lone surrogates, which no database takes, are stored as escapes."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape; the backslash too, so that it can be undone."""
        if value is None or (value.isascii() and "\\" not in value and "\0" not in value):
            return value
        return "".join(
            f"\\u{ord(char):04x}" if char in "\\\0" or "\ud800" <= char <= "\udfff" else char
            for char in value
        )

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Undo the escapes."""
        if value is None or "\\" not in value:
            return value
        first, *rest = value.split("\\u")
        return first + "".join(chr(int(piece[:4], 16)) + piece[4:] for piece in rest)


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant; SQLite keeps none of the zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store in UTC; a time without a zone is a mistake of ours."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def document_key(document_id: str) -> str:
    """What a document is found by: its id, or for a long one the beginning and a digest.

    The key alone stands in a unique index, and indexes take no texts of any length.
    """
    stored = ExactText().process_bind_param(document_id, None) or ""  # type: ignore[arg-type]
    if len(stored.encode()) <= _KEY_LENGTH:
        return stored
    digest = hashlib.sha256(document_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{stored[:40]}\\{digest}"


class Base(DeclarativeBase):
    """Names of constraints are fixed, so that migrations can name them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant, dict[str, str]: JSON, dict[str, Any]: JSON}


# SQLite counts up only a column whose type is INTEGER to the letter.
_Id = BigInteger().with_variant(Integer, "sqlite")


class Document(Base):
    """One document of one provider. `refs_version` counts changes of what was registered, so that work that
    began before a change is seen to be out of date. `erased_at` is set when its personal data was erased on
    request, `history_dropped_at` when retention dropped its history."""

    __tablename__ = "documents"
    __table_args__ = (UniqueConstraint("provider", "key"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    provider: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(Text)
    document_id: Mapped[str] = mapped_column(ExactText)
    status: Mapped[str] = mapped_column(String(16))
    status_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    registered_at: Mapped[datetime | None]
    refs: Mapped[dict[str, str]]
    dms: Mapped[dict[str, str]]
    refs_version: Mapped[int]
    learned: Mapped[dict[str, str]]
    erased_at: Mapped[datetime | None]
    history_dropped_at: Mapped[datetime | None]


class EventRow(Base):
    """One event, and where the entry that carried it lies.

    `semantic_key` is set on the first event that says a thing; repeats carry none, so the index lets a
    thing be said once with effect. `settled_at` is set once nothing is owed for the entry.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("receipt_id", "ordinal"),
        UniqueConstraint("document_fk", "semantic_key"),
        Index("ix_events_unsettled", "spool_id", "settled_at", "id"),
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    document_fk: Mapped[int] = mapped_column(_Id, ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    receipt_id: Mapped[str] = mapped_column(String(64))
    ordinal: Mapped[int]
    semantic_key: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(ExactText)
    event_type: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str] = mapped_column(String(16))
    status_before: Mapped[str] = mapped_column(String(16))
    status_after: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(ExactText)
    received_at: Mapped[datetime]
    occurred_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime]
    origin: Mapped[str] = mapped_column(String(16))
    trust: Mapped[str] = mapped_column(String(16))
    payload_sha256: Mapped[str] = mapped_column(String(64))
    spool_id: Mapped[str] = mapped_column(String(64))
    day: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(ExactText)
    settled_at: Mapped[datetime | None]


class Task(StrEnum):
    """What an outbox row owes."""

    FETCH = "fetch"
    DELIVER = "deliver"
    ADVANCE = "advance"
    MIRROR = "mirror"
    CONFIRM = "confirm"


class State(StrEnum):
    """Where an outbox row stands."""

    DUE = "due"
    """To be done at `next_attempt_at`; while somebody works on it, `lease_until` is set."""
    WAITING = "waiting"
    """Something has to be registered or set first; the reason says what to type."""
    HELD = "held"
    """May have been done already; a person decides with `signspool deliveries retry`."""
    FAILED = "failed"
    """Given up after the last attempt."""
    DONE = "done"


class OutboxRow(Base):
    """One thing that is owed. `key` is its idempotency key; the same thing is never owed twice.

    `sent_at` is set, in a transaction of its own, right before the one request that has the effect. `details`
    is what the event said for this very task.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("key"),
        Index("ix_outbox_due", "lane", "state", "next_attempt_at"),
        Index("ix_outbox_document", "document_fk", "state"),
        Index("ix_outbox_event", "event_fk", "state"),
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    key: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(String(8))
    lane: Mapped[str] = mapped_column(String(80))
    destination: Mapped[str] = mapped_column(String(64))
    document_fk: Mapped[int] = mapped_column(_Id, ForeignKey("documents.id", ondelete="CASCADE"))
    event_fk: Mapped[int] = mapped_column(_Id, ForeignKey("events.id", ondelete="CASCADE"))
    file_fk: Mapped[int | None] = mapped_column(_Id, ForeignKey("files.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(8))
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime]
    lease_until: Mapped[datetime | None]
    leased_by: Mapped[str] = mapped_column(String(64))
    sent_at: Mapped[datetime | None]
    last_error: Mapped[str] = mapped_column(ExactText)
    remote_reference: Mapped[str] = mapped_column(ExactText)
    details: Mapped[dict[str, str]] = mapped_column(JSON, server_default="{}")
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class FileRow(Base):
    """One signed file of a document. `path` is relative to the spool's `files/`; empty once it is deleted."""

    __tablename__ = "files"
    __table_args__ = (UniqueConstraint("document_fk", "source", "sha256"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    document_fk: Mapped[int] = mapped_column(_Id, ForeignKey("documents.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(ExactText)
    name: Mapped[str] = mapped_column(ExactText)
    media_type: Mapped[str] = mapped_column(ExactText)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(ExactText)
    spool_id: Mapped[str] = mapped_column(String(64))
    fetched_at: Mapped[datetime]


class PollRow(Base):
    """One subject that a provider is asked about. `next_at` is null once it is asked no more.

    `wishes` counts how often somebody wanted it asked at once, so that a wish which comes while it is being
    asked is not forgotten. `failures` counts those in a row.
    """

    __tablename__ = "polls"
    __table_args__ = (
        UniqueConstraint("provider", "key"),
        Index("ix_polls_due", "provider", "next_at"),
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    provider: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(ExactText)
    memory: Mapped[dict[str, str]]
    next_at: Mapped[datetime | None]
    asked_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    wishes: Mapped[int]
    failures: Mapped[int]
    note: Mapped[str] = mapped_column(ExactText)
    lease_until: Mapped[datetime | None]
    leased_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]


class SendingState(StrEnum):
    """How far a sending has come."""

    INTENDED = "intended"
    """Nothing that has an effect was sent."""
    UNKNOWN = "unknown"
    """It was sent, and the provider may have made something of it."""
    SENT = "sent"
    REFUSED = "refused"
    """The provider wanted none of it; the same reference may be used again."""


class SendingRow(Base):
    """One order. `reference` is the application's own; `fingerprint` is of all that was ordered."""

    __tablename__ = "sendings"
    __table_args__ = (UniqueConstraint("provider", "reference_key"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    provider: Mapped[str] = mapped_column(String(64))
    reference_key: Mapped[str] = mapped_column(Text)
    reference: Mapped[str] = mapped_column(ExactText)
    fingerprint: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(ExactText)
    state: Mapped[str] = mapped_column(String(16))
    envelope_id: Mapped[str] = mapped_column(ExactText)
    documents: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    last_error: Mapped[str] = mapped_column(ExactText)
    attempts: Mapped[int]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]


class CallRow(Base):
    """Calls that were booked with a provider's API: those of one account in one span of time."""

    __tablename__ = "calls"
    __table_args__ = (UniqueConstraint("account", "span", "begins_at"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    account: Mapped[str] = mapped_column(String(80))
    span: Mapped[str] = mapped_column(String(8))
    begins_at: Mapped[datetime]
    calls: Mapped[int]
