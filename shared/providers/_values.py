"""The plain values that cross the border between a provider and the rest: nothing here acts."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from shared import jsontext
from shared.body import DecodedBody, decode
from shared.errors import UnusableBodyError
from shared.events import Origin, Trust


@dataclass(slots=True)
class Callback:
    """One HTTP request that a provider sent us, raw; never changed.

    With another `origin` it is what a browser brought back, or what the provider said when it was asked.
    Header names are lower case. Of a repeated header or query name the first value counts.
    """

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    remote_address: str
    received_at: datetime
    origin: Origin = Origin.CALLBACK
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
        decoded = self.decoded
        if decoded.problem:
            raise UnusableBodyError(decoded.problem)
        if not isinstance(decoded.value, dict):
            kind = jsontext.kind_of(decoded.value)
            raise UnusableBodyError(f"the body must be a JSON object, this is {kind}")
        return decoded.value


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
class PeerTls:
    """What a provider's server asks of TLS beyond the usual; empty texts ask for nothing.

    `certificate` and `key` are PEM texts, and so are the `authorities` that vouch for the server in place of
    the public ones. `organisation` is the Norwegian organisation number that the server's certificate must
    name; the host name is not compared then, since such a certificate has none.
    """

    certificate: str = ""
    key: str = field(default="", repr=False)
    key_password: str = field(default="", repr=False)
    authorities: str = ""
    organisation: str = ""


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of the file at a place in the order, from 0, as a piece of a request's body.

    Without `size_bytes` it is all that follows `start_bytes`; a file that ends before is sent to its end.
    """

    file: int
    encoding: Literal["raw", "base64"] = "raw"
    start_bytes: int = 0
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the provider's API. The address must lie on one of `Provider.origins`.

    A `content` of pieces is streamed, with the length of the whole announced. `file_fields` is for
    `Into.JSON_TREE`: names of fields, trimmed and case-folded. `effect` marks the one request of a
    conversation that must not be repeated when its outcome is unknown. With `redirects`, an answer that
    points elsewhere is handed over like any other. `silence_seconds` is how long the other side may keep
    silent, where that is longer than the settings allow. With `content_md5`, a header Content-MD5 is made.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | tuple[bytes | FileContent, ...] | None = None
    into: Into = Into.MEMORY
    file_fields: frozenset[str] = frozenset()
    effect: bool = False
    redirects: bool = False
    silence_seconds: float | None = None
    content_md5: bool = False


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
