"""ArqSign's words: fields of any letter case, evidence of what happened, dates, and what makes a fact one."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from shared.events import EventType

_YEARS = range(2000, 2200)
"""A date that was never set comes as the year 1."""

OWN_DATES = {
    EventType.CANCELLED: "datacancelamento",
    EventType.DECLINED: "datacancelamento",
    EventType.EXPIRED: "dataexpiracao",
    EventType.REOPENED: "datareenvio",
}
"""Where data of a process say when the thing itself happened."""


def fold(words: str) -> str:
    """Words without accents, letter case and superfluous white space."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", words) if not unicodedata.combining(char))
    return " ".join(plain.casefold().split())


class Fields:
    """The fields of an object, found whatever the letter case of their names and the space around them."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._values: dict[str, Any] = {}
        for name, found in value.items():
            self._values.setdefault(name.strip().casefold(), found)

    def get(self, name: str) -> Any:
        """The value of a field, its name in lower case; None where there is none."""
        return self._values.get(name)

    def first(self, *names: str) -> Any:
        """The first value of these fields that is not null."""
        return next((value for name in names if (value := self.get(name)) is not None), None)

    def records(self) -> list[Fields]:
        """The signature records: the API has one object, a public receiver expects a list."""
        found = self.get("registroassinaturas")
        return objects(found if isinstance(found, list) else [found])


def objects(values: object) -> list[Fields]:
    """The objects of a list; nothing of anything else."""
    return [
        Fields(value) for value in (values if isinstance(values, list) else []) if isinstance(value, dict)
    ]


def evidence(body: Fields) -> Iterator[str]:
    """What a callback says of what happened, as actions, the strongest evidence first."""
    if event_id := text(body.get("idevento")):
        yield f"idEvento:{event_id}"
    if event := text(body.get("evento")):
        yield event
    if status_id := text(body.first("idstatusprocesso", "idstatus")):
        yield f"idStatus:{status_id}"
    if status := text(body.first("statusprocesso", "status")):
        yield f"status:{status}"


def refusal(signers: object) -> str | None:
    """Why somebody refused to sign, empty when no reason is given; None when nobody has refused."""
    for signer in objects(signers):
        if str(signer.get("assinaturarecusada")).strip().casefold() == "true":
            return text(signer.get("motivorecusa"))
    return None


def semantic_key(kind: EventType, at: datetime | None, body: bytes) -> str:
    """What makes two callbacks of a process say the same thing.

    A process is concluded once; of the rest that claims a status, when it happened tells the second time from
    the first one sent again. What claims none comes once for each signer, and a resending without a date is
    another one whenever its words are.
    """
    if kind is EventType.COMPLETED:
        return kind
    if kind.status is None or (kind is EventType.REOPENED and at is None):
        return f"{kind}:{hashlib.sha256(body).hexdigest()[:32]}"
    return f"{kind}:{at.isoformat() if at else ''}"


def instant(value: object) -> datetime | None:
    """A date of ArqSign, in UTC when it names no zone: `dd/mm/yyyy hh:mm:ss` or ISO 8601; None for others."""
    written = text(value)
    try:
        if re.match(r"\d\d/", written):
            found = datetime.strptime(written, "%d/%m/%Y %H:%M:%S")  # noqa: DTZ007  (its zone is set below)
        else:
            found = datetime.fromisoformat(written)
        if found.year not in _YEARS:
            return None
    except ValueError:
        return None
    return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)


def text(value: object) -> str:
    """A text, or a number as it was written, without the white space around it; empty for all else."""
    return value.strip().encode("utf-8", "replace").decode() if isinstance(value, str) else ""
