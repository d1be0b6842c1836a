"""Rest PKI Core as its fact sheet describes it: sessions, documents, links with tickets, callbacks."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from simulator.callbacks import Body
from simulator.files import make_p7s, make_pdf
from simulator.peer import PeerError, StoredFile

COMPLETED = "DocumentSignatureCompleted"
"""The only type of callback there is."""

FileName = Literal["original-file", "marked-file", "signed-file"]
Authentication = Literal["none", "basic", "bearer", "api_key"]

_NAMESPACE = uuid.UUID("5a1f6a34-6f5e-4f0b-9d8e-0c6c1b7f2e55")
_KEY_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_AVAILABLE = datetime(2030, 1, 1, tzinfo=UTC)


class Shape(StrEnum):
    """Form of documents and files, in answers and callbacks."""

    CURRENT = "current"
    """`url` and `mimeType`, `signers` and `metadata`, `Pdf`."""
    OLD = "old"
    """`location` and `contentType` alone, `status`, `Pades`, and no metadata: as of 2020."""


class SignatureType(StrEnum):
    """What a signed file is."""

    PDF = "Pdf"
    CMS = "Cms"
    XML = "Xml"


_OLD_TYPES = {SignatureType.PDF: "Pades", SignatureType.CMS: "Cades", SignatureType.XML: "XmlDSig"}


class CodedError(PeerError):
    """A refusal with a `code`, as 422 answers have it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(422, message)
        self.code = code


@dataclass
class Document:
    """A document of a signature session. `signed` is None until everybody has signed and it was processed."""

    id: str
    key: str
    files: dict[FileName, StoredFile]
    metadata: dict[str, list[str]]
    signature_type: SignatureType
    signed_at: datetime | None = None


@dataclass(frozen=True)
class Session:
    """A signature session with its documents, all of which were there from the start."""

    id: str
    document_ids: tuple[str, ...]
    callback_argument: str | None = None


@dataclass
class RestPki:
    """All that Rest PKI Core knows, and its switches.

    Of answers: `shape`; `relative_links`; `ticket_seconds` is how long a link lives, None for ever, and
    `stale_status` what a dead one answers; `signed_size_bytes` is the length that signed PDFs are padded to;
    while `processing`, reading a document is refused with that code. Of callbacks: `authentication`, with
    `webhook_secret` (for Basic, `USER:PASSWORD`), in `scheme_header` for Basic and Bearer.
    """

    token: str = "simulated|restpki-api-key"  # noqa: S105  (a simulated one)
    base_url: str = "http://restpki.invalid"
    shape: Shape = Shape.CURRENT
    relative_links: bool = False
    ticket_seconds: float | None = None
    stale_status: int = 403
    processing: bool = False
    signed_size_bytes: int | None = None
    authentication: Authentication = "api_key"
    webhook_secret: str = "simulated:restpki-secret"  # noqa: S105
    scheme_header: Literal["Authorization", "Authentication"] = "Authorization"
    documents: dict[str, Document] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _tickets: dict[str, tuple[str, FileName, float]] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def send(
        self,
        name: str = "P100001-001.pdf",
        *,
        metadata: dict[str, list[str]] | None = None,
        signature_type: SignatureType = SignatureType.PDF,
        marked: bool = False,
    ) -> Document:
        """Put a made file into a session of its own, as an application or a user would."""
        original = StoredFile(name, "application/pdf", make_pdf(name))
        document = self.add(original, metadata=metadata, signature_type=signature_type, marked=marked)
        self.open([document])
        return document

    def open(self, documents: Sequence[Document], callback_argument: str | None = None) -> Session:
        """Make a session of documents."""
        with self._lock:
            session_id = str(uuid.uuid5(_NAMESPACE, f"session {len(self.sessions)}"))
            session = Session(session_id, tuple(document.id for document in documents), callback_argument)
            self.sessions[session_id] = session
            return session

    def add(
        self,
        original: StoredFile,
        *,
        metadata: dict[str, list[str]] | None = None,
        signature_type: SignatureType = SignatureType.PDF,
        marked: bool = False,
    ) -> Document:
        """Keep a file that is to be signed. With `marked`, validation marks were put on it."""
        with self._lock:
            number = len(self.documents)
            document_id = str(uuid.uuid5(_NAMESPACE, str(number)))
            digest = hashlib.sha256(document_id.encode()).digest()
            document = Document(
                id=document_id,
                key="".join(_KEY_LETTERS[byte % 32] for byte in digest[:16]),
                files={"original-file": original},
                metadata=metadata or {},
                signature_type=signature_type,
            )
            if marked:
                content = make_pdf(f"Marcas: {original.name}")
                document.files["marked-file"] = StoredFile(original.name, "application/pdf", content)
            self.documents[document_id] = document
            return document

    def document(self, document_id: str) -> Document:
        """The document with this id.

        Raises:
            CodedError: there is none.
        """
        document = self.documents.get(document_id)
        if document is None:
            raise CodedError("DocumentNotFound", f"Document not found: {document_id}")
        return document

    def happen(self, document_id: str, action: str) -> Body:
        """Let the one thing happen that is called back; returns the callback body.

        Raises:
            PeerError: 422, no such document; 400, no such type.
        """
        if action != COMPLETED:
            raise PeerError(400, f"the type must be {COMPLETED}")
        return self.complete(document_id)

    def complete(self, document_id: str) -> Body:
        """It is signed and processed: from now on the signed file is there. Every call has other tickets."""
        with self._lock:
            document = self.document(document_id)
            if document.signed_at is None:
                document.signed_at = datetime.now(UTC)
                document.files["signed-file"] = self._signed(document)
            return {"type": COMPLETED, "document": self.shown(document)}

    @property
    def webhook_headers(self) -> dict[str, str]:
        """The headers by which a callback proves its sender."""
        if self.authentication == "none":
            return {}
        if self.authentication == "api_key":
            return {"X-Api-Key": self.webhook_secret}
        if self.authentication == "bearer":
            return {self.scheme_header: f"Bearer {self.webhook_secret}"}
        return {self.scheme_header: f"Basic {base64.b64encode(self.webhook_secret.encode()).decode('ascii')}"}

    def read(self, document_id: str) -> Body:
        """The document with fresh links.

        Raises:
            CodedError: there is none, or it is being processed.
        """
        with self._lock:
            document = self.document(document_id)
            if self.processing:
                raise CodedError("BackgroundProcessing", "Resource is being processed in background")
            return self.shown(document)

    def read_session(self, session_id: str) -> Body:
        """A session with the status of each of its documents, and fresh links.

        Raises:
            CodedError: there is none.
        """
        with self._lock:
            session = self.sessions.get(session_id)
            if session is None:
                raise CodedError("SignatureSessionNotFound", f"Signature session not found: {session_id}")
            documents = [self.documents[document_id] for document_id in session.document_ids]
            signed = all(document.signed_at for document in documents)
            return {
                "id": session.id,
                "status": "Completed" if signed else "Pending",
                "processingErrorCode": None,
                "callbackArgument": session.callback_argument,
                "signerCertificate": None,
                "documents": [self._in_session(document) for document in documents],
            }

    def download(self, document_id: str, name: FileName, ticket: str) -> StoredFile:
        """What lies behind a link.

        Raises:
            PeerError: the ticket is not known or dead.
        """
        with self._lock:
            found = self._tickets.get(ticket)
            if found is None or found[:2] != (document_id, name) or self._is_dead(found[2]):
                raise PeerError(self.stale_status, "access ticket expired")
            return self.documents[document_id].files[name]

    def shown(self, document: Document) -> Body:
        """A document in the form of the switch, with new tickets."""
        files = {
            "originalFile": self._file(document, "original-file"),
            "markedFile": self._file(document, "marked-file"),
            "signedFile": self._file(document, "signed-file"),
        }
        names = {
            "id": document.id,
            "key": document.key,
            "formattedKey": "-".join(document.key[place : place + 4] for place in range(0, 16, 4)),
        }
        if self.shape is Shape.OLD:
            del files["markedFile"]
            return {
                **names,
                **files,
                "status": "Completed" if document.signed_at else "PendingSignature",
                "signatureType": _OLD_TYPES[document.signature_type],
            }
        signers = [] if document.signed_at is None else [_signer(document.signed_at)]
        return {
            "signers": signers,
            "metadata": document.metadata,
            **names,
            **files,
            "signatureType": document.signature_type,
            "availableUntil": _AVAILABLE.isoformat(),
        }

    def _in_session(self, document: Document) -> Body:
        shown = {
            "status": "Completed" if document.signed_at else "PendingSignature",
            "dateSigned": document.signed_at.isoformat() if document.signed_at else None,
            **self.shown(document),
        }
        return {name: value for name, value in shown.items() if name not in ("signers", "metadata")}

    @property
    def summary(self) -> dict[str, Any]:
        """The state without file contents and tickets."""
        with self._lock:
            return {
                "documents": [
                    {
                        "id": document.id,
                        "signed": document.signed_at is not None,
                        "files": {name: file.summary for name, file in document.files.items()},
                    }
                    for document in self.documents.values()
                ]
            }

    def _signed(self, document: Document) -> StoredFile:
        original = document.files["original-file"]
        content = document.files.get("marked-file", original).content
        if document.signature_type is SignatureType.CMS:
            return StoredFile(f"{original.name}.p7s", "application/pkcs7-signature", make_p7s(content))
        if document.signature_type is SignatureType.XML:
            return StoredFile(original.name, "application/xml", b"<signed/>")
        text = f"Assinado: {original.name}\n{document.id}"
        return StoredFile(original.name, "application/pdf", make_pdf(text, self.signed_size_bytes))

    def _file(self, document: Document, name: FileName) -> Body | None:
        file = document.files.get(name)
        if file is None:
            return None
        ticket = hashlib.sha256(f"ticket {len(self._tickets)}".encode()).hexdigest()[:32]
        self._tickets[ticket] = (document.id, name, self.clock())
        start = "" if self.relative_links else self.base_url
        link = f"{start}/api/documents/{document.id}/{name}?access_ticket={ticket}"
        old = {
            "name": file.name,
            "length": len(file.content),
            "contentType": file.media_type,
            "location": link,
        }
        if self.shape is Shape.OLD:
            return old
        return {"mimeType": file.media_type, "content": None, "blobToken": None, "url": link, **old}

    def _is_dead(self, made_at: float) -> bool:
        return self.ticket_seconds is not None and self.clock() - made_at >= self.ticket_seconds


def _signer(signed_at: datetime) -> Body:
    certificate = {
        "thumbprint": "78785300913FB340D6ADC12FA2A9F21CF1498703",
        "subjectCommonName": "SIGNATARIA EXEMPLO:12345678909",
        "subjectDisplayName": "SIGNATARIA EXEMPLO",
        "subjectIdentifier": "12345678909",
        "emailAddress": "signataria@example.com",
        "organization": None,
    }
    return {"certificate": certificate, "date": signed_at.isoformat()}
