"""The contract of a provider, and the plain values that cross it.

A provider is one file of this package. It does no I/O: it is handed requests and answers as values, and
says with values what should be sent. `processor.outside` does the sending.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from shared import jsontext
from shared.body import DecodedBody, decode
from shared.errors import (
    NotReadyError,
    PermanentError,
    TransientError,
    UnusableBodyError,
    WaitingError,
)
from shared.events import Event, EventType, Trust


@dataclass(slots=True)
class Callback:
    """One HTTP request that a provider sent us, raw; never changed.

    Header names are lower case. Of a repeated header or query name the first value counts.
    """

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    remote_address: str
    received_at: datetime
    _decoded: DecodedBody | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def content_type(self) -> str:
        """The Content-Type header, or an empty text."""
        return self.headers.get("content-type", "")

    @property
    def decoded(self) -> DecodedBody:
        """The body as text and, when it is JSON, as a value; made once."""
        if self._decoded is None:
            self._decoded = decode(self.body, self.content_type)
        return self._decoded

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            UnusableBodyError: it is none.
        """
        if self.decoded.problem:
            raise UnusableBodyError(self.decoded.problem)
        if not isinstance(self.decoded.value, dict):
            kind = jsontext.kind_of(self.decoded.value)
            raise UnusableBodyError(f"the body must be a JSON object, this is {kind}")
        return self.decoded.value


class Head(NamedTuple):
    """What every callback must have: which envelope it is about, and the provider's word for the event."""

    document_id: str
    action: str


@dataclass(frozen=True, slots=True)
class Proof:
    """How far the sender was proven, and by which of several secrets."""

    trust: Trust
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What is answered to a callback that was stored, or to a handshake.

    A body of None stands for our own words, `{"status": "accepted", "id": ...}`.
    """

    status: int = 200
    body: bytes | None = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Into(StrEnum):
    """Where the body of an answer goes."""

    MEMORY = "memory"
    """Into `Answer.body`, up to 1 MiB."""
    FILE = "file"
    """Streamed to disk as one file."""
    JSON_FILES = "json_files"
    """A JSON object or array of objects with `name`, `mimeType` and `bytes`; each is decoded to disk as it
    streams by, and the entries of a zip stand behind it."""
    JSON_TREE = "json_tree"
    """JSON of any shape. The base64 texts under `Request.file_fields` are decoded to disk as they stream by;
    the rest comes in `Answer.body`, up to 1 MiB, as JSON: in place of each such text stands the index of its
    file in `Answer.files`, and null where there was no file in it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the provider's API. The address must lie on one of `Provider.origins`.

    `file_fields` is for `Into.JSON_TREE`: names of fields, trimmed and case-folded.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    into: Into = Into.MEMORY
    file_fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that lies on our disk now.

    `name` is the provider's label, never a path. `head` is its first 16 bytes. `inside` is the `token` of
    the zip that it came out of. `token` is for the downloader alone.
    """

    token: int
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    head: bytes
    inside: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider's API answered; header names are lower case.

    `files` is filled when the answer was a success and the request did not ask for memory.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    files: tuple[FetchedFile, ...] = ()


class FileKind(StrEnum):
    """What a file of a document is."""

    SIGNED = "signed"
    REPORT = "report"
    MANIFEST = "manifest"
    ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class SignedFile:
    """One file worth keeping.

    `source` names, within the document, where it came from, and stays the same when it is fetched again.
    """

    file: FetchedFile
    kind: FileKind
    source: str


@dataclass(frozen=True, slots=True)
class DocumentView:
    """What a provider needs to know of a document to fetch its files.

    `references` were registered by the application; `learned` came with callbacks.
    """

    document_id: str
    references: Mapping[str, str]
    learned: Mapping[str, str] = field(default_factory=dict)


SignedFiles = Generator[Request, Answer, list[SignedFile]]
"""Yields requests, is handed their answers, returns the files."""


class ProviderSettings(BaseModel):
    """Settings that every provider has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int | None = Field(
        default=None, description="number in the spool file, when not the prescribed one", ge=0
    )
    fetch_files: bool = Field(
        default=True, description="fetch the signed file of a completed document, and deliver it"
    )
    actions: dict[str, EventType] = Field(
        default_factory=dict,
        description="further words for actions, or other meanings: WORD = event type",
    )


S = TypeVar("S", bound=ProviderSettings)


class Provider(ABC, Generic[S]):
    """All we know of one provider. Subclasses live in `shared/providers/<name>.py`."""

    title: ClassVar[str]
    """The company's name for people."""
    number: ClassVar[int]
    """Its number in the spool file."""
    id_field: ClassVar[str] = "envelopeId"
    """The prescribed name of the id in the spool file."""
    event_types: ClassVar[Mapping[str, EventType]]
    """What each action means; compared in the form that `fold` gives."""
    references: ClassVar[Mapping[str, str]] = {}
    """Reference names that `documents register` takes, each with a sentence for people."""
    kept_headers: ClassVar[frozenset[str]] = frozenset({"user-agent"})
    """Request headers that go into the receipt; never one that can carry a secret."""
    kept_query: ClassVar[frozenset[str]] = frozenset()
    """Query parameters that go into the receipt."""
    Settings: ClassVar[type[ProviderSettings]]

    def __init__(self, name: str, settings: S) -> None:
        self.name = name
        self.settings = settings
        self._types = {
            self.fold(word): kind
            for words in (self.event_types, settings.actions)
            for word, kind in words.items()
        }

    @property
    def file_number(self) -> int:
        """The number that stands for this provider in the spool file."""
        return self.number if self.settings.number is None else self.settings.number

    @abstractmethod
    def why_closed(self) -> str | None:
        """Why no callback may be accepted with these settings, or None when the door may open."""

    @abstractmethod
    def authenticate(self, callback: Callback) -> Proof:
        """How far the sender is proven.

        Raises:
            NotProvenError: not at all.
        """

    @abstractmethod
    def callback_id(self, callback: Callback) -> Head:
        """The id and the action, exact.

        Raises:
            UnusableBodyError: one is missing or of the wrong kind; the message names it.
        """

    def acknowledge(self, receipt_id: str) -> Acknowledgement:
        """What to answer once the callback is stored."""
        return Acknowledgement()

    def handshake(self, callback: Callback) -> Acknowledgement:
        """What to answer to GET and HEAD on the callback address."""
        return Acknowledgement(body=b'{"status":"ready"}')

    def event_type(self, action: str) -> EventType:
        """What an action means, `UNKNOWN` for one in no table."""
        return self._types.get(self.fold(action), EventType.UNKNOWN)

    @staticmethod
    def fold(action: str) -> str:
        """The form in which actions are compared: trimmed and in upper case."""
        return action.strip().upper()

    @property
    def can_reopen(self) -> bool:
        """Whether a document of this provider may be taken back into signing."""
        return EventType.REOPENED in self._types.values()

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        """What the callback says, in our words; `head` wins over the body, so that a mended file counts."""
        return [self.event(head, key=self.fold(head.action))]

    def event(self, head: Head, *, key: str, message: str = "", **learned: str) -> Event:
        """An event about `head`, its type looked up in the table."""
        kind = self.event_type(head.action)
        return Event(head.document_id, head.action, kind, key, message=message, learned=learned)

    @property
    @abstractmethod
    def origins(self) -> frozenset[str]:
        """Origins (`https://host:port`) that requests may go to; empty when the API is not set up."""

    @abstractmethod
    def signed_file(self, document: DocumentView) -> SignedFiles:
        """Fetch the signed file, or files.

        Raises:
            WaitingError: a reference or a setting is missing; the message says what to type.
            NotReadyError: the provider has not finished it.
            PermanentError: it cannot be had.
            TransientError: it may be had later.
        """


def expect_success(answer: Answer, what: str) -> None:
    """Return when the answer is a success, else raise what its status means.

    Raises:
        WaitingError: 401 or 403, our own key is not accepted: nothing helps but a person.
        NotReadyError: 404, 409 or 425: the file is not there, perhaps not yet.
        TransientError: 408, 429 and 5xx.
        PermanentError: any other status.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    said = f"{what} was answered with {status}"
    if status in (401, 403):
        raise WaitingError(f"{said}: correct the provider's token in the settings, then retry")
    if status in (404, 409, 425):
        raise NotReadyError(f"{said}: not ready, or the registered reference is wrong")
    if status in (408, 429) or status >= 500:
        raise TransientError(said, retry_after_seconds=retry_after_seconds(answer.headers))
    raise PermanentError(f"{said}: {excerpt(answer.body)}")


def answered_object(answer: Answer, what: str) -> dict[str, Any]:
    """The JSON object that an answer in memory holds; numbers come as they were written.

    Raises:
        TransientError: it holds something else, as an error page of a proxy is.
    """
    try:
        return jsontext.parse_object(answer.body.decode("utf-8-sig"))
    except ValueError:
        raise TransientError(f"{what} came as something else than a JSON object: asked again") from None


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; None for nonsense, or none.

    A date is counted from the answer's own Date, so that the clocks need not agree.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 9:
        return float(value)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        # A TypeError comes of a date without a zone beside one that has one.
        return None
    return max(0.0, wait.total_seconds())


def excerpt(body: bytes, length: int = 200) -> str:
    """The beginning of a body for a message: one line, printable."""
    text = body[: length * 4].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text)[:length].strip() or "empty body"


def how_to_register(provider: str, document_id: str, reference: str) -> str:
    """The command that registers a reference of a document, ready to be typed for an ordinary id."""
    named = shlex.quote(document_id) if document_id.isprintable() and len(document_id) <= 60 else "ID"
    return f"signspool documents register {provider} {named} --ref {reference}"


def id_text(value: object, name: str) -> str:
    """An id as text: a JSON text as it is, a whole number as it was written.

    Raises:
        UnusableBodyError: empty, or of another kind.
    """
    if isinstance(value, str) and (
        isinstance(value, jsontext.WholeNumber) or not isinstance(value, jsontext.Number)
    ):
        if value.strip():
            return str(value)
        raise UnusableBodyError(f"{name} is empty")
    kind = jsontext.kind_of(value)
    raise UnusableBodyError(f"{name} must be a text or a whole number, this is {kind}")


def find_field(body: Mapping[str, Any], *names: str) -> tuple[str, object]:
    """The first field that has one of the names, whatever their letter case, as (name, value).

    Raises:
        UnusableBodyError: there is none.
    """
    for name in names:
        if name in body:
            return name, body[name]
    by_folded = {key.casefold(): key for key in body}
    for name in names:
        if (key := by_folded.get(name.casefold())) is not None:
            return key, body[key]
    raise UnusableBodyError(f"{' or '.join(names)} is missing")


def origin_of(url: str) -> str:
    """The origin of an address: scheme, host and port in one spelling, `https://host:443`.

    Raises:
        ValueError: not an http or https address with a host, or it carries a user name.
    """
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    if not parts.hostname or port is None or "@" in parts.netloc:
        raise ValueError("an http or https address with a host is needed, without a user name")
    return f"{parts.scheme}://{parts.hostname.lower()}:{port}"
