"""Our words for what callbacks say: event, event type, document status, trust."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class DocumentStatus(StrEnum):
    """What is known of a document, in the order in which a status may replace another.

    The order is total, so that any order and any repetition of events ends in the same status.
    """

    PENDING = "pending"
    PROCESSING = "processing"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    DECLINED = "declined"
    FAILED = "failed"
    COMPLETED = "completed"

    @property
    def rank(self) -> int:
        """Place in the order, from 0; a status gives way only to one of a higher rank."""
        return _RANKS[self]

    @property
    def is_final(self) -> bool:
        """Whether no further signing is expected."""
        return self.rank >= DocumentStatus.CANCELLED.rank


_RANKS = {status: rank for rank, status in enumerate(DocumentStatus)}


class EventType(StrEnum):
    """What a callback says happened, in our words. `UNKNOWN` is a value, not an error."""

    SENT = "sent"
    PROGRESS = "progress"
    PROCESSING = "processing"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    DECLINED = "declined"
    FAILED = "failed"
    COMPLETED = "completed"
    REOPENED = "reopened"
    UNKNOWN = "unknown"

    @property
    def status(self) -> DocumentStatus | None:
        """The document status that this event claims, or None when it claims none."""
        return _CLAIMS.get(self)


_CLAIMS = {
    EventType.SENT: DocumentStatus.PENDING,
    EventType.PROCESSING: DocumentStatus.PROCESSING,
    EventType.EXPIRED: DocumentStatus.EXPIRED,
    EventType.CANCELLED: DocumentStatus.CANCELLED,
    EventType.DELETED: DocumentStatus.DELETED,
    EventType.DECLINED: DocumentStatus.DECLINED,
    EventType.FAILED: DocumentStatus.FAILED,
    EventType.COMPLETED: DocumentStatus.COMPLETED,
    EventType.REOPENED: DocumentStatus.PENDING,
}


class Trust(StrEnum):
    """How far the sender of a callback was proven."""

    PROVEN = "proven"
    """A secret or a signature was right."""
    CLAIMED = "claimed"
    """Nothing proves the sender; what it says has to be read back from the provider before it counts."""
    OPEN = "open"
    """The settings say `authentication = "none"`."""
    VOUCHED = "vouched"
    """Nothing proved the sender; a person let it in with `signspool spool reverify --vouch`."""
    REFUSED = "refused"
    """Turned away; kept only to be judged again."""


class Origin(StrEnum):
    """How an entry came into the spool."""

    CALLBACK = "callback"
    RETURN = "return"
    POLL = "poll"
    HAND = "hand"
    """Written by a person or by another program: the file has no `receipt`."""


class Outcome(StrEnum):
    """What one event led to; stands in the document's history for good."""

    APPLIED = "applied"
    """The status changed."""
    UNCHANGED = "unchanged"
    """Known, and it claims no other status than the present one."""
    LATE = "late"
    """It claims a status that a stronger one has already replaced."""
    REPEATED = "repeated"
    """The same thing was said before."""
    UNKNOWN_ACTION = "unknown_action"
    """The action is in no table: kept, counted, and nothing changed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that one callback says about one document.

    `action` is the provider's own word. `key` tells whether two callbacks of one document say the same
    thing. `learned` holds provider references that the callback itself carries. `confirmation` is not empty
    when the provider wants to be told that the event is recorded; it is handed to `Provider.confirm`.
    `reference` is the one under which the document was sent, where the provider says it again.
    """

    document_id: str
    action: str
    type: EventType
    key: str
    occurred_at: datetime | None = None
    message: str = ""
    learned: dict[str, str] = field(default_factory=dict)
    confirmation: dict[str, str] = field(default_factory=dict)
    reference: str = ""
