"""Event to document status: the transition table, as one pure function."""

from __future__ import annotations

from shared.events import DocumentStatus, Event, EventType, Outcome


def decide(current: DocumentStatus, event: Event, *, said_before: bool) -> tuple[Outcome, DocumentStatus]:
    """What an event leads to, and the status after it.

    A status gives way only to one of a higher rank, so late, swapped and repeated callbacks change nothing.
    The one exception is a provider's explicit word that the document was reopened, which `completed` alone
    withstands.
    """
    if event.type is EventType.UNKNOWN:
        return Outcome.UNKNOWN_ACTION, current
    if said_before:
        return Outcome.REPEATED, current
    claimed = event.type.status
    if claimed is None or claimed is current:
        return Outcome.UNCHANGED, current
    if event.type is EventType.REOPENED:
        late = current is DocumentStatus.COMPLETED
    else:
        late = claimed.rank < current.rank
    return (Outcome.LATE, current) if late else (Outcome.APPLIED, claimed)
