"""What Rest PKI Core keeps of documents: their files, keys, links with tickets, and callbacks about them."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from simulator import restpki_webhooks
from simulator.callbacks import Body
from simulator.files import make_p7s, make_pdf
from simulator.peer import PeerError, StoredFile
from simulator.restpki_shapes import Document, FileName, Shape, SignatureType, document_json
from simulator.restpki_webhooks import WebhookCall, WebhookOrder

COMPLETED = "DocumentSignatureCompleted"
"""The only type of callback there is."""
NAMESPACE = uuid.UUID("5a1f6a34-6f5e-4f0b-9d8e-0c6c1b7f2e55")
"""Of the ids that are made here, the same on every run."""

Authentication = Literal["none", "basic", "bearer", "api_key"]

_KEY_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


class CodedError(PeerError):
    """A refusal with a `code`, as 422 answers have it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(422, message)
        self.code = code


@dataclass
class Store:
    """Documents, with the switches of answers and callbacks."""

    token: str = "simulated|restpki-api-key"  # noqa: S105  (a simulated one)
    base_url: str = "http://restpki.invalid"
    shape: Shape = Shape.CURRENT
    relative_links: bool = False
    redirected_links: bool = False
    content_in_answers: bool = False
    ticket_seconds: float | None = None
    stale_status: int = 403
    processing: bool = False
    signed_size_bytes: int | None = None
    keeps_given_ids: bool = False
    part_bytes: int = 5 * 1024 * 1024
    authentication: Authentication = "api_key"
    webhook_secret: str = "simulated:restpki-secret"  # noqa: S105
    scheme_header: Literal["Authorization", "Authentication"] = "Authorization"
    webhook_url: str = ""
    webhook_tries: int = 1
    webhook_pause_seconds: float = 1.0
    webhook_timeout_seconds: float = 10.0
    documents: dict[str, Document] = field(default_factory=dict)
    webhooks: list[WebhookCall] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """Document keys that were given out."""
    clock: Callable[[], float] = time.monotonic
    _tickets: dict[str, tuple[str, FileName, float]] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def add(
        self,
        original: StoredFile,
        *,
        metadata: dict[str, list[str]] | None = None,
        signature_type: SignatureType = SignatureType.PDF,
        marked: bool = False,
        document_id: str | None = None,
        key: str | None = None,
    ) -> Document:
        """Keep a file that is to be signed. With `marked`, validation marks were put on it.

        Raises:
            CodedError: the key is none that was given out, or is used already.
        """
        with self._lock:
            number = len(self.documents)
            made_id = str(uuid.uuid5(NAMESPACE, str(number)))
            document = Document(
                id=document_id if document_id and self.keeps_given_ids else made_id,
                key=self._use_key(key) if key else _key_of(made_id),
                files={"original-file": original},
                metadata=metadata or {},
                signature_type=signature_type,
            )
            if marked:
                content = make_pdf(f"Marcas: {original.name}")
                document.files["marked-file"] = StoredFile(original.name, "application/pdf", content)
            self.documents[document.id] = document
            return document

    def allocate_key(self) -> str:
        """A document key for a document to come."""
        with self._lock:
            key = _key_of(f"key {len(self.keys)}")
            self.keys.append(key)
            return key

    def _use_key(self, key: str) -> str:
        plain = key.replace("-", "").upper()
        if plain not in self.keys or any(document.key == plain for document in self.documents.values()):
            raise CodedError("DocumentKeyNotFound", f"Document key not found: {key}")
        return plain

    def document(self, document_id: str) -> Document:
        """The document with this id.

        Raises:
            CodedError: there is none.
        """
        document = self.documents.get(document_id)
        if document is None:
            raise CodedError("DocumentNotFound", f"Document not found: {document_id}")
        return document

    def complete(self, document_id: str) -> Body:
        """It is signed and processed: from now on the signed file is there. Every call has other tickets."""
        with self._lock:
            document = self.document(document_id)
            if not document.is_complete:
                document.signed_at = document.signed_at or datetime.now(UTC)
                document.files["signed-file"] = self._signed(document)
                self._announce(document)
            return self.callback(document)

    def callback(self, document: Document) -> Body:
        """What is called back about a completed document."""
        return {"type": COMPLETED, "document": self.shown(document)}

    def _announce(self, document: Document) -> None:
        if self.webhook_url:
            call = WebhookCall(document.id)
            self.webhooks.append(call)
            order = WebhookOrder(
                self.webhook_url,
                self.webhook_headers,
                self.callback(document),
                tries=self.webhook_tries,
                pause_seconds=self.webhook_pause_seconds,
                timeout_seconds=self.webhook_timeout_seconds,
            )
            restpki_webhooks.begin(order, call)

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
        """A document in the form of the switches, with new tickets."""
        return document_json(document, self.shape, self._link, with_content=self.content_in_answers)

    def _signed(self, document: Document) -> StoredFile:
        original = document.files["original-file"]
        content = document.files.get("marked-file", original).content
        if document.signature_type is SignatureType.CMS:
            return StoredFile(f"{original.name}.p7s", "application/pkcs7-signature", make_p7s(content))
        if document.signature_type is SignatureType.XML:
            return StoredFile(original.name, "application/xml", b"<signed/>")
        text = f"Assinado: {original.name}\n{document.id}"
        return StoredFile(original.name, "application/pdf", make_pdf(text, self.signed_size_bytes))

    def _link(self, document: Document, name: FileName) -> str:
        ticket = hashlib.sha256(f"ticket {len(self._tickets)}".encode()).hexdigest()[:32]
        self._tickets[ticket] = (document.id, name, self.clock())
        start = "" if self.relative_links else self.base_url
        return f"{start}/api/documents/{document.id}/{name}?access_ticket={ticket}"

    def _is_dead(self, made_at: float) -> bool:
        return self.ticket_seconds is not None and self.clock() - made_at >= self.ticket_seconds


def _key_of(seed: str) -> str:
    digest = hashlib.sha256(seed.encode()).digest()
    return "".join(_KEY_LETTERS[byte % 32] for byte in digest[:16])
