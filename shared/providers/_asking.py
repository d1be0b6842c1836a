"""The plain values of browsers that come back, of asking, and of sending out for signature."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from shared.events import DocumentStatus
from shared.providers._values import Answer, Head, Request

T = TypeVar("T")

WISH = "wish"
"""Stands in the memory of a subject while a person wants it asked about, whatever is known of it."""

Steps = Generator[Request, Answer, T]
"""Yields requests, is handed their answers, returns what it was made for."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A browser that came back from the provider's pages. It proves nothing.

    `kept` becomes the body in the spool file, as a JSON object of texts; `added` are the parameters that the
    page of the company's application is given.
    """

    head: Head
    kept: Mapping[str, str]
    added: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """Something that the provider is to be asked about: a session, a process, a queue.

    `subject` names it within the provider. `memory` and `expires_at` are those of a new one, and are merged
    into what is known of an old one. `after_seconds` is when a new one is due, and when an old one becomes
    due that would be later.
    """

    subject: str
    memory: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PollView:
    """What a provider needs to know to ask about one subject.

    `memory` is what it wished to be remembered the last time, `asked_at` when that was; a `WISH` in it is
    a person's, and goes when it is left out of the next memory. `status` is that of the document whose id is
    the subject, if there is one. `begun_at` is since when the subject is known.
    """

    subject: str
    memory: Mapping[str, str]
    now: datetime
    asked_at: datetime | None = None
    status: DocumentStatus | None = None
    begun_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that the provider said when it was asked: becomes an entry of the spool, byte for byte."""

    head: Head
    payload: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Polled:
    """What came of asking about a subject once.

    `again_seconds` is when to ask again, counted from now; None is never. `found` is spooled before the time
    is moved. A `memory` or `expires_at` of None leaves what there is. `note` is for people: how it stands.
    """

    again_seconds: float | None
    found: tuple[Found, ...] = ()
    memory: Mapping[str, str] | None = None
    expires_at: datetime | None = None
    note: str = ""


class SendOptions(BaseModel):
    """What may be said of a sending besides its files; each provider adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Signer(BaseModel):
    """A person who is to sign; each provider says what it needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file to be signed. `content` is there for a provider that `sends_whole`, else it is empty."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Order:
    """One sending: files that go out together.

    `reference` is the application's own, unique within the provider. `options` and `signers` are of the
    provider's own classes. `metadata` has one or more values for each name.
    """

    reference: str
    title: str
    files: tuple[OutgoingFile, ...]
    signers: tuple[Any, ...]
    options: Any
    return_url: str | None = None
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentDocument:
    """One document at the provider. `file` is the place of its file in the order, from 0, if it has one."""

    document_id: str
    file: int | None = None
    references: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """What the provider made of an order.

    `envelope_id` is its id for the whole (session, process, job). `redirect_url` opens the signing page and
    is a credential: it is shown once and stored nowhere. `asks` are begun at once.
    """

    envelope_id: str
    documents: tuple[SentDocument, ...] = ()
    redirect_url: str = field(default="", repr=False)
    asks: tuple[Ask, ...] = ()
