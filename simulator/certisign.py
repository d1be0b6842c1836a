"""What Certisign knows: uploads, documents with their steps, and what happens to them."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from simulator.callbacks import CERTISIGN_ACTIONS, Body, certisign_body
from simulator.files import make_p7s, make_pdf, make_zip
from simulator.peer import NotReady, PeerError, StoredFile

_NAMESPACE = uuid.UUID("7d0f8f0e-5b3f-4c39-9a0e-3f8b2a6c1d11")


class PackageShape(StrEnum):
    """Form of the package answer; without one, the request's `zipped` chooses between the last two."""

    OBJECT = "object"
    """One object with the signed file."""
    ARRAY = "array"
    """A list of objects, one per file."""
    ZIPPED = "zipped"
    """One object with a zip of the files."""


class BytesAs(StrEnum):
    """Form of `bytes` in the package answer."""

    BASE64 = "base64"
    INTEGERS = "integers"


Trigger = Literal["FLOW", "STEP", "ACTION"]
"""Which callbacks the customer asked for: at the end; at each step too; at each action too."""


@dataclass
class Attendee:
    """A person who has something to do in a step."""

    step: int
    name: str
    email: str
    identifier: str
    electronic: bool = False
    acted_at: datetime | None = None


@dataclass
class Document:
    """A document on its way. `chave` is its other name, which the package call takes."""

    id: int
    chave: str
    name: str
    original: StoredFile
    attendees: list[Attendee]
    in_processing: bool = False
    cades: bool = False
    finished_steps: set[int] = field(default_factory=set)
    signed: bool = False
    refused: bool = False

    @property
    def steps(self) -> list[int]:
        """Step numbers in order."""
        return sorted({attendee.step for attendee in self.attendees})

    @property
    def waiting(self) -> list[Attendee]:
        """Those who have not acted, in the order of their steps."""
        return sorted((a for a in self.attendees if a.acted_at is None), key=lambda a: a.step)


@dataclass
class Certisign:
    """All that Certisign knows, and its switches.

    `package_shape`, `bytes_as` and `not_ready` form the package answer. New documents are `in_processing`, or
    signed as CAdES (`cades`), if the switch says so. `base_url` is what `apiDownload` begins with.
    """

    token: str = "simulated-certisign-token"  # noqa: S105  (a simulated one)
    base_url: str = "http://certisign.invalid"
    package_shape: PackageShape | None = None
    bytes_as: BytesAs = BytesAs.BASE64
    not_ready: NotReady = NotReady.CONFLICT
    in_processing: bool = False
    cades: bool = False
    signed_size_bytes: int | None = None
    uploads: dict[str, StoredFile] = field(default_factory=dict)
    documents: dict[int, Document] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def upload(self, name: str, content: bytes) -> str:
        """Keep a file in the upload area; returns its id."""
        with self._lock:
            upload_id = str(uuid.uuid5(_NAMESPACE, str(len(self.uploads))))
            self.uploads[upload_id] = StoredFile(name, "application/pdf", content)
            return upload_id

    def create(self, name: str, upload_id: str, attendees: list[Attendee]) -> Document:
        """Make a document of an upload.

        Raises:
            PeerError: 400, no such upload, or nobody to sign.
        """
        with self._lock:
            original = self.uploads.get(upload_id)
            if original is None:
                raise PeerError(400, "document.upload.id is not known")
            if not attendees:
                raise PeerError(400, "signers or electronicSigners are missing")
            number = 48213 + len(self.documents)
            chave = hashlib.sha256(f"chave {number}".encode()).hexdigest()[:16].upper()
            document = Document(number, chave, name, original, attendees, self.in_processing, self.cades)
            self.documents[number] = document
            return document

    def send(self, name: str = "Contrato 2026-0042", *, steps: int = 1, signers: int = 1) -> Document:
        """Upload a made file and send it to as many signers in each of as many steps."""
        attendees = [
            Attendee(step, f"Signatária {step}.{place}", "signataria@example.com", "12345678909")
            for step in range(1, steps + 1)
            for place in range(1, signers + 1)
        ]
        return self.create(name, self.upload("contrato.pdf", make_pdf(name)), attendees)

    def document(self, document_id: int) -> Document:
        """The document with this id.

        Raises:
            PeerError: 404, there is none.
        """
        document = self.documents.get(document_id)
        if document is None:
            raise PeerError(404, f"document {document_id} is not known")
        return document

    def by_chave(self, chave: str) -> Document:
        """The document with this key.

        Raises:
            PeerError: 404, there is none.
        """
        with self._lock:
            found = next((d for d in self.documents.values() if d.chave == chave), None)
        if found is None:
            raise PeerError(404, "no document has this key")
        return found

    # What happens: each returns the callback body.

    def sign(self, document_id: int, *, on_server: bool = False) -> Body:
        """The next person signs: SIGNATURE-DIGITAL, -ELETRONIC or, by company certificate, -SERVER.

        Raises:
            PeerError: 409, everybody has signed.
        """
        with self._lock:
            document = self.document(document_id)
            if not document.waiting:
                raise PeerError(409, f"everybody has signed document {document_id}")
            person = document.waiting[0]
            person.acted_at = datetime.now(UTC)
        how = "ELETRONIC" if person.electronic else "DIGITAL"
        return self._said(document, f"SIGNATURE-{'SERVER' if on_server else how}", person)

    def refuse(self, document_id: int, reason: str = "Cláusula 3 em desacordo com a proposta.") -> Body:
        """The next person refuses to sign: SIGNATURE-NOK."""
        return self._judge(document_id, "SIGNATURE", ok=False, reason=reason)

    def authorize(self, document_id: int, *, ok: bool = True, reason: str = "") -> Body:
        """An authorizer says yes or no: AUTHORIZATION-OK or -NOK."""
        return self._judge(document_id, "AUTHORIZATION", ok=ok, reason=reason)

    def approve(self, document_id: int, *, ok: bool = True, reason: str = "") -> Body:
        """An approver says yes or no: APPROVAL-OK or -NOK."""
        return self._judge(document_id, "APPROVAL", ok=ok, reason=reason)

    def finish_step(self, document_id: int) -> Body:
        """All who were still to act in the first unfinished step do: STEP.

        Raises:
            PeerError: 409, every step is finished.
        """
        with self._lock:
            document = self.document(document_id)
            step = next((s for s in document.steps if s not in document.finished_steps), None)
            if step is None:
                raise PeerError(409, f"every step of document {document_id} is finished")
            self._finish(document, step)
        return self._said(document, "STEP")

    def finish(self, document_id: int) -> Body:
        """Everybody signs, and the package is there unless it is still in processing: FLOW."""
        with self._lock:
            document = self.document(document_id)
            for step in document.steps:
                self._finish(document, step)
            document.signed = True
        return self._said(document, "FLOW")

    def finish_processing(self, document_id: int) -> None:
        """Certisign has made the package."""
        self.document(document_id).in_processing = False

    def play(self, document_id: int, trigger: Trigger = "FLOW") -> list[Body]:
        """Everybody signs in turn; returns the callbacks that this trigger sends, in order."""
        return list(self._play(document_id, trigger))

    def happen(self, document_id: int, action: str) -> Body:
        """Let one of the documented actions happen; returns the callback body.

        Raises:
            PeerError: 404, no such document; 400, no such action; 409, it cannot happen any more.
        """
        kind, _, how = action.partition("-")
        ok = how == "OK"
        acts: dict[str, Callable[[], Body]] = {
            "FLOW": lambda: self.finish(document_id),
            "STEP": lambda: self.finish_step(document_id),
            "SIGNATURE": lambda: self._sign_as(document_id, how),
            "AUTHORIZATION": lambda: self.authorize(document_id, ok=ok),
            "APPROVAL": lambda: self.approve(document_id, ok=ok),
        }
        if action not in CERTISIGN_ACTIONS:
            raise PeerError(400, f"the action must be one of {', '.join(CERTISIGN_ACTIONS)}")
        return acts[kind]()

    def package(self, document: Document, *, original: bool, manifest: bool) -> list[StoredFile]:
        """The files of a package: with CAdES one zip of content, signature and manifest.

        Raises:
            PeerError: 404 or 409, it is not ready.
        """
        if not document.signed or document.in_processing:
            if self.not_ready is NotReady.EMPTY:
                return []
            status = 409 if self.not_ready is NotReady.CONFLICT else 404
            raise PeerError(status, "the document is still being processed")
        content = document.original.content
        manifest_pdf = make_pdf(f"Manifesto: {document.name}\nChave {document.chave}")
        if document.cades:
            entries = [
                (f"{document.name}-Manifesto.pdf", manifest_pdf),
                (f"{document.name}.pdf", content),
                (f"{document.name}.pdf.p7s", make_p7s(content)),
            ]
            return [StoredFile(f"{document.name}.zip", "application/zip", make_zip(entries))]
        text = f"Assinado: {document.name}\nDocumento {document.id}"
        signed = make_pdf(text, self.signed_size_bytes)
        files = [(f"{document.name}-Manifesto.pdf", manifest_pdf)] if manifest else []
        files += [(f"{document.name}.pdf", signed)]
        files += [(f"{document.name}-Original.pdf", content)] if original else []
        return [StoredFile(name, "application/pdf", data) for name, data in files]

    @property
    def summary(self) -> dict[str, Any]:
        """The state without file contents."""
        with self._lock:
            return {
                "documents": [
                    {
                        "id": document.id,
                        "chave": document.chave,
                        "name": document.name,
                        "signed": document.signed,
                        "refused": document.refused,
                        "inProcessing": document.in_processing,
                        "waiting": len(document.waiting),
                    }
                    for document in self.documents.values()
                ]
            }

    def _play(self, document_id: int, trigger: Trigger) -> Iterator[Body]:
        document = self.document(document_id)
        for step in document.steps:
            while any(attendee.step == step for attendee in document.waiting):
                signed = self.sign(document_id)
                if trigger == "ACTION":
                    yield signed
            if step not in document.finished_steps:
                finished = self.finish_step(document_id)
                if trigger != "FLOW":
                    yield finished
        yield self.finish(document_id)

    def _sign_as(self, document_id: int, how: str) -> Body:
        if how == "NOK":
            return self.refuse(document_id)
        with self._lock:
            waiting = self.document(document_id).waiting
            if waiting and how != "SERVER":
                waiting[0].electronic = how == "ELETRONIC"
            return self.sign(document_id, on_server=how == "SERVER")

    def _judge(self, document_id: int, kind: str, *, ok: bool, reason: str) -> Body:
        with self._lock:
            document = self.document(document_id)
            document.refused = document.refused or not ok
            person = (document.waiting or document.attendees)[0]
        return self._said(document, f"{kind}-{'OK' if ok else 'NOK'}", person, reason)

    def _finish(self, document: Document, step: int) -> None:
        for attendee in document.waiting:
            if attendee.step == step:
                attendee.acted_at = datetime.now(UTC)
        document.finished_steps.add(step)

    def _said(
        self, document: Document, action: str, person: Attendee | None = None, message: str = ""
    ) -> Body:
        return certisign_body(
            document.id,
            action,
            name=person.name if person else document.name,
            identifier=(person or document.attendees[-1]).identifier,
            message=message,
            api_download=f"{self.base_url}/api/v2/document/package?key={document.chave}",
        )
