"""What a status message of Posten signering means in our words, and what is remembered of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from shared.events import EventType
from shared.providers._posten_xml import Signature, StatusMessage, Who, mask

_NO_REASON = frozenset({"SIGNED", "WAITING", "NOT_APPLICABLE"})
"""Statuses of signers that are not what ended a job."""
_REASONS = {
    "REJECTED": EventType.DECLINED,
    "CANCELLED": EventType.CANCELLED,
    "EXPIRED": EventType.EXPIRED,
    "RESERVED": EventType.FAILED,
    "CONTACT_INFORMATION_MISSING": EventType.FAILED,
    "BLOCKED": EventType.FAILED,
    "SIGNERS_NAME_NOT_AVAILABLE": EventType.FAILED,
    "FAILED": EventType.FAILED,
}
_STRONGEST_FIRST = (EventType.DECLINED, EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED)
_WORD_LENGTH = 80
SIGNER, XADES = "signer.", "xades_url."
"""How the names begin under which a signer's status and file are remembered."""


def labelled(message: StatusMessage) -> list[tuple[str, Signature]]:
    """The signatures with a name for each, in the order of the message.

    A name shows no whole personal number. Two signers whose names would be the same are numbered, by their
    whole identity and not by their place, which is no promise of the provider's.
    """
    seen: Counter[str] = Counter()
    names: dict[Who, str] = {}
    for signature in sorted(message.signatures, key=lambda signature: signature.who):
        if signature.who in names:
            # The same person twice can be told apart by nothing.
            continue
        label = signature.who.label or "signer"
        seen[label] += 1
        names[signature.who] = label if seen[label] == 1 else f"{label}#{seen[label]}"
    return [(names[signature.who], signature) for signature in message.signatures]


def why_failed(message: StatusMessage) -> EventType:
    """What a job that failed came to: what its signers say, since the job itself does not."""
    words = {signature.status for signature in message.signatures} - _NO_REASON
    reasons = {_REASONS.get(word, EventType.FAILED) for word in words} or {EventType.FAILED}
    return next(kind for kind in _STRONGEST_FIRST if kind in reasons)


def sentence(message: StatusMessage) -> str:
    """How the signers stand, for people."""
    return ", ".join(f"{label}: {_word(signature)}" for label, signature in labelled(message))


def semantic_key(message: StatusMessage, status: str) -> str:
    """Tells whether two messages of one job say the same: its status, each signer's, and since when."""
    signers = sorted(f"{label}={_standing(signature)}" for label, signature in labelled(message))
    return "\n".join((status, *signers))


def newest(message: StatusMessage) -> datetime | None:
    """When the last thing happened that a message tells of."""
    instants = [signature.since for signature in message.signatures if signature.since is not None]
    return max(instants, default=None)


def remembered(message: StatusMessage, status: str) -> dict[str, str]:
    """What is kept of a message: texts by name; a name without a text is not there."""
    texts = {
        "job_status": status,
        "reference": mask(message.reference),
        "cancellation_url": message.cancellation_url,
        "delete_documents_url": message.delete_documents_url,
        "pades_url": message.pades_url,
    }
    for label, signature in labelled(message):
        texts[f"{SIGNER}{label}"] = _standing(signature)
        texts[f"{XADES}{label}"] = signature.xades_url
    return {name: text for name, text in texts.items() if text}


def merged(known: Mapping[str, str], told: Mapping[str, str], *, finals: frozenset[str]) -> dict[str, str]:
    """What is known after a message, which may be older than what was known: everything moves forward only.

    Each signer by itself: `WAITING` gives way to all, everything else to what came later. Of an unfinished
    job nothing else is taken once the job has ended.
    """
    is_late = known.get("job_status", "") in finals and told.get("job_status", "") not in finals
    after = dict(known)
    for name, text in told.items():
        if name.startswith(SIGNER):
            if _moves(known.get(name, ""), text):
                after[name] = text
        elif not is_late:
            after[name] = text
    if after.get("job_status", "") in finals:
        # What has ended cannot be cancelled.
        after.pop("cancellation_url", None)
    return after


def xades_urls(known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The signers' own files that are known of: name of the signer, address."""
    for name, url in sorted(known.items()):
        if name.startswith(XADES):
            yield name.removeprefix(XADES), url


def _standing(signature: Signature) -> str:
    since = "" if signature.since is None else f" since {signature.since.isoformat()}"
    return f"{_word(signature)}{since}"


def _word(signature: Signature) -> str:
    """A signer's status; one that is in no table is kept as it is, made fit for a line."""
    text = "".join(char if char.isprintable() else " " for char in mask(signature.status))
    return text[:_WORD_LENGTH]


def _moves(known: str, told: str) -> bool:
    known_word, _, known_since = known.partition(" since ")
    told_word, _, told_since = told.partition(" since ")
    if not known or known_word == "WAITING":
        return True
    if told_word == "WAITING" or not told_since:
        return False
    return not known_since or datetime.fromisoformat(told_since) > datetime.fromisoformat(known_since)
