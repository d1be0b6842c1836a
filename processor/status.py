"""Event to document status: the transition table, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from shared.events import DocumentStatus, Event, EventType, Outcome


class Claim(NamedTuple):
    """What one event claims, and when that was so."""

    at: datetime
    type: EventType


def decide(
    current: DocumentStatus, event: Event, *, said_before: bool, history: Sequence[Claim] = ()
) -> tuple[Outcome, DocumentStatus]:
    """What an event leads to, and the status after it.

    A status gives way only to one of a higher rank, so late, swapped and repeated callbacks change nothing.
    The one exception is a provider's explicit word that the document was reopened, which `completed` alone
    withstands.

    `history` is needed where a document may be reopened more than once, or the word of it may be late: every
    claim about the document in the order of arrival, this event's last.
    """
    if event.type is EventType.UNKNOWN:
        return Outcome.UNKNOWN_ACTION, current
    if said_before:
        return Outcome.REPEATED, current
    claimed = event.type.status
    if claimed is None or claimed is current:
        return Outcome.UNCHANGED, current
    if history:
        after = replay(history)
    elif event.type is EventType.REOPENED:
        after = current if current is DocumentStatus.COMPLETED else claimed
    else:
        after = claimed if claimed.rank > current.rank else current
    return (Outcome.LATE if after is current else Outcome.APPLIED), after


def replay(history: Sequence[Claim]) -> DocumentStatus:
    """The status that claims lead to, in whatever order they arrived: `completed` if one says so, else the
    highest of those since the last reopening. Of claims of the same instant, what arrived later is later."""
    ordered = sorted(history, key=lambda claim: claim.at)
    reopenings = [place for place, claim in enumerate(ordered) if claim.type is EventType.REOPENED]
    since = ordered[reopenings[-1] :] if reopenings else ordered
    claimed = {claim.type.status for claim in since}
    if any(claim.type is EventType.COMPLETED for claim in ordered):
        return DocumentStatus.COMPLETED
    return max(filter(None, claimed), key=lambda status: status.rank, default=DocumentStatus.PENDING)
